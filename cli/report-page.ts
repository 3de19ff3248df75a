import type { ValidationResult } from '../contracts/expectations.ts';
import type { ColumnProfile, Profile } from '../contracts/profile.ts';
import { numberPlot, PLOT_COLOURS, timePlot, valuesPlot } from './report-plots.ts';

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

/** Plots are drawn in the light colours; the page's style gives each its value of the theme. */
const PLOT_STYLE = Object.entries(PLOT_COLOURS)
  .map(([name, colour]) => `svg [fill="${colour}"]{fill:var(--${name})}svg [stroke="${colour}"]{stroke:var(--${name})}`)
  .join('');
const STYLE = `:root{color-scheme:light dark;--ink:#1c2733;--soft:#5b6875;--line:#dde3e9;--paper:#f6f8fa;--card:#fff;--mark:#2f6f9f;--bad:#b3261e;--good:#1c7a4a}
@media(prefers-color-scheme:dark){:root{--ink:#e6ebf0;--soft:#9aa7b4;--line:#2c3640;--paper:#11161b;--card:#1a2128;--mark:#6fb1de;--bad:#ff8a80;--good:#7ad6a4}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:72rem;margin:0 auto;padding:1.5rem 1rem 3rem}h1{font-size:1.6rem;line-height:1.2;margin:0}h2{font-size:1.15rem;margin:2.25rem 0 .75rem}h3{font-size:1rem;margin:0}
h1,h2,h3,td,th,p{overflow-wrap:anywhere}.soft{color:var(--soft);font-size:.8125rem;margin:.25rem 0}.bad{color:var(--bad)}.good{color:var(--good)}
.cards{display:grid;gap:1rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,20rem),1fr));align-items:start}.card{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:1rem;min-width:0}
.head{display:flex;justify-content:space-between;gap:1rem;align-items:baseline}.head .soft{margin:0;white-space:nowrap}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(8rem,1fr));gap:1rem;margin:1.25rem 0 0}dl div{border-left:3px solid var(--mark);padding-left:.75rem}dt{color:var(--soft);font-size:.8125rem}dd{margin:0;font-size:1.35rem;line-height:1.3;font-variant-numeric:tabular-nums}
table{border-collapse:collapse;width:100%;font-size:.875rem}th{color:var(--soft);font-weight:500}th,td{text-align:left;padding:.4rem .5rem .4rem 0;border-bottom:1px solid var(--line);vertical-align:top}td.n,th.n{text-align:right;padding-right:0;padding-left:.75rem;font-variant-numeric:tabular-nums;white-space:nowrap;overflow-wrap:normal}
.state{white-space:nowrap;overflow-wrap:normal;padding-right:1rem}svg{display:block;width:100%;max-width:26rem;height:auto;margin:.75rem 0 .25rem}${PLOT_STYLE}`;

