/**
 * Plots of a report: Vega-Lite, drawn to SVG text where the report is made, so that the page needs no script.
 *
 * Invariants:
 * 1. A plot names nothing outside itself: no address, no font file.
 * 2. Its colours are exactly those of `PLOT_COLOURS`, so that a page's style can give each another value in the dark.
 */
import { compile, type TopLevelSpec } from 'vega-lite';
import { parse, View } from 'vega';
import { escaped } from './report-text.ts';

export const PLOT_COLOURS = {
  mark: '#2f6f9f',
  minus: '#b5532d',
  plum: '#7a4a9c',
  moss: '#3f7d3a',
  ink: '#1c2733',
  soft: '#5b6875',
  line: '#dde3e9',
  card: '#fff',
} as const;
export const PLOT_WIDTH = 340;
const HEIGHT = 130;
const BAR_HEIGHT = 22;
/** Characters of a value that fit beside its bar. */
const LABEL_CHARACTERS = 20;
const LABEL_WIDTH = 132;
const CHARACTER_WIDTH = 6.4;
const GAP = 8;
const FONT = 'system-ui, sans-serif';
const DAY_MS = 86_400_000;
/** Quantiles are drawn so far above the bars. */
const STRIP_Y = -12;

const CONFIG = {
  aria: false,
  background: 'transparent',
  font: FONT,
  padding: 1,
  view: { stroke: null },
  axis: {
    labelColor: PLOT_COLOURS.soft,
    titleColor: PLOT_COLOURS.soft,
    gridColor: PLOT_COLOURS.line,
    domainColor: PLOT_COLOURS.line,
    tickColor: PLOT_COLOURS.line,
    labelFontSize: 11,
    labelFont: FONT,
  },
  text: { color: PLOT_COLOURS.ink, font: FONT, fontSize: 11 },
} as const;

const lean = (tag: string): string =>
  tag.replace(/ (?:class|role|aria-[a-z]+|pointer-events|opacity|font-family)="[^"]*"/g, '').replace(/\d+\.\d{2,}/g, (digits) => Number(digits).toFixed(1));

export type Spec = Omit<TopLevelSpec, 'config'>;

/** SVG text of one plot; `label` tells it to those who do not see it. */
export async function drawn(spec: Spec, label: string): Promise<string> {
  const view = new View(parse(compile({ ...spec, config: CONFIG } as TopLevelSpec).spec), { renderer: 'none' });
  try {
    const svg = await view.toSVG();
    return (
      svg
        // Inside of HTML the namespaces go without saying; the label is told once, by the whole.
        .replace(/^<svg[^>]*?viewBox="([^"]*)"[^>]*>/, (_, box: string) => `<svg viewBox="${box}" role="img" aria-label="${escaped(label)}">`)
        // What is not seen only makes a page of many columns large.
        .replace(/<path class="(?:back|fore)ground"[^>]*\/>/g, '')
        .replace(/(<[a-z]+ [^>]*>)/g, (tag) => (tag.startsWith('<svg') ? tag : lean(tag)))
    );
  } finally {
    view.finalize();
  }
}

/** Each label by itself: an axis-wide format writes 0k, and SI prefixes say 50m of 0.05. */
export const NUMBER_LABEL =
  "replace(datum.value == 0 ? '0' : abs(datum.value) >= 10000 ? format(datum.value, '~s') : abs(datum.value) < 0.0001 ? format(datum.value, '~e') : format(datum.value, '~r'), /^-/, '−')";
const COUNTS_AXIS = { title: null, tickCount: 3, tickMinStep: 1, labelExpr: NUMBER_LABEL, domain: false, ticks: false, labelPadding: 6 } as const;

export interface NumberHistogram {
  readonly edges: readonly number[];
  readonly counts: readonly number[];
  /** Values at the shares 0.05, 0.25, 0.5, 0.75 and 0.95: drawn as a line, a bar and a stroke above the bars. Left out where they are not known. */
  readonly spread?: readonly [number, number, number, number, number];
  /** Whole numbers: a bin of one number stands over it. */
  readonly whole?: boolean;
  readonly height?: number;
}

