/** Plots of a model card. Like all plots of pages, they are SVG text in the colours of `PLOT_COLOURS`. */
import type { CardTuning } from '../contracts/model-card.ts';
import { metricName } from './card-text.ts';
import { drawn, NUMBER_LABEL, PLOT_COLOURS, PLOT_WIDTH, type Spec, shortened } from './report-plots.ts';
import { figure } from './report-text.ts';

const SQUARE_HEIGHT = 300;
const FLAT_HEIGHT = 220;
const WIDE = 720;
const DIM = 0.3;

const titled = (title: string, more: object = {}) => ({
  title,
  titleFontWeight: 400,
  titleFontSize: 11,
  titlePadding: 6,
  grid: true,
  domain: false,
  ticks: false,
  labelPadding: 5,
  tickCount: 5,
  labelExpr: NUMBER_LABEL,
  ...more,
});
const quantitative = (field: string, domain: readonly [number, number], title: string, more: object = {}) => ({
  field,
  type: 'quantitative',
  scale: { domain, nice: false, zero: false },
  axis: titled(title, more),
});

export interface Point {
  readonly x: number;
  readonly y: number;
}

export interface CurvePlot {
  /** In the order in which they are joined; both 0 to 1. */
  readonly points: readonly Point[];
  readonly xTitle: string;
  readonly yTitle: string;
  /** What a model that knows nothing would give: drawn dashed. */
  readonly guide: readonly [Point, Point];
  /** Where the threshold is. */
  readonly at?: Point;
}

/** A curve of two rates: ROC, or precision over recall. */
export async function curvePlot({ points, xTitle, yTitle, guide, at }: CurvePlot, label: string): Promise<string> {
  const x = quantitative('x', [0, 1], xTitle);
  const y = quantitative('y', [0, 1], yTitle);
  const order = { field: 'place', type: 'quantitative' };
  return drawn(
    {
      width: PLOT_WIDTH,
      height: SQUARE_HEIGHT,
      autosize: { type: 'fit', contains: 'padding' },
      layer: [
        {
          data: { values: guide.map((point, place) => ({ ...point, place })) },
          mark: { type: 'line', color: PLOT_COLOURS.soft, strokeWidth: 1, strokeDash: [4, 4] },
          encoding: { x, y, order },
        },
        {
          data: { values: points.map((point, place) => ({ ...point, place })) },
          mark: { type: 'line', color: PLOT_COLOURS.mark, strokeWidth: 2, strokeJoin: 'round' },
          encoding: { x, y, order },
        },
        ...(at === undefined
          ? []
          : [{ data: { values: [at] }, mark: { type: 'point', filled: true, color: PLOT_COLOURS.minus, size: 64, fillOpacity: 1 }, encoding: { x, y } }]),
      ],
    } as Spec,
    label,
  );
}

/** The least of 1, 2, 5 times a power of ten that reaches a value; at most 1. */
function roundUp(value: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1e-9)));
  return Math.min(1, ([1, 2, 5, 10].find((step) => step * power >= value) ?? 10) * power);
}

export interface CalibrationPoint {
  readonly meanProbability: number;
  readonly frequency: number;
  readonly low: number;
  readonly high: number;
}