/** Text as HTML shows it, never as markup: names and values may hold anything. */
const escaped = (text: string): string => text.replace(/[&<>"']/g, (mark) => `&#${String(mark.charCodeAt(0))};`);
const count = (value: number): string => value.toLocaleString('en-US');
const figure = (value: number | null): string => (value === null ? '–' : value.toLocaleString('en-US', { maximumSignificantDigits: 5 }));
const QUANTILES_SHOWN = [0.05, 0.95] as const;
/** A UTC ISO instant without what says nothing. */
const timeText = (iso: string | null): string => (iso === null ? '–' : iso.replace('T00:00:00.000Z', '').replace(/^(.{10})T(.{5}).*Z$/, '$1 $2 UTC'));
const share = (part: number, whole: number): string =>
  whole === 0 ? '–' : `${((part / whole) * 100).toLocaleString('en-US', { maximumFractionDigits: 2 })} %`;

async function topValues(name: string, top: readonly { readonly value: string; readonly count: number }[], present: number): Promise<string> {
  const shown = top.slice(0, TOP_SHOWN).map(({ value, count: n }) => ({ value, count: n, text: `${count(n)} · ${share(n, present)}` }));
  const label = `Most frequent values of ${name}: ${shown.map(({ value, text }) => `${value} ${text}`).join(', ')}`;
  return valuesPlot(shown, label);
}

async function columnCard(column: ColumnProfile, { profile, sensitive }: ReportContent): Promise<string> {
  const { name, values } = column;
  const present = profile.rows - column.nulls;
  const head = `<div class="head"><h3>${escaped(name)}</h3><p class="soft">${column.type}</p></div>`;
  // Hashes are as unlike as the values were: neither says anything of them, so neither is shown.
  const rule = Object.hasOwn(sensitive, name) ? sensitive[name] : undefined;
  if (rule !== undefined) return `<section class="card">${head}<p>Personal: ${rule === 'hash' ? 'hashed' : 'masked'}.</p></section>`;
  if (values.kind === 'string') {
    const lengths = `<p class="soft">Lengths ${figure(values.lengthMin)} to ${figure(values.lengthMax)}, mean ${figure(values.lengthMean)}</p>`;
    return `<section class="card">${head}${values.top.length === 0 ? '<p>Nearly every value is another.</p>' : await topValues(name, values.top, present)}${lengths}</section>`;
  }
  const [from, to] = values.kind === 'number' ? [figure(values.min), figure(values.max)] : [timeText(values.min), timeText(values.max)];
  const label = `Histogram of ${name}, from ${from} to ${to}`;
  if (values.histogram.counts.length === 0) return `<section class="card">${head}<p>No value.</p></section>`;
  if (values.kind === 'timestamp') {
    const plot = await timePlot(values.histogram.edges, values.histogram.counts, label);
    return `<section class="card">${head}${plot}<p class="soft">${from} to ${to}</p></section>`;
  }
  const median = values.quantiles.find(({ q }) => q === 0.5)?.value;
  const plot = await numberPlot({ ...values.histogram, marks: median === undefined ? [] : [{ value: median, text: 'median' }] }, label);
  const quantiles = QUANTILES_SHOWN.flatMap((q) => {
    const found = values.quantiles.find((entry) => entry.q === q);
    return found === undefined ? [] : [`${String(q * 100)} %: ${figure(found.value)}`];
  });
  return `<section class="card">${head}${plot}<p class="soft">${from} to ${to} · mean ${figure(values.mean)} · deviation ${figure(values.standardDeviation)} · median ${figure(median ?? null)}</p>${quantiles.length === 0 ? '' : `<p class="soft">Quantiles: ${quantiles.join(' · ')}</p>`}</section>`;
}

function overview({ profile, sensitive }: ReportContent): string {
  const rows = profile.columns.map(
    ({ name, type, nulls, distinct }) =>
      `<tr><td>${escaped(name)}${Object.hasOwn(sensitive, name) ? ' <span class="soft">personal</span>' : ''}</td><td>${type}</td><td class="n">${share(nulls, profile.rows)}</td><td class="n">${count(distinct)}</td></tr>`,
  );
  return `<h2>Overview</h2><table><thead><tr><th>column</th><th>type</th><th class="n">missing</th><th class="n">distinct</th></tr></thead><tbody>${rows.join('')}</tbody></table><p class="soft">Distinct is exact for numbers and texts with few different values; above 65,536, and for times, it is an estimate that may be off by 10 % and more.</p>`;
}

function expectationsPart(validation: ValidationResult | null, sensitive: ReportContent['sensitive']): string {
  if (validation === null || validation.results.length === 0) return '';
  const items = validation.results.map(({ success, severity, message, column, sample }) => {
    const state = success ? '<span class="good">holds</span>' : `<span class="bad">${severity === 'warn' ? 'warning' : 'fails'}</span>`;
    const hidden = column !== null && Object.hasOwn(sensitive, column);
    const rows = sample.map(({ row, value }) => `row ${count(row)}${hidden ? '' : `: ${escaped(value)}`}`).join('; ');
    return `<tr><td class="state">${state}</td><td>${escaped(message)}${rows === '' ? '' : `<p class="soft">${rows}</p>`}</td></tr>`;
  });
  return `<h2>Expectations</h2><table><tbody>${items.join('')}</tbody></table>`;
}

/** A page that shows a profile: whole in itself, without scripts and without requests. */
export async function reportPage(content: ReportContent): Promise<string> {
  const { name, id, profile, validation, sensitive } = content;
  const plotted = profile.columns.slice(0, PLOTTED_COLUMNS);
  const others = profile.columns.length - plotted.length;
  const cards: string[] = [];
  for (const column of plotted) cards.push(await columnCard(column, content));
  const missing = profile.columns.reduce((sum, { nulls }) => sum + nulls, 0);
  const checked = validation?.results ?? [];
  const summary = [
    ['Rows', count(profile.rows)],
    ['Columns', count(profile.columns.length)],
    ['Missing cells', share(missing, profile.rows * profile.columns.length)],
    ...(checked.length === 0 ? [] : [['Expectations that hold', `${count(checked.filter(({ success }) => success).length)} of ${count(checked.length)}`]]),
  ];
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"><title>${escaped(name)}</title><style>${STYLE}</style></head>
<body><main><h1>${escaped(name)}</h1><p class="soft">${escaped(id)}</p>
<dl>${summary.map(([term = '', said = '']) => `<div><dt>${term}</dt><dd>${said}</dd></div>`).join('')}</dl>
${expectationsPart(validation, sensitive)}${overview(content)}<h2>Columns</h2><div class="cards">${cards.join('')}</div>${others > 0 ? `<p class="soft">${count(others)} more columns are in the overview only.</p>` : ''}
</main></body></html>
`;
}