/** SVG text of a histogram of numbers. */
export async function numberPlot({ edges, counts, spread, whole, height }: NumberHistogram, label: string): Promise<string> {
  const [first = 0, last = 0, second = 0] = [edges[0], edges.at(-1), edges[1]];
  // A column of one value has one bin without a width: it gets one, so that it is seen.
  const single = first === last;
  const shift = whole === true && second - first === 1 ? -0.5 : 0;
  const [from, to] = single ? [first - 0.5, first + 0.5] : [first + shift, last + shift];
  const bins = counts.map((n, index) => ({ from: single ? from : (edges[index] ?? 0) + shift, to: single ? to : (edges[index + 1] ?? 0) + shift, n }));
  const scale = { domain: single ? [first - 2, first + 2] : [from, to], nice: false, zero: false };
  const inside = (value: number): number => Math.max(from, Math.min(to, value));
  const x = (field: string) => ({ field, type: 'quantitative', scale });
  const [low = 0, left = 0, middle = 0, right = 0, high = 0] = (spread ?? []).map(inside);
  const strip = (height ?? HEIGHT) > 100 && spread !== undefined && high > low;
  return drawn(
    {
      width: PLOT_WIDTH,
      height: height ?? HEIGHT,
      autosize: { type: 'fit', contains: 'padding' },
      layer: [
        {
          data: { values: bins },
          mark: { type: 'bar', color: PLOT_COLOURS.mark, binSpacing: 1 },
          encoding: {
            x: {
              ...x('from'),
              bin: { binned: true },
              axis: {
                title: null,
                grid: false,
                tickCount: 5,
                ...(whole === true ? { tickMinStep: 1 } : {}),
                labelExpr: NUMBER_LABEL,
                labelFlush: false,
                labelOverlap: true,
                labelSeparation: 6,
              },
            },
            x2: { field: 'to' },
            y: { field: 'n', type: 'quantitative', axis: COUNTS_AXIS },
          },
        },
        ...(strip
          ? [
              {
                data: { values: [{ from: low, to: high }] },
                mark: { type: 'rule', color: PLOT_COLOURS.soft, y: STRIP_Y },
                encoding: { x: x('from'), x2: { field: 'to' } },
              },
              {
                data: { values: [{ from: left, to: right }] },
                mark: { type: 'rule', color: PLOT_COLOURS.soft, strokeWidth: 7, y: STRIP_Y },
                encoding: { x: x('from'), x2: { field: 'to' } },
              },
              {
                data: { values: [{ from: middle }] },
                mark: { type: 'rule', color: PLOT_COLOURS.ink, strokeWidth: 2.5, y: STRIP_Y - 7, y2: STRIP_Y + 7 },
                encoding: { x: x('from') },
              },
            ]
          : []),
      ],
    } as Spec,
    label,
  );
}

const STEPS_MS = [
  1_000,
  5_000,
  15_000,
  60_000,
  300_000,
  900_000,
  3_600_000,
  3 * 3_600_000,
  6 * 3_600_000,
  12 * 3_600_000,
  DAY_MS,
  2 * DAY_MS,
  7 * DAY_MS,
  14 * DAY_MS,
];
const STEPS_MONTHS = [1, 2, 3, 6, 12, 24, 60, 120, 240, 600, 1200];
const MOST_TIMES = 4;

/** At most so many round instants between two (milliseconds, UTC), and how they are written. */
export function timeTicks(from: number, to: number, most = MOST_TIMES): { readonly at: readonly number[]; readonly format: string } {
  for (const step of STEPS_MS) {
    const first = Math.ceil(from / step) * step;
    const n = Math.floor((to - first) / step) + 1;
    if (n > most) continue;
    const format = step >= DAY_MS ? '%d %b' : to - from > DAY_MS / 2 ? '%d %b %H:%M' : step >= 60_000 ? '%H:%M' : '%H:%M:%S';
    return { at: Array.from({ length: Math.max(0, n) }, (_, index) => first + index * step), format };
  }
  const start = new Date(from);
  for (const step of STEPS_MONTHS) {
    const months = start.getUTCFullYear() * 12 + start.getUTCMonth();
    const at: number[] = [];
    for (let month = Math.floor(months / step) * step; ; month += step) {
      const instant = Date.UTC(2000, month - 24_000);
      if (instant > to) break;
      if (instant >= from) at.push(instant);
    }
    if (at.length <= most) return { at, format: step < 12 ? '%b %Y' : '%Y' };
  }
  return { at: [], format: '%Y' };
}