/** How often what was given a probability came true, with intervals, against the line on which both are the same. */
export async function calibrationPlot(points: readonly CalibrationPoint[], what: string, label: string): Promise<string> {
  const top = roundUp(Math.max(...points.map(({ meanProbability, frequency }) => Math.max(meanProbability, frequency))));
  const x = quantitative('meanProbability', [0, top], 'mean probability');
  const y = quantitative('frequency', [0, top], what);
  const values = points.map((point) => ({ ...point, high: Math.min(top, point.high) }));
  return drawn(
    {
      width: PLOT_WIDTH,
      height: SQUARE_HEIGHT,
      autosize: { type: 'fit', contains: 'padding' },
      layer: [
        {
          data: {
            values: [
              { meanProbability: 0, frequency: 0 },
              { meanProbability: top, frequency: top },
            ],
          },
          mark: { type: 'line', color: PLOT_COLOURS.soft, strokeWidth: 1, strokeDash: [4, 4] },
          encoding: { x, y },
        },
        {
          data: { values },
          mark: { type: 'rule', color: PLOT_COLOURS.mark, strokeWidth: 1.5 },
          encoding: { x, y: { ...y, field: 'low' }, y2: { field: 'high' } },
        },
        { data: { values }, mark: { type: 'line', color: PLOT_COLOURS.mark, strokeWidth: 1 }, encoding: { x, y } },
        { data: { values }, mark: { type: 'point', filled: true, color: PLOT_COLOURS.mark, size: 40, fillOpacity: 1 }, encoding: { x, y } },
      ],
    } as Spec,
    label,
  );
}

const span = (values: readonly number[]): readonly [number, number] => {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const room = (most - least || Math.abs(most) || 1) * 0.04;
  return [least - room, most + room];
};

/** Rows as points: what was answered, and by how much the truth was above it. */
export async function residualsPlot(points: readonly { readonly answer: number; readonly residual: number }[], label: string): Promise<string> {
  const y = quantitative('residual', span([0, ...points.map(({ residual }) => residual)]), 'truth − answer');
  return drawn(
    {
      width: PLOT_WIDTH,
      height: FLAT_HEIGHT,
      autosize: { type: 'fit', contains: 'padding' },
      layer: [
        {
          data: { values: points },
          mark: { type: 'point', filled: true, color: PLOT_COLOURS.mark, size: 16, fillOpacity: 0.5 },
          encoding: { x: quantitative('answer', span(points.map(({ answer }) => answer)), 'answer', { tickCount: 4 }), y },
        },
        { data: { values: [{ residual: 0 }] }, mark: { type: 'rule', color: PLOT_COLOURS.ink, strokeWidth: 1 }, encoding: { y } },
      ],
    } as Spec,
    label,
  );
}

const completedOf = ({ trials }: CardTuning): { readonly trial: number; readonly value: number; readonly values: Readonly<Record<string, unknown>> }[] =>
  trials.flatMap(({ trial, state, value, values }) => (state === 'completed' && value !== null && Number.isFinite(value) ? [{ trial, value, values }] : []));

/** Trials far worse than the bulk would press all others onto one line: they are drawn at the edge. */
function valueRange(values: readonly number[], lowerIsBetter: boolean): { readonly ends: readonly [number, number]; readonly outside: number } {
  const sorted = values.toSorted((a, b) => (lowerIsBetter ? a - b : b - a));
  const [best = 0, middle = 0, worst = 0] = [sorted[0], sorted[Math.floor(sorted.length * 0.75)], sorted.at(-1)];
  const edge = best + 3 * (middle - best);
  const cut = middle !== best && (lowerIsBetter ? worst > edge : worst < edge) ? edge : worst;
  const outside = sorted.filter((value) => (lowerIsBetter ? value > cut : value < cut)).length;
  return { ends: [Math.min(best, cut), Math.max(best, cut)], outside };
}

export interface TuningPlot {
  readonly svg: string;
  /** Trials that are worse than the axis goes. */
  readonly outside: number;
}

