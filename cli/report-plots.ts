/**
 * Plots of a report: Vega-Lite, drawn to SVG text where the report is made, so that the page needs no script.
 *
 * Invariants:
 * 1. A plot names nothing outside itself: no address, no font file.
 * 2. Its colours are exactly those of `PLOT_COLOURS`, so that a page's style can give each another value in the dark.
 */
import { compile, type TopLevelSpec } from 'vega-lite';
import { parse, View } from 'vega';

export const PLOT_COLOURS = { mark: '#2f6f9f', ink: '#1c2733', soft: '#5b6875', line: '#dde3e9' } as const;
const WIDTH = 320;
const HEIGHT = 130;
const BAR_HEIGHT = 22;
/** Characters of a value that fit beside its bar. */
const LABEL_CHARACTERS = 18;
const FONT = 'system-ui, sans-serif';

const CONFIG = {
  aria: false,
  background: 'transparent',
  font: FONT,
  view: { stroke: null },
  axis: {
    labelColor: PLOT_COLOURS.soft,
    titleColor: PLOT_COLOURS.soft,
    gridColor: PLOT_COLOURS.line,
    domainColor: PLOT_COLOURS.line,
    tickColor: PLOT_COLOURS.line,
    labelFontSize: 11,
    titleFontSize: 11,
    titleFontWeight: 'normal',
    labelFont: FONT,
    titleFont: FONT,
  },
  text: { color: PLOT_COLOURS.ink, font: FONT, fontSize: 11 },
} as const;

/** Text as an attribute, never as markup. */
const escapedAttribute = (text: string): string => text.replace(/[&<>"']/g, (mark) => `&#${String(mark.charCodeAt(0))};`);

const lean = (tag: string): string =>
  tag.replace(/ (?:class|role|aria-[a-z]+|pointer-events|opacity|font-family)="[^"]*"/g, '').replace(/\d+\.\d{2,}/g, (digits) => Number(digits).toFixed(1));

async function drawn(spec: Omit<TopLevelSpec, 'config'>, label: string): Promise<string> {
  const view = new View(parse(compile({ ...spec, config: CONFIG } as TopLevelSpec).spec), { renderer: 'none' });
  try {
    const svg = await view.toSVG();
    return (
      svg
        // Inside of HTML the namespaces go without saying; the label is told once, by the whole.
        .replace(/^<svg[^>]*?viewBox="([^"]*)"[^>]*>/, (_, box: string) => `<svg viewBox="${box}" role="img" aria-label="${escapedAttribute(label)}">`)
        // What is not seen only makes a page of many columns large.
        .replace(/<path class="(?:back|fore)ground"[^>]*\/>/g, '')
        .replace(/(<[a-z]+ [^>]*>)/g, (tag) => (tag.startsWith('<svg') ? tag : lean(tag)))
    );
  } finally {
    view.finalize();
  }
}

/** Each label by itself: an axis-wide format writes 0k. */
const NUMBER_LABEL = "format(datum.value, '~s')";
const COUNTS_AXIS = { title: null, tickCount: 3, labelExpr: NUMBER_LABEL, domain: false, ticks: false } as const;

export interface NumberHistogram {
  readonly edges: readonly number[];
  readonly counts: readonly number[];
  /** Values that get a mark, with what is written over it. */
  readonly marks: readonly { readonly value: number; readonly text: string }[];
}

/** SVG text of a histogram of numbers, with marks at quantiles. */
export async function numberPlot({ edges, counts, marks }: NumberHistogram, label: string): Promise<string> {
  const [from = 0, to = 0] = [edges[0], edges.at(-1)];
  // A column of one value has one bin without a width: it gets one, so that it is seen.
  const single = from === to;
  const bins = counts.map((n, index) => ({ from: single ? from - 0.5 : edges[index], to: single ? from + 0.5 : edges[index + 1], n }));
  const scale = { domain: single ? [from - 2, from + 2] : [from, to], nice: false, zero: false };
  return drawn(
    {
      width: WIDTH,
      height: HEIGHT,
      autosize: { type: 'fit', contains: 'padding' },
      layer: [
        {
          data: { values: bins },
          mark: { type: 'bar', color: PLOT_COLOURS.mark, binSpacing: 1 },
          encoding: {
            x: {
              field: 'from',
              type: 'quantitative',
              bin: { binned: true },
              scale,
              axis: { title: null, grid: false, tickCount: 5, labelExpr: NUMBER_LABEL, labelFlush: true },
            },
            x2: { field: 'to' },
            y: { field: 'n', type: 'quantitative', axis: COUNTS_AXIS },
          },
        },
        {
          data: { values: marks.map(({ value, text }) => ({ value, text })) },
          mark: { type: 'rule', color: PLOT_COLOURS.ink, strokeDash: [3, 3] },
          encoding: { x: { field: 'value', type: 'quantitative', scale } },
        },
        {
          data: { values: marks.map(({ value, text }) => ({ value, text })) },
          mark: { type: 'text', baseline: 'bottom', dy: -3, y: 0 },
          encoding: { x: { field: 'value', type: 'quantitative', scale }, text: { field: 'text' } },
        },
      ],
    } as Omit<TopLevelSpec, 'config'>,
    label,
  );
}

/** SVG text of a histogram of instants; edges are UTC ISO. */
export async function timePlot(edges: readonly string[], counts: readonly number[], label: string): Promise<string> {
  const dayMs = 86_400_000;
  const at = edges.map((edge) => Date.parse(edge));
  const single = at[0] === at.at(-1);
  const bins = counts.map((n, index) => ({ from: at[index] ?? 0, to: single ? (at[index] ?? 0) + dayMs : at[index + 1], n }));
  return drawn(
    {
      width: WIDTH,
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
          axis: { title: null, grid: false, tickCount: 4, labelFlush: true, labelOverlap: true, labelSeparation: 12 },
        },
        x2: { field: 'to' },
        y: { field: 'n', type: 'quantitative', axis: COUNTS_AXIS },
      },
    } as Omit<TopLevelSpec, 'config'>,
    label,
  );
}