/** SVG text of a histogram of instants; edges are UTC ISO. */
export async function timePlot(edges: readonly string[], counts: readonly number[], label: string): Promise<string> {
  const at = edges.map((edge) => Date.parse(edge));
  const [first = 0, last = 0] = [at[0], at.at(-1)];
  const single = first === last;
  const bins = counts.map((n, index) => ({ from: at[index] ?? 0, to: single ? first + DAY_MS : at[index + 1], n }));
  const ticks = timeTicks(first, single ? first + DAY_MS : last);
  return drawn(
    {
      width: PLOT_WIDTH,
      height: HEIGHT,
      autosize: { type: 'fit', contains: 'padding' },
      data: { values: bins },
      mark: { type: 'bar', color: PLOT_COLOURS.mark, binSpacing: 1 },
      encoding: {
        x: {
          field: 'from',
          type: 'temporal',
          bin: { binned: true },
          scale: { type: 'utc', nice: false },
          axis: {
            title: null,
            grid: false,
            values: ticks.at,
            labelExpr: `utcFormat(datum.value, '${ticks.format}')`,
            labelFlush: true,
          },
        },
        x2: { field: 'to' },
        y: { field: 'n', type: 'quantitative', axis: COUNTS_AXIS },
      },
    } as Spec,
    label,
  );
}

export interface NamedBar {
  readonly name: string;
  readonly value: number;
  /** Written behind the bar. */
  readonly text: string;
}

/** SVG text of horizontal bars, in the order that is given. Bars of values below 0 have another colour. `range`: of the axis, which is drawn when it is given and not refused; default: 0 to the largest. */
export async function barsPlot(
  bars: readonly NamedBar[],
  label: string,
  { range, hasAxis = range !== undefined }: { readonly range?: readonly [number, number]; readonly hasAxis?: boolean } = {},
): Promise<string> {
  const rows = bars.map(({ name, value, text }, place) => ({ place, name: shortened(name), value, text, end: Math.max(0, value) }));
  const largest = Math.max(0, ...bars.map(({ value }) => value)) || 1;
  const [least, most] = range ?? [0, largest];
  // Room for the text behind the longest bar.
  const plot = PLOT_WIDTH - Math.min(LABEL_WIDTH, widest(rows.map(({ name }) => name))) - GAP;
  const room = widest(bars.map(({ text }) => text)) + GAP;
  const domain = [least, least + (most - least) * (plot / Math.max(plot / 4, plot - room))];
  const axis = !hasAxis
    ? null
    : { title: null, values: [-1, -0.5, 0, 0.5, 1].filter((tick) => tick >= least && tick <= most), grid: false, domain: false, labelExpr: NUMBER_LABEL };
  return drawn(
    {
      width: PLOT_WIDTH,
      height: BAR_HEIGHT * rows.length,
      autosize: { type: 'fit-x', contains: 'padding' },
      data: { values: rows },
      encoding: {
        y: {
          field: 'place',
          type: 'ordinal',
          sort: null,
          axis: {
            title: null,
            domain: false,
            ticks: false,
            labelExpr: `${JSON.stringify(rows.map(({ name }) => name))}[datum.value]`,
            labelLimit: LABEL_WIDTH,
            labelPadding: 6,
            labelColor: PLOT_COLOURS.ink,
          },
        },
      },
      layer: [
        {
          mark: { type: 'bar', height: { band: 0.72 } },
          encoding: {
            x: { field: 'value', type: 'quantitative', axis, scale: { domain, nice: false } },
            color: { condition: { test: 'datum.value < 0', value: PLOT_COLOURS.minus }, value: PLOT_COLOURS.mark },
          },
        },
        {
          mark: { type: 'text', align: 'left', dx: 5, color: PLOT_COLOURS.soft },
          encoding: { x: { field: 'end', type: 'quantitative', axis, scale: { domain, nice: false } }, text: { field: 'text' } },
        },
      ],
    } as Spec,
    label,
  );
}

const widest = (texts: readonly string[]): number => Math.max(0, ...texts.map((text) => [...text].length)) * CHARACTER_WIDTH;

/** A value as it stands beside a bar: on one line, and not too long. */
export const shortened = (value: string): string => {
  const characters = [...(value === '' ? '(empty)' : value.trim() === '' ? '(blank)' : value.replaceAll(/[\s\p{Cc}]+/gu, ' '))];
  return characters.length <= LABEL_CHARACTERS ? characters.join('') : `${characters.slice(0, LABEL_CHARACTERS - 1).join('')}…`;
};
