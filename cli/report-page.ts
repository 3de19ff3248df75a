import type { ValidationResult } from '../contracts/expectations.ts';
import type { ColumnProfile, Profile } from '../contracts/profile.ts';

export interface ReportContent {
  readonly name: string;
  readonly id: string;
  readonly profile: Profile;
  readonly sensitive: Readonly<Record<string, 'hash' | 'mask'>>;
  readonly validation: ValidationResult | null;
}

/** Columns beyond these are listed without a plot, so that a page of 1,000 columns stays a few megabytes at most. */
const PLOTTED_COLUMNS = 100;
const TOP_SHOWN = 10;
const WIDTH = 320;
const HEIGHT = 120;

const STYLE = `:root{color-scheme:light dark;--ink:#1c2733;--soft:#5b6875;--line:#dde3e9;--paper:#f6f8fa;--card:#fff;--mark:#2f6f9f;--bad:#b3261e;--good:#1c7a4a}
@media(prefers-color-scheme:dark){:root{--ink:#e6ebf0;--soft:#9aa7b4;--line:#2c3640;--paper:#11161b;--card:#1a2128;--mark:#6fb1de;--bad:#ff8a80;--good:#7ad6a4}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:72rem;margin:0 auto;padding:1.5rem 1rem}h1{font-size:1.6rem;margin:0}h2{font-size:1.2rem;margin:2rem 0 .75rem}h3{font-size:1rem;margin:0}
h1,h2,h3,td,th,p,li{overflow-wrap:anywhere}.soft{color:var(--soft);font-size:.875rem;margin:.25rem 0}.bad{color:var(--bad)}.good{color:var(--good)}
.cards{display:grid;gap:1rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,20rem),1fr))}.card{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:1rem;min-width:0}
table{border-collapse:collapse;width:100%;font-size:.875rem}th,td{text-align:left;padding:.35rem .4rem;border-bottom:1px solid var(--line);vertical-align:top}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
svg{display:block;width:100%;height:auto;margin:.75rem 0 .25rem}rect{fill:var(--mark)}`;

