/**
 * Plots of an endpoint's report.
 *
 * Invariants:
 * 1. Every plot of a layout has the same width, the same room on the left and the same domain: what stands above each other
 *    happened at the same time.
 * 2. What covers a stretch of time is drawn from its begin to its end; nothing is drawn where nothing is known.
 */
import type { EndpointReport, ReportEvent, ReportMetric, ReportServed, ReportValue, TrafficStep, WindowStep } from '../contracts/endpoint-report.ts';
import { drawn, NUMBER_LABEL, PLOT_COLOURS, type Spec, shortened, timeTicks } from './report-plots.ts';

/** How wide a plot is, in the pixels in which it is read. */
export interface Layout {
  readonly width: number;
  /** Room for names and numbers. */
  readonly left: number;
  readonly mostTicks: number;
  readonly mostSteps: number;
}
export const DESK: Layout = { width: 1080, left: 148, mostTicks: 9, mostSteps: 240 };
export const PHONE: Layout = { width: 340, left: 100, mostTicks: 5, mostSteps: 80 };
const RIGHT = 12;
const BOTTOM = 22;
const TOP = 8;
const ROW = 20;
const LANE = 110;

export interface TimeAxis {
  readonly layout: Layout;
  readonly from: number;
  readonly to: number;
  /** Instants at which the champion changed: a line through every plot. */
  readonly changes: readonly number[];
}

export const timeAxis = (layout: Layout, { from, to, served }: Pick<EndpointReport, 'from' | 'to' | 'served'>): TimeAxis => {
  const [first, last] = [Date.parse(from), Date.parse(to)];
  const changes = served.flatMap((period, place) => {
    const [at, before] = [Date.parse(period.from), served[place - 1]];
    const isChange = before !== undefined && (before.champion?.model !== period.champion?.model || before.champion?.version !== period.champion?.version);
    return isChange && at > first && at < last ? [at] : [];
  });
  return { layout, from: first, to: last, changes };
};

/** Colours of versions, in the order in which they first served: those that follow each other never look alike. */
const VERSION_COLOURS = ['mark', 'minus', 'plum', 'moss'] as const satisfies readonly (keyof typeof PLOT_COLOURS)[];
export const versionColour = (place: number): (typeof VERSION_COLOURS)[number] => VERSION_COLOURS[place % VERSION_COLOURS.length] ?? 'mark';

interface Span {
  readonly x: number;
  readonly x2: number;
}

/** The part of a stretch that the axis shows; null when it lies outside. */
function spanOf(axis: TimeAxis, from: string, to: string | null): Span | null {
  const [x, x2] = [Math.max(axis.from, Date.parse(from)), Math.min(axis.to, to === null ? axis.to : Date.parse(to))];
  return x2 > x ? { x, x2 } : null;
}

function xOf(axis: TimeAxis, field = 'x'): object {
  const ticks = timeTicks(axis.from, axis.to, axis.layout.mostTicks);
  return {
    field,
    type: 'quantitative',
    scale: { domain: [axis.from, axis.to], nice: false, zero: false },
    axis: {
      title: null,
      values: ticks.at,
      labelExpr: `utcFormat(datum.value, '${ticks.format}')`,
      grid: true,
      ticks: false,
      domain: false,
      labelPadding: 6,
      labelFlush: true,
      labelOverlap: true,
    },
  };
}

async function framed(axis: TimeAxis, height: number, layers: readonly object[], label: string): Promise<string> {
  const { width, left } = axis.layout;
  return drawn(
    {
      width: width - left - RIGHT,
      height,
      padding: { left, right: RIGHT, top: TOP, bottom: BOTTOM },
      autosize: { type: 'none', contains: 'content' },
      layer: [
        // an empty plot has its axis too
        { data: { values: [{ x: axis.from }] }, mark: { type: 'point', size: 0, strokeWidth: 0 }, encoding: { x: xOf(axis) } },
        ...layers,
        ...(axis.changes.length === 0
          ? []
          : [
              {
                data: { values: axis.changes.map((x) => ({ x })) },
                mark: { type: 'rule', color: PLOT_COLOURS.ink, strokeWidth: 1, strokeDash: [2, 3] },
                encoding: { x: xOf(axis) },
              },
            ]),
      ],
    } as Spec,
    label,
  );
}