/** SVG text of horizontal bars, in the order that is given; `text` is written behind each bar. */
export async function valuesPlot(values: readonly { readonly value: string; readonly count: number; readonly text: string }[], label: string): Promise<string> {
  const rows = values.map(({ value, count, text }, place) => ({ place, name: shortened(value), count, text }));
  const names = rows.map(({ name }) => name);
  return drawn(
    {
      width: WIDTH,
      height: BAR_HEIGHT * rows.length,
      autosize: { type: 'fit-x', contains: 'padding' },
      data: { values: rows },
      encoding: {
        y: {
          field: 'place',
          type: 'ordinal',
          sort: null,
          axis: { title: null, domain: false, ticks: false, labelExpr: `${JSON.stringify(names)}[datum.value]`, labelLimit: 130, labelColor: PLOT_COLOURS.ink },
        },
        // Room for the text behind the longest bar.
        x: { field: 'count', type: 'quantitative', axis: null, scale: { domain: [0, Math.max(1, ...rows.map(({ count }) => count)) * 1.6] } },
      },
      layer: [
        { mark: { type: 'bar', color: PLOT_COLOURS.mark, height: { band: 0.75 } } },
        { mark: { type: 'text', align: 'left', dx: 4, color: PLOT_COLOURS.soft }, encoding: { text: { field: 'text' } } },
      ],
    } as Omit<TopLevelSpec, 'config'>,
    label,
  );
}

const shortened = (value: string): string => {
  const characters = [...(value === '' ? '(empty)' : value)];
  return characters.length <= LABEL_CHARACTERS ? characters.join('') : `${characters.slice(0, LABEL_CHARACTERS - 1).join('')}…`;
};
