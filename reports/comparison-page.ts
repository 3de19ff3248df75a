import type { ComparedMetric, ComparedSlice, ComparedVersion, Figure, ModelComparison, Verdict } from '../contracts/model-comparison.ts';
import { difference, metricName, plain, pValue, score } from './card-text.ts';
import { pageFrame } from './report-frame.ts';
import { drawn, NUMBER_LABEL, PLOT_COLOURS, PLOT_WIDTH, type Spec } from './report-plots.ts';
import { count, escaped, figure, timeText } from './report-text.ts';

const SQUARE_HEIGHT = 300;
const DRAWN_SLICES = 24;
const MOST_SLICES = 200;
const METRIC_CARD_HEIGHT = 74;
/** Numbers end at their column's edge. */
const AFTER_NUMBER = ' style="padding-left:1rem"';

/** Two versions beside each other, as a page: figures with their intervals, curves, slices, parameters, data, size and latency. */
export async function comparisonPage(comparison: ModelComparison): Promise<string> {
  const { a, b, metrics, slices } = comparison;
  const title = `${label(a)} and ${label(b)}`;
  const judged = metrics.filter(({ a: left, b: right }) => left !== null && right !== null);
  const cards: string[] = [];
  for (const metric of judged.filter(({ a: left, b: right }) => left?.low != null && right?.low != null)) cards.push(await metricCard(metric));
  const curves = await curvesOf(comparison);
  const body = [
    `<h1>${escaped(title)}</h1>`,
    legendOf(a, b),
    rowsNote(comparison),
    versionsTable(a, b),
    judged.length === 0 ? '' : `<h2>Metrics</h2>${pairedNote(comparison)}`,
    cards.length === 0 ? '' : `<div class="cards">${cards.join('')}</div>`,
    metrics.length === 0 ? '' : metricsTable(metrics, a, b),
    curves.length === 0 ? '' : `<h2>Curves</h2><div class="cards two">${curves.join('')}</div>`,
    slices.length === 0 ? '' : `<h2>Slices</h2>${await slicesPlot(slices)}${slicesTable(slices, a, b)}`,
    parametersTable(comparison),
    dataTable(comparison),
  ];
  return pageFrame(title, body.filter((part) => part !== '').join('\n'));
}

const label = ({ model, version }: ComparedVersion): string => `${model} ${String(version)}`;

const legendOf = (a: ComparedVersion, b: ComparedVersion): string =>
  `<p class="legend"><span><i class="dot" style="--c:var(--mark);--o:1"></i>A: ${escaped(label(a))}</span><span><i class="dot" style="--c:var(--minus);--o:1"></i>B: ${escaped(label(b))}</span></p>`;

const rowsNote = ({ sameRows }: ModelComparison): string =>
  sameRows === false
    ? '<p class="warn">They were judged on different rows: a difference may come of the rows.</p>'
    : sameRows === null
      ? '<p class="soft">One of them has no evaluation with its card: only what the registry has is compared.</p>'
      : '<p class="good">Both were judged on the same rows.</p>';

function pairedNote({ paired, a, b }: ModelComparison): string {
  if (paired === null) return '<p class="soft">“Better” and “worse” are said where the intervals do not meet. No paired test of the two is stored.</p>';
  const by = `${escaped(metricName(paired.metric))} ${difference(paired.improvement)} (${difference(paired.low)} to ${difference(paired.high)}, ${pValue(paired.pValue)}, ${escaped(paired.method)})`;
  return `<p>On the same rows, ${escaped(label(b))} against ${escaped(label(a))}: ${by}; above 0 is better.</p>`;
}

const VERDICTS: Readonly<Record<Verdict, string>> = {
  better: '<span class="good">better</span>',
  worse: '<span class="bad">worse</span>',
  same: 'not told apart',
};
const verdictText = (verdict: Verdict | null): string => (verdict === null ? '–' : VERDICTS[verdict]);
const figureText = (found: Figure | null): string =>
  found === null
    ? '–'
    : found.low === null || found.high === null
      ? score(found.value)
      : `${score(found.value)} <small class="soft">${score(found.low)} to ${score(found.high)}</small>`;
const differenceText = (value: number | null): string => (value === null ? '–' : value === 0 ? '0' : difference(value));