/** How far a column moved, in words and as a look: below half its limit, below it, above it, above twice. */
export const DRIFT_LEVELS = [
  { upTo: 0.5, text: 'below half its limit', colour: 'mark', opacity: 0.14, height: 0.5 },
  { upTo: 1, text: 'below its limit', colour: 'mark', opacity: 0.45, height: 0.5 },
  { upTo: 2, text: 'above its limit', colour: 'minus', opacity: 0.6, height: 0.86 },
  { upTo: Number.POSITIVE_INFINITY, text: 'above twice its limit', colour: 'minus', opacity: 1, height: 0.86 },
] as const;
export const FAILING_LEVELS = [
  { upTo: 0, text: 'no row fails', colour: 'mark', opacity: 0.14, height: 0.5 },
  { upTo: 0.01, text: 'up to 1 % of rows fail', colour: 'minus', opacity: 0.35, height: 0.86 },
  { upTo: 0.1, text: 'up to 10 %', colour: 'minus', opacity: 0.65, height: 0.86 },
  { upTo: Number.POSITIVE_INFINITY, text: 'more', colour: 'minus', opacity: 1, height: 0.86 },
] as const;
export type Levels = typeof DRIFT_LEVELS | typeof FAILING_LEVELS;

interface Cell extends Span {
  readonly row: number;
  readonly level: number;
}

/** Rows of a heat map; neighbours of one level are one rectangle. */
function cellsOf(
  axis: TimeAxis,
  steps: readonly WindowStep[],
  rows: number,
  valueOf: (step: WindowStep, row: number) => number | null,
  levels: Levels,
): Cell[] {
  const cells: Cell[] = [];
  for (let row = 0; row < rows; row += 1) {
    let open: Cell | undefined;
    for (const step of steps) {
      const [value, span] = [valueOf(step, row), spanOf(axis, step.from, step.to)];
      if (value === null || span === null) continue;
      const level = levels.findIndex(({ upTo }) => value <= upTo);
      const isSame: boolean = open !== undefined && open.level === level && open.x2 >= span.x;
      if (open !== undefined && isSame) cells.pop();
      open = { row, level, x: open !== undefined && isSame ? open.x : span.x, x2: span.x2 };
      cells.push(open);
    }
  }
  return cells;
}

/** A row a name, over time: the stronger the colour, the worse. */
export async function heatPlot(
  axis: TimeAxis,
  {
    names,
    steps,
    valueOf,
    levels,
  }: { names: readonly string[]; steps: readonly WindowStep[]; valueOf: (step: WindowStep, row: number) => number | null; levels: Levels },
  label: string,
): Promise<string> {
  const cells = cellsOf(axis, steps, names.length, valueOf, levels);
  const y = rowAxis(axis, names);
  return framed(
    axis,
    ROW * names.length,
    levels.map(({ colour, opacity, height }, level) => ({
      data: { values: cells.filter((cell) => cell.level === level).map(({ row, x, x2 }) => ({ row, x, x2 })) },
      mark: { type: 'bar', color: PLOT_COLOURS[colour], fillOpacity: opacity, height: { band: height } },
      encoding: { x: xOf(axis), x2: { field: 'x2' }, y },
    })),
    label,
  );
}

const rowAxis = (axis: TimeAxis, names: readonly string[]): object => ({
  field: 'row',
  type: 'ordinal',
  scale: { domain: names.map((_, row) => row) },
  axis: {
    title: null,
    domain: false,
    ticks: false,
    labelExpr: `${JSON.stringify(names.map(shortened))}[datum.value]`,
    // widths are guessed where the page is made, and guessed too wide
    labelLimit: (axis.layout.left - 12) * 1.35,
    labelPadding: 8,
    labelColor: PLOT_COLOURS.ink,
  },
});

const EVENT_ROWS: readonly (readonly [ReportEvent['kind'], string])[] = [
  ['rollout', 'rollouts'],
  ['retraining', 'retrainings'],
  ['alert', 'alerts'],
];
/** States of what did not end well, or waits for someone. */
const BAD_STATES = new Set(['failed', 'rolled_back', 'refused', 'open', 'rejected', 'cancelled']);

const nameOf = ({ model, version }: { readonly model: string; readonly version: number }): string => `${model} ${String(version)}`;