/** Text as HTML shows it, never as markup: names and values may hold anything. */
const escaped = (text: string): string => text.replace(/[&<>"']/g, (mark) => `&#${String(mark.charCodeAt(0))};`);
const count = (value: number): string => value.toLocaleString('en-US');
const figure = (value: number | null): string => (value === null ? '–' : value.toLocaleString('en-US', { maximumSignificantDigits: 5 }));
const share = (part: number, whole: number): string =>
  whole === 0 ? '–' : `${((part / whole) * 100).toLocaleString('en-US', { maximumFractionDigits: 2 })} %`;

function bars(counts: readonly number[], label: string): string {
  const most = counts.reduce((a, b) => Math.max(a, b), 0);
  if (most === 0) return '';
  const step = WIDTH / counts.length;
  const drawn = counts.map((n, index) => {
    // What is there at all is seen, however little it is.
    const height = n === 0 ? 0 : Math.max(1, (n / most) * HEIGHT);
    return `<rect x="${(index * step + 0.5).toFixed(1)}" y="${(HEIGHT - height).toFixed(1)}" width="${Math.max(1, step - 1).toFixed(1)}" height="${height.toFixed(1)}"/>`;
  });
  return `<svg viewBox="0 0 ${String(WIDTH)} ${String(HEIGHT)}" role="img" aria-label="${escaped(label)}">${drawn.join('')}</svg>`;
}

function topValues(top: readonly { readonly value: string; readonly count: number }[], present: number): string {
  const rows = top
    .slice(0, TOP_SHOWN)
    .map(({ value, count: n }) => `<tr><td>${escaped(value)}</td><td class="n">${count(n)}</td><td class="n">${share(n, present)}</td></tr>`);
  return `<table><thead><tr><th>value</th><th class="n">rows</th><th class="n">share</th></tr></thead><tbody>${rows.join('')}</tbody></table>`;
}

function columnCard(column: ColumnProfile, { profile, sensitive }: ReportContent): string {
  const { name, values } = column;
  const present = profile.rows - column.nulls;
  const head = `<h3>${escaped(name)}</h3><p class="soft">${column.type}</p>`;
  // Hashes are as unlike as the values were: neither says anything of them, so neither is shown.
  const rule = Object.hasOwn(sensitive, name) ? sensitive[name] : undefined;
  if (rule !== undefined) return `<section class="card">${head}<p>Personal: ${rule === 'hash' ? 'hashed' : 'masked'}.</p></section>`;
  if (values.kind === 'string') {
    const lengths = `<p class="soft">Lengths ${figure(values.lengthMin)} to ${figure(values.lengthMax)}, mean ${figure(values.lengthMean)}</p>`;
    return `<section class="card">${head}${values.top.length === 0 ? '<p>Nearly every value is another.</p>' : topValues(values.top, present)}${lengths}</section>`;
  }
  const [from, to] = values.kind === 'number' ? [figure(values.min), figure(values.max)] : [values.min ?? '–', values.max ?? '–'];
  const plot = bars(values.histogram.counts, `Histogram of ${name}, from ${from} to ${to}`);
  const median = values.kind === 'number' ? values.quantiles.find(({ q }) => q === 0.5)?.value : undefined;
  const figures =
    values.kind === 'number'
      ? `<p class="soft">Mean ${figure(values.mean)}, deviation ${figure(values.standardDeviation)}, median ${figure(median ?? null)}</p>`
      : '';
  return `<section class="card">${head}${plot}<p class="soft">${from} to ${to}</p>${figures}</section>`;
}

function overview({ profile, sensitive }: ReportContent): string {
  const rows = profile.columns.map(
    ({ name, type, nulls, distinct }) =>
      `<tr><td>${escaped(name)}${Object.hasOwn(sensitive, name) ? ' <span class="soft">personal</span>' : ''}</td><td>${type}</td><td class="n">${share(nulls, profile.rows)}</td><td class="n">${count(distinct)}</td></tr>`,
  );
  return `<h2>Overview</h2><table><thead><tr><th>column</th><th>type</th><th class="n">missing</th><th class="n">distinct</th></tr></thead><tbody>${rows.join('')}</tbody></table><p class="soft">Numbers of distinct values may be off by about 2 %.</p>`;
}

function expectationsPart(validation: ValidationResult | null, sensitive: ReportContent['sensitive']): string {
  if (validation === null || validation.results.length === 0) return '';
  const items = validation.results.map(({ success, severity, message, column, sample }) => {
    const state = success ? '<span class="good">holds</span>' : `<span class="bad">${severity === 'warn' ? 'warning' : 'fails'}</span>`;
    const hidden = column !== null && Object.hasOwn(sensitive, column);
    const rows = sample.map(({ row, value }) => `row ${count(row)}${hidden ? '' : `: ${escaped(value)}`}`).join('; ');
    return `<tr><td>${state}</td><td>${escaped(message)}${rows === '' ? '' : `<p class="soft">${rows}</p>`}</td></tr>`;
  });
  return `<h2>Expectations</h2><table><tbody>${items.join('')}</tbody></table>`;
}

/** A page that shows a profile: whole in itself, without scripts and without requests. */
export function reportPage(content: ReportContent): string {
  const { name, id, profile, validation, sensitive } = content;
  const plotted = profile.columns.slice(0, PLOTTED_COLUMNS);
  const others = profile.columns.length - plotted.length;
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"><title>${escaped(name)}</title><style>${STYLE}</style></head>
<body><main><h1>${escaped(name)}</h1><p class="soft">${count(profile.rows)} rows, ${count(profile.columns.length)} columns · ${escaped(id)}</p>
${expectationsPart(validation, sensitive)}${overview(content)}<h2>Columns</h2><div class="cards">${plotted.map((column) => columnCard(column, content)).join('')}</div>${others > 0 ? `<p class="soft">${count(others)} more columns are in the overview only.</p>` : ''}
</main></body></html>
`;
}