function versionsTable(a: ComparedVersion, b: ComparedVersion): string {
  const row = (term: string, of: (version: ComparedVersion) => string | null): string => {
    const [left, right] = [of(a), of(b)];
    return left === null && right === null ? '' : `<tr><th>${term}</th><td>${left ?? '–'}</td><td>${right ?? '–'}</td></tr>`;
  };
  const ms = (value: number | null | undefined): string => (value == null ? '–' : `${figure(Number(value.toPrecision(3)))} ms`);
  return `<div class="scroll"><table class="pairs fit"><thead><tr><th></th><th>A: ${escaped(label(a))}</th><th>B: ${escaped(label(b))}</th></tr></thead><tbody>${[
    row('status', ({ status, aliases }) => escaped([status, ...aliases].join(', '))),
    row('made', ({ createdAt }) => timeText(createdAt)),
    row('run', ({ run }) => (run === null ? null : `<code>${escaped(run.id.slice(0, 12))}</code> ${escaped(run.pipeline)}`)),
    row('commit', ({ run }) => (run?.commit == null ? null : `<code>${escaped(run.commit.slice(0, 12))}</code>${run.clean === false ? ' with changes' : ''}`)),
    row('trainer', ({ card }) => (card === null ? null : escaped(card.trainer.name))),
    row('training rows', ({ card }) => (card?.training == null ? null : count(card.training.rows))),
    row('training time', ({ card }) => (card?.training?.cpuSeconds == null ? null : `${figure(Number(card.training.cpuSeconds.toPrecision(3)))} s of CPU`)),
    row('training memory', ({ card }) => (card?.training?.peakMib == null ? null : `${count(Math.round(card.training.peakMib))} MiB`)),
    row('size', ({ card }) => (card === null ? null : `${figure(Number((card.onnxSizeBytes / 1024).toPrecision(3)))} KiB`)),
    row('requests answered', ({ serving }) => (serving === null ? null : `${count(serving.requests)}, ${count(serving.errors)} failed`)),
    row('latency', ({ serving }) => (serving === null ? null : `p50 ${ms(serving.p50Ms)}, p99 ${ms(serving.p99Ms)}, mean ${ms(serving.meanMs)}`)),
  ].join('')}</tbody></table></div>`;
}

/** Both figures with their intervals, on one axis. */
async function metricCard({ metric, a, b, verdict, difference: by }: ComparedMetric): Promise<string> {
  const values = [
    { who: 'A', ...a },
    { who: 'B', ...b },
  ];
  const ends = values.flatMap(({ low, high, value }) => [low ?? value ?? 0, high ?? value ?? 0]);
  const [least, most] = [Math.min(...ends), Math.max(...ends)];
  const room = (most - least || Math.abs(most) || 1) * 0.08;
  const x = {
    type: 'quantitative',
    scale: { domain: [least - room, most + room], nice: false, zero: false },
    axis: { title: null, tickCount: 4, labelExpr: NUMBER_LABEL, grid: true, domain: false, ticks: false, labelPadding: 5 },
  };
  const y = { field: 'who', type: 'nominal', axis: { title: null, domain: false, ticks: false, labelPadding: 6 } };
  const colour = { field: 'who', type: 'nominal', scale: { domain: ['A', 'B'], range: [PLOT_COLOURS.mark, PLOT_COLOURS.minus] }, legend: null };
  const spec = {
    width: PLOT_WIDTH,
    height: METRIC_CARD_HEIGHT,
    autosize: { type: 'fit', contains: 'padding' },
    data: { values },
    layer: [
      { mark: { type: 'rule', strokeWidth: 2 }, encoding: { y, x: { ...x, field: 'low' }, x2: { field: 'high' }, color: colour } },
      { mark: { type: 'point', filled: true, size: 64, opacity: 1 }, encoding: { y, x: { ...x, field: 'value' }, color: colour } },
    ],
  };
  const svg = await drawn(spec as unknown as Spec, `${metric} of A and B with their intervals`);
  return `<section class="card"><div class="head"><h3>${escaped(metricName(metric))}</h3><span>${verdictText(verdict)}</span></div>${svg}<p class="soft">${differenceText(by)}</p></section>`;
}