/** Who served, who was tried beside it, and what happened. `places`: of the versions by name. */
export async function eventsPlot(
  axis: TimeAxis,
  served: readonly ReportServed[],
  events: readonly ReportEvent[],
  places: ReadonlyMap<string, number>,
  label: string,
): Promise<string> {
  const names = ['answered', 'tried beside', ...EVENT_ROWS.map(([, name]) => name)];
  const y = rowAxis(axis, names);
  const bars = served.flatMap(({ from, until, champion, challenger }) => {
    const span = spanOf(axis, from, until);
    if (span === null) return [];
    return [
      ...(champion === null ? [] : [{ ...span, row: 0, name: nameOf(champion), opacity: 0.85 }]),
      ...(challenger === null
        ? []
        : [{ ...span, row: 1, name: nameOf(challenger), opacity: challenger.mode === 'shadow' ? 0.3 : 0.3 + (challenger.percent / 100) * 0.55 }]),
    ];
  });
  const joined: (typeof bars)[number][] = [];
  for (const bar of bars.toSorted((a, b) => a.row - b.row || a.x - b.x)) {
    const last = joined.at(-1);
    if (last?.row === bar.row && last.name === bar.name && last.opacity === bar.opacity && last.x2 === bar.x)
      joined[joined.length - 1] = { ...last, x2: bar.x2 };
    else joined.push(bar);
  }
  const marks = events.flatMap(({ kind, at, state }) => {
    const x = Date.parse(at);
    return x < axis.from || x > axis.to ? [] : [{ x, row: 2 + EVENT_ROWS.findIndex(([of]) => of === kind), isBad: BAD_STATES.has(state) }];
  });
  const pixel = (axis.layout.width - axis.layout.left - RIGHT) / (axis.to - axis.from);
  return framed(
    axis,
    ROW * names.length,
    [
      ...[...new Set(joined.map(({ name, opacity }) => JSON.stringify([name, opacity])))].map((key) => {
        const [name, opacity] = JSON.parse(key) as readonly [string, number];
        return {
          data: { values: joined.filter((bar) => bar.name === name && bar.opacity === opacity) },
          mark: { type: 'bar', color: PLOT_COLOURS[versionColour(places.get(name) ?? 0)], fillOpacity: opacity, height: { band: 0.8 } },
          encoding: { x: xOf(axis), x2: { field: 'x2' }, y },
        };
      }),
      ...[false, true].map((isBad) => ({
        data: { values: marks.filter((mark) => mark.isBad === isBad) },
        mark: {
          type: 'point',
          shape: isBad ? 'triangle-up' : 'circle',
          filled: true,
          fillOpacity: 0.9,
          size: 64,
          color: isBad ? PLOT_COLOURS.minus : PLOT_COLOURS.mark,
        },
        encoding: { x: xOf(axis), y },
      })),
      {
        data: {
          values: joined
            .filter(({ row, name, x, x2 }) => row === 0 && (x2 - x) * pixel > name.length * 7 + 8)
            .map(({ row, name, x, x2 }) => ({ row, x: (x + x2) / 2, name })),
        },
        mark: { type: 'text', color: PLOT_COLOURS.card, fontWeight: 600, fontSize: 11 },
        encoding: { x: xOf(axis), y, text: { field: 'name' } },
      },
    ],
    label,
  );
}

const yOf = (field: string, domain: readonly [number, number], more: object = {}, scale: object = {}): object => ({
  field,
  type: 'quantitative',
  scale: { domain, nice: false, zero: false, ...scale },
  axis: { title: null, grid: true, tickCount: 4, domain: false, ticks: false, labelPadding: 8, labelExpr: NUMBER_LABEL, ...more },
});

/** A thin line through the middles of stretches that follow each other, so that the eye can: the stretches themselves are drawn over it. */
function thread(axis: TimeAxis, spans: readonly (Span & { readonly y: number })[], colour: string, y: object): object {
  let line = 0;
  const values = spans.map(({ x, x2, y: value }, place) => ({ x: (x + x2) / 2, y: value, line: (line += x > (spans[place - 1]?.x2 ?? x) ? 1 : 0) }));
  return {
    data: { values },
    mark: { type: 'line', color: colour, strokeWidth: 1, strokeOpacity: 0.45 },
    encoding: { x: xOf(axis), y, detail: { field: 'line' } },
  };
}

