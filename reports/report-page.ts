import type { ExpectationResult, ValidationResult } from '../contracts/expectations.ts';
import { type PersonalFinding, personalFindingText } from '../contracts/personal-data.ts';
import type { Profile, TargetCorrelation, TargetCorrelations } from '../contracts/profile.ts';
import { columnCard, distinctText } from './report-columns.ts';
import { barsPlot } from './report-plots.ts';
import { factsList, pageFrame } from './report-frame.ts';
import { count, escaped, share, timeText } from './report-text.ts';

export interface ReportContent {
  readonly name: string;
  readonly id: string;
  /** UTC ISO; null where it is not known. */
  readonly createdAt?: string | null;
  readonly profile: Profile;
  readonly sensitive: Readonly<Record<string, 'hash' | 'mask'>>;
  readonly validation: ValidationResult | null;
  /** Undeclared columns that look personal: none of their values is shown. */
  readonly personal: readonly PersonalFinding[];
}

/** Columns beyond these are listed without a plot, so that a page of 1,000 columns stays a few megabytes at most. */
const PLOTTED_COLUMNS = 100;
/** Columns beyond these are not listed on top of the page. */
const LINKED_COLUMNS = 60;
const CORRELATIONS_DRAWN = 20;

/** Why values of a column may not be seen; undefined where they may. Hashes are as unlike as the values were, so they are not shown either. */
function hiddenBecause(name: string, { sensitive, personal }: ReportContent): string | undefined {
  const rule = Object.hasOwn(sensitive, name) ? sensitive[name] : undefined;
  if (rule !== undefined) return `Personal: ${rule === 'hash' ? 'hashed' : 'masked'}.`;
  const found = personal.find(({ column }) => column === name);
  return found === undefined ? undefined : `Looks personal, and no one declared it: ${personalFindingText(found)}. Its values are not shown.`;
}

const columnId = (place: number): string => `c${String(place + 1)}`;

function overview(content: ReportContent): string {
  const { profile } = content;
  const rows = profile.columns.map((column, place) => {
    const name = place < PLOTTED_COLUMNS ? `<a href="#${columnId(place)}">${escaped(column.name)}</a>` : escaped(column.name);
    const personal = hiddenBecause(column.name, content) === undefined ? '' : ' <span class="tag">personal</span>';
    return `<tr><td>${name}${personal}</td><td>${column.type}</td><td class="n">${share(column.nulls, profile.rows)}</td><td class="n">${distinctText(column)}</td></tr>`;
  });
  return `<h2 id="overview">Overview</h2><table><thead><tr><th>column</th><th>type</th><th class="n">missing</th><th class="n">distinct</th></tr></thead><tbody>${rows.join('')}</tbody></table>${distinctNote(profile)}`;
}

/** How exact the numbers of different values are. */
function distinctNote({ columns }: Profile): string {
  const errors = columns.flatMap(({ distinctError }) => distinctError ?? []);
  if (errors.length > 0)
    return `<p class="soft">≈: estimated from a sample of hashes, with a standard error of ${share(Math.max(...errors), 1)}. All other numbers of distinct values are exact.</p>`;
  const isOld = columns.every(({ values }) => !('display' in values) && !('lengths' in values));
  const estimated = columns.some(({ distinct, values }) => distinct > 65_536 || (values.kind === 'timestamp' && distinct > 0));
  return isOld && estimated
    ? '<p class="soft">Numbers of distinct values above 65,536, and those of times, are estimates that may be off by 10 % and more.</p>'
    : '';
}

const stateOf = ({ success, severity }: ExpectationResult): { readonly order: number; readonly text: string; readonly style: string } =>
  success
    ? { order: 2, text: 'holds', style: 'good' }
    : severity === 'fail'
      ? { order: 0, text: 'fails', style: 'bad' }
      : { order: 1, text: 'warning', style: 'warn' };

/** All expectations, those that fail first. */
function expectationsPart(content: ReportContent): string {
  const { validation } = content;
  if (validation === null || validation.results.length === 0) return '';
  const results = validation.results.map((result) => ({ result, state: stateOf(result) })).sort((a, b) => a.state.order - b.state.order);
  const rows = results.map(({ result: { column, message, sample, failing, checked }, state }) => {
    const isHidden = column !== null && hiddenBecause(column, content) !== undefined;
    const samples = sample.map(({ row, value }) => `<span>row ${count(row)}${isHidden ? '' : `: <code>${escaped(value)}</code>`}</span>`).join('');
    const part =
      state.order < 2 && failing !== null && checked !== null && failing > 0 ? `<p class="soft">${share(failing, checked)} of the values fail.</p>` : '';
    return `<tr><td class="state ${state.style}">${state.text}</td><td>${escaped(message)}${part}${samples === '' ? '' : `<p class="soft samples">${samples}</p>`}</td></tr>`;
  });
  const { quarantine } = validation;
  const aside =
    quarantine === undefined
      ? ''
      : `<p>${count(quarantine.rows)} rows that fail were put aside, into dataset <code>${escaped(quarantine.dataset.slice(0, 12))}</code>: what is said here is of the others.</p>`;
  return `<h2 id="expectations">Expectations</h2>${aside}<table><tbody>${rows.join('')}</tbody></table>`;
}

function personalPart({ personal }: ReportContent): string {
  if (personal.length === 0) return '';
  const items = personal.map((finding) => `<li>${escaped(personalFindingText(finding))} (${share(finding.share, 1)} of the values looked at)</li>`);
  return `<h2 id="personal" class="warn">Undeclared personal data</h2><ul>${items.join('')}</ul><p class="soft">Declare such columns with <code>pii</code> at ingest, so that they are hashed, masked or dropped before anything is written.</p>`;
}