function metricsTable(metrics: readonly ComparedMetric[], a: ComparedVersion, b: ComparedVersion): string {
  const rows = metrics.map(
    ({ metric, better, a: left, b: right, difference: by, verdict }) =>
      `<tr><td>${escaped(metricName(metric))}${better === null ? '' : ` <span class="soft">${better} is better</span>`}</td><td class="n">${figureText(left)}</td><td class="n">${figureText(right)}</td><td class="n">${differenceText(by)}</td><td${AFTER_NUMBER}>${verdictText(verdict)}</td></tr>`,
  );
  return `<div class="scroll whole"><table><thead><tr><th>metric</th><th class="n">A: ${escaped(label(a))}</th><th class="n">B: ${escaped(label(b))}</th><th class="n">B − A</th><th${AFTER_NUMBER}>B is</th></tr></thead><tbody>${rows.join('')}</tbody></table></div>`;
}

interface CurvePoint {
  readonly x: number;
  readonly y: number;
}

/** Curves of both over each other, where both have them. */
async function curvesOf({ a, b }: ModelComparison): Promise<readonly string[]> {
  const [left, right] = [a.card?.evaluation?.curves, b.card?.evaluation?.curves];
  if (left === undefined || right === undefined) return [];
  const kinds = [
    {
      name: 'ROC',
      xTitle: 'false positive rate',
      yTitle: 'true positive rate',
      of: (c: typeof left) => c.roc?.map((p) => ({ x: p.falsePositiveRate, y: p.truePositiveRate })),
    },
    {
      name: 'Precision and recall',
      xTitle: 'recall',
      yTitle: 'precision',
      of: (c: typeof left) => c.precisionRecall?.map((p) => ({ x: p.recall, y: p.precision })),
    },
    {
      name: 'Calibration',
      xTitle: 'mean probability',
      yTitle: 'frequency',
      of: (c: typeof left) => c.calibration?.map((p) => ({ x: p.meanProbability, y: p.frequency })),
    },
  ];
  const found: string[] = [];
  for (const { name, xTitle, yTitle, of } of kinds) {
    const [ofA, ofB] = [of(left), of(right)];
    if (ofA === undefined || ofB === undefined || ofA.length === 0 || ofB.length === 0) continue;
    found.push(`<section class="card"><h3>${name}</h3>${await curve(ofA, ofB, xTitle, yTitle, `${name} of A and B`)}</section>`);
  }
  return found;
}

async function curve(a: readonly CurvePoint[], b: readonly CurvePoint[], xTitle: string, yTitle: string, told: string): Promise<string> {
  const axis = (title: string) => ({
    title,
    titleFontWeight: 400,
    titleFontSize: 11,
    grid: true,
    domain: false,
    ticks: false,
    labelPadding: 5,
    tickCount: 5,
    labelExpr: NUMBER_LABEL,
  });
  const encoding = {
    x: { field: 'x', type: 'quantitative', scale: { domain: [0, 1], nice: false }, axis: axis(xTitle) },
    y: { field: 'y', type: 'quantitative', scale: { domain: [0, 1], nice: false }, axis: axis(yTitle) },
    order: { field: 'place', type: 'quantitative' },
  };
  const line = (points: readonly CurvePoint[], color: string) => ({
    data: { values: points.map((point, place) => ({ ...point, place })) },
    mark: { type: 'line', color, strokeWidth: 2, strokeJoin: 'round' },
    encoding,
  });
  const spec = {
    width: PLOT_WIDTH,
    height: SQUARE_HEIGHT,
    autosize: { type: 'fit', contains: 'padding' },
    layer: [line(a, PLOT_COLOURS.mark), line(b, PLOT_COLOURS.minus)],
  };
  return drawn(spec as unknown as Spec, told);
}