/** From the least to the greatest with some room. */
function rangeOf(values: readonly number[]): readonly [number, number] {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const room = (most - least || Math.abs(most) * 0.1 || 1) * 0.08;
  return [least - room, most + room];
}

/** A metric by window, with its interval: by labels, and estimated without them. Null where there is neither. */
export async function qualityPlot(
  axis: TimeAxis,
  { reference }: ReportMetric,
  values: readonly { readonly step: WindowStep; readonly labelled: ReportValue | null; readonly estimated: ReportValue | null }[],
  label: string,
): Promise<string | null> {
  const drawnOf = (kind: 'labelled' | 'estimated') =>
    values.flatMap(({ step, [kind]: found }) => {
      const span = spanOf(axis, step.from, step.to);
      return found === null || span === null ? [] : [{ ...span, y: found.value, low: found.low ?? found.value, high: found.high ?? found.value }];
    });
  const [labelled, estimated] = [drawnOf('labelled'), drawnOf('estimated')];
  if (labelled.length + estimated.length === 0) return null;
  const domain = rangeOf([...labelled, ...estimated].flatMap(({ low, high }) => [low, high]).concat(reference ?? []));
  const of = (data: ReturnType<typeof drawnOf>, colour: string): object[] => [
    {
      data: { values: data },
      mark: { type: 'rect', color: colour, fillOpacity: 0.2 },
      encoding: { x: xOf(axis), x2: { field: 'x2' }, y: yOf('low', domain), y2: { field: 'high' } },
    },
    thread(axis, data, colour, yOf('y', domain)),
    {
      data: { values: data },
      mark: { type: 'rule', color: colour, strokeWidth: 2 },
      encoding: { x: xOf(axis), x2: { field: 'x2' }, y: yOf('y', domain) },
    },
  ];
  return framed(
    axis,
    LANE,
    [
      ...of(estimated, PLOT_COLOURS.minus),
      ...of(labelled, PLOT_COLOURS.mark),
      ...(reference === null
        ? []
        : [
            {
              data: { values: [{ y: reference }] },
              mark: { type: 'rule', color: PLOT_COLOURS.ink, strokeWidth: 1, strokeDash: [5, 4] },
              encoding: { y: yOf('y', domain) },
            },
          ]),
    ],
    label,
  );
}

export interface TrafficPlots {
  readonly requests: string;
  /** Null where one version answered everything. */
  readonly share: string | null;
  readonly errors: string;
  readonly latency: string | null;
}

const stackOf = (axis: TimeAxis, steps: readonly TrafficStep[], stepMs: number, isShare: boolean) =>
  steps.flatMap(({ from, versions }) => {
    const span = spanOf(axis, from, new Date(Date.parse(from) + stepMs).toISOString());
    if (span === null) return [];
    const all = isShare ? versions.reduce((sum, { requests }) => sum + requests, 0) : 1;
    let y = 0;
    return all === 0 ? [] : versions.map((version) => ({ ...span, name: nameOf(version), y, y2: (y += version.requests / all) }));
  });

function stackLayers(axis: TimeAxis, bars: ReturnType<typeof stackOf>, places: ReadonlyMap<string, number>, y: object): object[] {
  return [...new Set(bars.map(({ name }) => name))].map((name) => ({
    data: { values: bars.filter((bar) => bar.name === name && bar.y2 > bar.y) },
    mark: { type: 'rect', color: PLOT_COLOURS[versionColour(places.get(name) ?? 0)], fillOpacity: 0.85 },
    encoding: { x: xOf(axis), x2: { field: 'x2' }, y, y2: { field: 'y2' } },
  }));
}

const PERCENT_LABEL = "format(datum.value, '.3~%')";

