import type { ColumnProfile, RoundBins } from '../contracts/profile.ts';
import { barsPlot, type NumberHistogram, numberPlot, timePlot } from './report-plots.ts';
import { count, escaped, figure, share, shortFigure, timeText } from './report-text.ts';

const TOP_SHOWN = 10;
const SPREAD = [0.05, 0.25, 0.5, 0.75, 0.95] as const;
const LENGTHS_HEIGHT = 90;
const WIDEST_QUANTILE = 7;
/** Of texts with fewer different values, what they are says more than how long they are. */
const LENGTHS_FROM = 20;

type Facts = readonly (readonly [string, string])[];
type Quantiles = readonly { readonly q: number; readonly value: number }[];

const factList = (facts: Facts, style = ''): string =>
  facts.length === 0 ? '' : `<dl${style}>${facts.map(([term, said]) => `<div><dt>${term}</dt><dd>${said}</dd></div>`).join('')}</dl>`;

/** How a column's number of different values is told: with its error where it is an estimate. */
export const distinctText = ({ distinct, distinctError }: ColumnProfile): string => `${distinctError === undefined ? '' : '≈ '}${count(distinct)}`;

/** The five shares, where all of them are known. */
function spreadOf(quantiles: Quantiles): NumberHistogram['spread'] | undefined {
  const found = SPREAD.map((q) => quantiles.find((entry) => entry.q === q)?.value);
  const [a, b, c, d, e] = found;
  return a === undefined || b === undefined || c === undefined || d === undefined || e === undefined ? undefined : [a, b, c, d, e];
}

function quantileList(quantiles: Quantiles): string {
  const found = SPREAD.flatMap((q) => quantiles.filter((entry) => entry.q === q));
  const whole = found.map(({ value }) => figure(value));
  // Five of them stand side by side on a phone.
  const texts = whole.some((text) => text.length > WIDEST_QUANTILE) ? found.map(({ value }) => shortFigure(value)) : whole;
  return factList(
    found.map(({ q }, index) => [q === 0.5 ? 'median' : `${String(q * 100)} %`, texts[index] ?? ''] as const),
    ' class="five"',
  );
}

/** What of the values a clipped axis does not show. */
function outsideText({ edges, below, above }: RoundBins, present: number): string {
  const parts = [...(below > 0 ? [`${count(below)} below ${figure(edges[0])}`] : []), ...(above > 0 ? [`${count(above)} above ${figure(edges.at(-1))}`] : [])];
  return parts.length === 0 ? '' : `<p class="soft">Not drawn: ${parts.join(' and ')} (${share(below + above, present)} of the values).</p>`;
}

async function numberPart(column: ColumnProfile & { values: { kind: 'number' } }, present: number): Promise<string> {
  const { name, type, values } = column;
  const { display, quantiles } = values;
  if (type === 'boolean') {
    const yes = Math.round((values.mean ?? 0) * present);
    const both = [
      { value: 'true', count: yes },
      { value: 'false', count: present - yes },
    ];
    return `${await valuesPart(name, both, present)}${factList(counts(column, present))}`;
  }
  const spread = spreadOf(quantiles);
  const plot = await numberPlot(
    { ...(display ?? values.histogram), ...(spread === undefined ? {} : { spread }), whole: type === 'integer' && display !== undefined },
    `Histogram of ${name}, from ${figure(values.min)} to ${figure(values.max)}`,
  );
  const facts: Facts = [
    ['least', figure(values.min)],
    ['mean', figure(values.mean)],
    ['greatest', figure(values.max)],
    ['deviation', figure(values.standardDeviation)],
  ];
  return `${plot}${quantileList(quantiles)}${display === undefined ? '' : outsideText(display, present)}${factList([...facts, ...counts(column, present)])}`;
}

/** Of every column: how many values there are, and how many of them are different. */
const counts = (column: ColumnProfile, present: number): Facts => [
  ['missing', share(column.nulls, column.nulls + present)],
  ['distinct', distinctText(column)],
];

async function valuesPart(name: string, top: readonly { readonly value: string; readonly count: number }[], present: number): Promise<string> {
  const bars = top.slice(0, TOP_SHOWN).map(({ value, count: n }) => ({ name: value, value: n, text: `${count(n)} · ${share(n, present)}` }));
  return barsPlot(bars, `Most frequent values of ${name}: ${bars.map((bar) => `${bar.name} ${bar.text}`).join(', ')}`);
}

async function textPart(column: ColumnProfile & { values: { kind: 'string' } }, present: number): Promise<string> {
  const { name, values, distinct } = column;
  const { top, lengths, lengthMin, lengthMax, lengthMean } = values;
  const shown = top.slice(0, TOP_SHOWN);
  const rest = present - shown.reduce((sum, entry) => sum + entry.count, 0);
  // A hundred values that each occur once are no list of frequent ones.
  const repeats = (top[0]?.count ?? 0) > 1;
  const frequent = repeats
    ? `${await valuesPart(name, top, present)}${distinct > shown.length ? `<p class="soft">${count(distinct - shown.length)} other values: ${share(rest, present)} of the rows.</p>` : ''}`
    : `<p class="soft">${distinct >= present ? 'Every value is another.' : 'Nearly every value is another.'}</p>`;
  const same = lengthMin === lengthMax;
  const measured =
    lengths === undefined || same || distinct < LENGTHS_FROM
      ? ''
      : `<h4>Length in characters</h4>${await numberPlot({ ...lengths.histogram, whole: true, height: LENGTHS_HEIGHT }, `Histogram of the lengths of ${name}, from ${figure(lengthMin)} to ${figure(lengthMax)} characters`)}${quantileList(lengths.quantiles)}${outsideText(lengths.histogram, present)}`;
  const facts: Facts = same
    ? [['length', figure(lengthMin)]]
    : [
        ['shortest', figure(lengthMin)],
        ['mean length', figure(lengthMean)],
        ['longest', figure(lengthMax)],
      ];
  return `${frequent}${measured}${factList([...facts, ...counts(column, present)])}`;
}

/** One column as a card. `hidden`: why none of its values may be seen. */
export async function columnCard(
  column: ColumnProfile,
  rows: number,
  { id, hidden }: { readonly id: string; readonly hidden: string | undefined },
): Promise<string> {
  const { name, type, values, nulls } = column;
  const present = rows - nulls;
  const card = (inner: string): string =>
    `<section class="card" id="${id}"><div class="head"><h3>${escaped(name)}</h3><span class="tag">${type}</span></div>${inner}</section>`;
  if (hidden !== undefined) return card(`<p class="soft">${escaped(hidden)}</p>${factList([['missing', share(nulls, rows)]])}`);
  if (present === 0) return card('<p class="soft">No value.</p>');
  if (values.kind === 'string') return card(await textPart({ ...column, values }, present));
  if (values.kind === 'number') return card(await numberPart({ ...column, values }, present));
  const [from, to] = [timeText(values.min), timeText(values.max)];
  const plot = await timePlot(values.histogram.edges, values.histogram.counts, `Histogram of ${name}, from ${from} to ${to}`);
  return card(
    `${plot}${factList([['first (UTC)', from.replace(' UTC', '')], ['last (UTC)', to.replace(' UTC', '')], ...counts(column, present)], ' class="two"')}`,
  );
}