/** Each trial's value in their order, and the best so far as a line. Null where fewer than two trials have a value. */
export async function tuningPlot(tuning: CardTuning): Promise<TuningPlot | null> {
  const lower = tuning.direction === 'minimize';
  const completed = completedOf(tuning);
  if (completed.length < 2) return null;
  const { ends, outside } = valueRange(
    completed.map(({ value }) => value),
    lower,
  );
  const domain = span(ends);
  let best = completed[0]?.value ?? 0;
  const line = completed.map(({ trial, value }) => ({ trial, value: (best = lower ? Math.min(best, value) : Math.max(best, value)) }));
  const inside = (value: number): number => Math.max(domain[0], Math.min(domain[1], value));
  const stopped = tuning.trials.flatMap(({ trial, state, value }) =>
    state === 'stopped' && value !== null && Number.isFinite(value) ? [{ trial, value: inside(value) }] : [],
  );
  const points = completed.map(({ trial, value }) => ({ trial, value: inside(value) }));
  const x = quantitative('trial', span(tuning.trials.map(({ trial }) => trial)), 'trial', { tickMinStep: 1, grid: false });
  const y = quantitative('value', domain, metricName(tuning.metric));
  const svg = await drawn(
    {
      width: PLOT_WIDTH,
      height: FLAT_HEIGHT,
      autosize: { type: 'fit', contains: 'padding' },
      layer: [
        { data: { values: stopped }, mark: { type: 'point', color: PLOT_COLOURS.soft, size: 22, strokeWidth: 1 }, encoding: { x, y } },
        { data: { values: line }, mark: { type: 'line', interpolate: 'step-after', color: PLOT_COLOURS.minus, strokeWidth: 1.5 }, encoding: { x, y } },
        { data: { values: points }, mark: { type: 'point', filled: true, color: PLOT_COLOURS.mark, size: 26, fillOpacity: 0.8 }, encoding: { x, y } },
        {
          data: { values: points.filter(({ trial }) => trial === tuning.best) },
          mark: { type: 'point', filled: true, color: PLOT_COLOURS.minus, size: 70, fillOpacity: 1 },
          encoding: { x, y },
        },
      ],
    } as Spec,
    `${metricName(tuning.metric)} of ${String(completed.length)} trials; the best is trial ${String(tuning.best)} with ${figure(tuning.trials.find(({ trial }) => trial === tuning.best)?.value)}`,
  );
  return { svg, outside };
}

interface Axis {
  readonly name: string;
  /** 0 (below) to 1, or null where the trial has no such parameter. */
  readonly at: (trial: { readonly value: number; readonly values: Readonly<Record<string, unknown>> }) => number | null;
  readonly labels: readonly { readonly y: number; readonly text: string }[];
}

const MOST_AXES = 8;
const MOST_OPTIONS = 8;
const FEWEST_GOOD = 3;
const text = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value));

function axisOf(parameter: CardTuning['parameters'][number], trials: readonly { readonly values: Readonly<Record<string, unknown>> }[]): Axis | null {
  const { name } = parameter;
  const given = trials.flatMap(({ values }) => (Object.hasOwn(values, name) ? [values[name]] : []));
  if (parameter.kind === 'categorical') {
    const options = [...new Set([...(parameter.options ?? []), ...given].map(text))];
    if (options.length < 2) return null;
    const place = (value: unknown): number => options.indexOf(text(value)) / (options.length - 1);
    const shown = options.length > MOST_OPTIONS ? [options[0] ?? '', options.at(-1) ?? ''] : options;
    return {
      name,
      at: ({ values }) => (Object.hasOwn(values, name) ? place(values[name]) : null),
      labels: shown.map((option) => ({ y: options.indexOf(option) / (options.length - 1), text: shortened(option) })),
    };
  }
  const numbers = given.filter((value) => typeof value === 'number');
  const [low, high] = [parameter.low ?? Math.min(...numbers), parameter.high ?? Math.max(...numbers)];
  if (!(high > low)) return null;
  const scaled = (value: number): number => (parameter.log === true && low > 0 ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low));
  return {
    name,
    at: ({ values }) => {
      const value = values[name];
      return typeof value === 'number' ? Math.max(0, Math.min(1, scaled(value))) : null;
    },
    labels: [
      { y: 0, text: figure(low) },
      { y: 1, text: figure(high) },
    ],
  };
}

export interface ParallelPlot {
  readonly svg: string;
  /** Parameters that had no room. */
  readonly left: readonly string[];
}