export async function trafficPlots(axis: TimeAxis, { steps, stepMs }: EndpointReport['traffic'], places: ReadonlyMap<string, number>): Promise<TrafficPlots> {
  const bars = stackOf(axis, steps, stepMs, false);
  const most = Math.max(1, ...bars.map(({ y2 }) => y2));
  const timed = steps.flatMap(({ from, latencyMs, versions }) => {
    const span = spanOf(axis, from, new Date(Date.parse(from) + stepMs).toISOString());
    const [requests, errors] = [versions.reduce((sum, of) => sum + of.requests, 0), versions.reduce((sum, of) => sum + of.errors, 0)];
    return span === null ? [] : [{ ...span, latencyMs, failing: requests === 0 ? 0 : errors / requests }];
  });
  const latencies = timed.flatMap(({ x, x2, latencyMs }) => (latencyMs === null ? [] : [{ x, x2, ...latencyMs }]));
  const worst = Math.max(0.001, ...timed.map(({ failing }) => failing));
  return {
    requests: await framed(axis, LANE, stackLayers(axis, bars, places, yOf('y', [0, most * 1.05], { tickMinStep: 1 })), 'Requests by version over time'),
    share:
      new Set(bars.map(({ name }) => name)).size < 2
        ? null
        : await framed(
            axis,
            LANE / 2,
            stackLayers(axis, stackOf(axis, steps, stepMs, true), places, yOf('y', [0, 1], { values: [0, 0.5, 1], labelExpr: PERCENT_LABEL })),
            'Share of requests by version over time',
          ),
    errors: await framed(
      axis,
      LANE / 2,
      [
        {
          data: { values: timed.filter(({ failing }) => failing > 0).map(({ x, x2, failing }) => ({ x, x2, y: 0, y2: failing })) },
          mark: { type: 'rect', color: PLOT_COLOURS.minus, fillOpacity: 0.85 },
          encoding: { x: xOf(axis), x2: { field: 'x2' }, y: yOf('y', [0, worst * 1.05], { tickCount: 2, labelExpr: PERCENT_LABEL }), y2: { field: 'y2' } },
        },
      ],
      'Share of requests that failed, over time',
    ),
    latency: latencies.length === 0 ? null : await latencyPlot(axis, latencies),
  };
}

/** A scale of powers where the slow ones would press the others flat. */
const STEEP = 25;

async function latencyPlot(
  axis: TimeAxis,
  latencies: readonly (Span & { readonly p50: number; readonly p95: number; readonly p99: number })[],
): Promise<string> {
  const [least, most] = [Math.min(...latencies.map(({ p50 }) => p50)), Math.max(...latencies.map(({ p99 }) => p99))];
  const isSteep = least > 0 && most / least > STEEP;
  const domain: readonly [number, number] = isSteep ? [least * 0.8, most * 1.25] : [0, most * 1.08];
  const lines = [
    { field: 'p99', colour: PLOT_COLOURS.minus, width: 1.5 },
    { field: 'p95', colour: PLOT_COLOURS.plum, width: 1.5 },
    { field: 'p50', colour: PLOT_COLOURS.mark, width: 2 },
  ] as const;
  return framed(
    axis,
    LANE,
    lines.flatMap(({ field, colour, width }) => {
      const spans = latencies.map(({ x, x2, [field]: value }) => ({ x, x2, y: value }));
      const y = yOf('y', domain, {}, isSteep ? { type: 'log' } : {});
      const rules = { data: { values: spans }, mark: { type: 'rule', color: colour, strokeWidth: width }, encoding: { x: xOf(axis), x2: { field: 'x2' }, y } };
      return [thread(axis, spans, colour, y), rules];
    }),
    'Latency: the median, 95 % and 99 % of requests, over time',
  );
}

/** Rows of each window, and those whose label came. */
export async function rowsPlot(axis: TimeAxis, steps: readonly WindowStep[]): Promise<string> {
  const bars = steps.flatMap(({ from, to, rows, labelled }) => {
    const span = spanOf(axis, from, to);
    return span === null ? [] : [{ ...span, y: 0, rows, labelled }];
  });
  const y = yOf('y', [0, Math.max(1, ...bars.map(({ rows }) => rows)) * 1.05], { tickCount: 2, tickMinStep: 1 });
  return framed(
    axis,
    LANE / 2,
    (
      [
        ['rows', PLOT_COLOURS.soft, 0.3],
        ['labelled', PLOT_COLOURS.mark, 0.85],
      ] as const
    ).map(([field, color, fillOpacity]) => ({
      data: { values: bars },
      mark: { type: 'rect', color, fillOpacity },
      encoding: { x: xOf(axis), x2: { field: 'x2' }, y, y2: { field } },
    })),
    'Rows of each window, and those whose label came',
  );
}