/** Slices where the two differ most, as two points on a line. */
async function slicesPlot(slices: readonly ComparedSlice[]): Promise<string> {
  const shown = slices.filter(({ a, b }) => a !== null && b !== null).slice(0, DRAWN_SLICES);
  if (shown.length === 0) return '';
  const name = ({ column, value }: ComparedSlice): string => `${column} ${value}`.slice(0, 40);
  const pairs = shown.map((slice) => ({ slice: name(slice), a: slice.a?.value, b: slice.b?.value }));
  const points = shown.flatMap((slice) => [
    { slice: name(slice), who: 'A', value: slice.a?.value },
    { slice: name(slice), who: 'B', value: slice.b?.value },
  ]);
  const y = { field: 'slice', type: 'nominal', sort: null, axis: { title: null, domain: false, ticks: false, labelPadding: 6, labelLimit: 220 } };
  const x = {
    type: 'quantitative',
    scale: { zero: false, nice: true },
    axis: { title: shown[0]?.metric ?? '', titleFontWeight: 400, grid: true, tickCount: 6, domain: false, ticks: false, labelExpr: NUMBER_LABEL },
  };
  const spec = {
    width: 2 * PLOT_WIDTH,
    height: 24 * shown.length + 30,
    autosize: { type: 'fit', contains: 'padding' },
    layer: [
      {
        data: { values: pairs },
        mark: { type: 'rule', color: PLOT_COLOURS.line, strokeWidth: 4 },
        encoding: { y, x: { ...x, field: 'a' }, x2: { field: 'b' } },
      },
      {
        data: { values: points },
        mark: { type: 'point', filled: true, size: 60, opacity: 1 },
        encoding: {
          y,
          x: { ...x, field: 'value' },
          color: { field: 'who', type: 'nominal', scale: { domain: ['A', 'B'], range: [PLOT_COLOURS.mark, PLOT_COLOURS.minus] }, legend: null },
        },
      },
    ],
  };
  return `<div class="scroll"><div class="broad-plot">${await drawn(spec as unknown as Spec, 'Slices in which A and B differ most')}</div></div>`;
}

function slicesTable(slices: readonly ComparedSlice[], a: ComparedVersion, b: ComparedVersion): string {
  const rows = slices
    .slice(0, MOST_SLICES)
    .map(
      ({ column, value, metric, rows: n, a: left, b: right, difference: by, verdict }) =>
        `<tr><td>${escaped(column)}</td><td>${escaped(value)}</td><td>${escaped(metricName(metric))}</td><td class="n">${figure(n.a)}</td><td class="n">${figureText(left)}</td><td class="n">${figure(n.b)}</td><td class="n">${figureText(right)}</td><td class="n">${differenceText(by)}</td><td${AFTER_NUMBER}>${verdictText(verdict)}</td></tr>`,
    );
  const more = slices.length > MOST_SLICES ? `<p class="soft">${count(slices.length - MOST_SLICES)} more differ less.</p>` : '';
  return `<details${slices.length > DRAWN_SLICES ? '' : ' open'}><summary>${count(slices.length)} slices</summary><div class="scroll"><table><thead><tr><th>column</th><th>value</th><th>metric</th><th class="n">rows A</th><th class="n">A: ${escaped(label(a))}</th><th class="n">rows B</th><th class="n">B: ${escaped(label(b))}</th><th class="n">B − A</th><th${AFTER_NUMBER}>B is</th></tr></thead><tbody>${rows.join('')}</tbody></table></div>${more}</details>`;
}

function parametersTable({ parameters, a, b }: ModelComparison): string {
  if (parameters.length === 0) return '<h2>Parameters</h2><p>All that is recorded is the same.</p>';
  const rows = parameters.map(
    ({ name, a: left, b: right }) => `<tr><td>${escaped(name)}</td><td><code>${plain(left)}</code></td><td><code>${plain(right)}</code></td></tr>`,
  );
  return `<h2>Parameters that differ</h2><div class="scroll"><table><thead><tr><th>parameter</th><th>A: ${escaped(label(a))}</th><th>B: ${escaped(label(b))}</th></tr></thead><tbody>${rows.join('')}</tbody></table></div>`;
}

function dataTable({ data, a, b }: ModelComparison): string {
  if (data.length === 0) return '';
  const part = (one: ModelComparison['data'][number]['a']): string =>
    one === null ? '–' : `${escaped(one.name)}, ${count(one.rows)} rows <code>${escaped(one.id.slice(0, 12))}</code>`;
  const rows = data.map(
    ({ role, a: left, b: right, same }) =>
      `<tr><td>${escaped(role)}</td><td>${part(left)}</td><td>${part(right)}</td><td>${same ? '<span class="good">the same</span>' : '<span class="warn">differs</span>'}</td></tr>`,
  );
  return `<h2>Data</h2><div class="scroll"><table><thead><tr><th>part</th><th>A: ${escaped(label(a))}</th><th>B: ${escaped(label(b))}</th><th></th></tr></thead><tbody>${rows.join('')}</tbody></table></div>`;
}