const MEASURES: Readonly<Record<TargetCorrelation['measure'], { readonly sign: string; readonly text: string }>> = {
  pearson: { sign: 'r', text: 'Pearson’s correlation, −1 to 1, of two numbers (times as milliseconds, booleans as 0 and 1)' },
  correlationRatio: { sign: 'η', text: 'correlation ratio, 0 to 1, of a number and a category' },
  cramersV: { sign: 'V', text: 'Cramér’s V, 0 to 1, of two categories, corrected for bias' },
};
const GAPS: Readonly<Record<TargetCorrelations['skipped'][number]['reason'], string>> = {
  personal: 'personal',
  constant: 'one value only',
  manyValues: 'too many different values',
};
const strength = (value: number): string =>
  value
    .toFixed(3)
    .replace(/^-(0\.000)$/, '$1')
    .replace('-', '−');

async function correlationsPart({ profile: { correlations, rows } }: ReportContent): Promise<string> {
  if (correlations === undefined) return '';
  const { target, skipped } = correlations;
  const columns = correlations.columns.toSorted((a, b) => Math.abs(b.value) - Math.abs(a.value));
  const title = `<h2 id="correlations">Correlation with ${escaped(target)}</h2>`;
  const gaps = skipped.map(({ column, reason }) => `${escaped(column)} (${GAPS[reason]})`).join(', ');
  const left = gaps === '' ? '' : `<p class="soft">Without a figure: ${gaps}.</p>`;
  if (columns.length === 0) return `${title}${left}`;
  const bars = columns
    .slice(0, CORRELATIONS_DRAWN)
    .map(({ column, measure, value }) => ({ name: column, value, text: `${MEASURES[measure].sign} ${strength(value)}` }));
  const label = `Correlation with ${target}: ${bars.map(({ name, text }) => `${name} ${text}`).join(', ')}`;
  const plot = await barsPlot(bars, label, { range: [bars.some(({ value }) => value < 0) ? -1 : 0, 1] });
  const more = columns.slice(CORRELATIONS_DRAWN).map(({ column, measure, value }) => `${escaped(column)} ${MEASURES[measure].sign} ${strength(value)}`);
  const partial = columns.filter((column) => column.rows < rows).map((column) => `${escaped(column.column)} ${count(column.rows)}`);
  const used = [...new Set(columns.map(({ measure }) => measure))].map((measure) => `${MEASURES[measure].sign}: ${MEASURES[measure].text}.`);
  return `${title}<div class="card wide">${plot}${more.length === 0 ? '' : `<p class="soft">Weaker: ${more.join(', ')}.</p>`}</div><p class="soft">${used.join(' ')} Rows: ${partial.length === 0 ? `all ${count(rows)}` : `${count(rows)}, or those in which both are there: ${partial.join(', ')}`}.</p>${left}`;
}

/** What the page holds, with a link to each. */
function contents(content: ReportContent): string {
  const { profile, validation, personal } = content;
  const failing = validation?.results.filter(({ success }) => !success).length ?? 0;
  const parts = [
    ...(validation === null || validation.results.length === 0 ? [] : [['expectations', `Expectations${failing > 0 ? ` (${count(failing)} not held)` : ''}`]]),
    ...(personal.length === 0 ? [] : [['personal', 'Undeclared personal data']]),
    ['overview', 'Overview'],
    ...(profile.correlations === undefined ? [] : [['correlations', `Correlation with ${profile.correlations.target}`]]),
    ['columns', 'Columns'],
  ];
  const links = parts.map(([id = '', text = '']) => `<li><a href="#${id}">${escaped(text)}</a></li>`);
  const columns = profile.columns.slice(0, LINKED_COLUMNS).map(({ name }, place) => `<li><a href="#${columnId(place)}">${escaped(name)}</a></li>`);
  return `<nav aria-label="Contents"><ul>${links.join('')}</ul><ul class="columns">${columns.join('')}</ul></nav>`;
}

/** A page that shows a profile and what expectations found: whole in itself, without scripts and without requests. */
export async function reportPage(content: ReportContent): Promise<string> {
  const { name, id, createdAt, profile, validation } = content;
  const plotted = profile.columns.slice(0, PLOTTED_COLUMNS);
  const others = profile.columns.length - plotted.length;
  const cards: string[] = [];
  for (const [place, column] of plotted.entries())
    cards.push(await columnCard(column, profile.rows, { id: columnId(place), hidden: hiddenBecause(column.name, content) }));
  const missing = profile.columns.reduce((sum, { nulls }) => sum + nulls, 0);
  const checked = validation?.results ?? [];
  const summary: (readonly [string, string])[] = [
    ['Rows', count(profile.rows)],
    ['Columns', count(profile.columns.length)],
    ['Missing cells', share(missing, profile.rows * profile.columns.length)],
    ...(checked.length === 0
      ? []
      : [['Expectations that hold', `${count(checked.filter(({ success }) => success).length)} of ${count(checked.length)}`] as const]),
  ];
  const made = createdAt === undefined || createdAt === null ? '' : ` · made ${timeText(createdAt)}`;
  return pageFrame(
    `${name}: what the data is like`,
    `<header><h1>${escaped(name)}</h1><p class="soft">Dataset <code>${escaped(id.slice(0, 12))}</code>${made}</p>
${factsList(summary)}</header>
${contents(content)}${expectationsPart(content)}${personalPart(content)}${overview(content)}${await correlationsPart(content)}<h2 id="columns">Columns</h2><div class="cards">${cards.join('')}</div>${others > 0 ? `<p class="soft">${count(others)} more columns are in the overview only.</p>` : ''}`,
  );
}