/** A line a trial, through its parameters to its value, which is better the higher it is; the best in other colours. Null where there is nothing to compare. */
export async function parallelPlot(tuning: CardTuning): Promise<ParallelPlot | null> {
  const lower = tuning.direction === 'minimize';
  const trials = completedOf(tuning).sort((a, b) => (lower ? b.value - a.value : a.value - b.value));
  const found = tuning.parameters.flatMap((parameter) => axisOf(parameter, trials) ?? []);
  if (trials.length < 2 || found.length === 0) return null;
  const {
    ends: [from, to],
  } = valueRange(
    trials.map(({ value }) => value),
    lower,
  );
  const height = (value: number): number => (to === from ? 1 : Math.max(0, Math.min(1, lower ? (to - value) / (to - from) : (value - from) / (to - from))));
  const axes: readonly Axis[] = [
    ...found.slice(0, MOST_AXES),
    {
      name: metricName(tuning.metric),
      at: ({ value }) => height(value),
      labels: [
        { y: 0, text: figure(Number((lower ? to : from).toPrecision(4))) },
        { y: 1, text: figure(Number((lower ? from : to).toPrecision(4))) },
      ],
    },
  ];
  const good = Math.max(FEWEST_GOOD, Math.round(trials.length / 10));
  const lines = trials.map((trial, place) => {
    const style = trial.trial === tuning.best ? 'best' : place >= trials.length - good ? 'good' : 'other';
    let segment = 0;
    const points = axes.flatMap((axis, x) => {
      const y = axis.at(trial);
      if (y === null) segment += 1;
      return y === null ? [] : [{ x, y, line: `${String(trial.trial)}/${String(segment)}` }];
    });
    return { style, points };
  });
  const x = { field: 'x', type: 'quantitative', axis: null, scale: { domain: [-0.45, axes.length - 0.55], nice: false } };
  const y = { field: 'y', type: 'quantitative', axis: null, scale: { domain: [0, 1], nice: false } };
  const drawnAs = (style: string, mark: object) => ({
    data: { values: lines.filter((line) => line.style === style).flatMap(({ points }) => points) },
    mark: { type: 'line', ...mark },
    encoding: { x, y, detail: { field: 'line' } },
  });
  const svg = await drawn(
    {
      width: WIDE,
      height: 290,
      padding: { left: 2, right: 2, top: 42, bottom: 6 },
      autosize: { type: 'none', contains: 'padding' },
      layer: [
        {
          data: { values: axes.map((_, place) => ({ x: place, y: 0, to: 1 })) },
          mark: { type: 'rule', color: PLOT_COLOURS.line, strokeWidth: 2 },
          encoding: { x, y, y2: { field: 'to' } },
        },
        drawnAs('other', { color: PLOT_COLOURS.soft, strokeWidth: 1, strokeOpacity: DIM }),
        drawnAs('good', { color: PLOT_COLOURS.mark, strokeWidth: 1.5, strokeOpacity: 0.8 }),
        drawnAs('best', { color: PLOT_COLOURS.minus, strokeWidth: 2.5 }),
        {
          data: { values: axes.flatMap(({ labels }, place) => labels.map((label) => ({ x: place, ...label }))) },
          mark: { type: 'text', align: 'left', dx: 5, color: PLOT_COLOURS.ink, limit: (WIDE / axes.length) * 0.9 },
          encoding: { x, y, text: { field: 'text' } },
        },
        {
          data: { values: axes.map(({ name }, place) => ({ x: place, name: shortened(name) })) },
          mark: { type: 'text', y: -18, color: PLOT_COLOURS.soft, fontWeight: 600, limit: (WIDE / axes.length) * 0.95 },
          encoding: { x, text: { field: 'name' } },
        },
      ],
    } as Spec,
    `Parallel coordinates of ${String(trials.length)} trials over ${axes.map(({ name }) => name).join(', ')}`,
  );
  return { svg, left: found.slice(MOST_AXES).map(({ name }) => name) };
}
