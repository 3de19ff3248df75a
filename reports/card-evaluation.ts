import type { ModelCard } from '../contracts/model-card.ts';
import { METRIC_TABLE, metricDefinition } from '../contracts/metrics.ts';
import { calibrationPlot, curvePlot, residualsPlot } from './card-plots.ts';
import { betterMark, difference, metricName, pValue, score, sliceName, words } from './card-text.ts';
import { numberPlot } from './report-plots.ts';
import { count, escaped, figure, share } from './report-text.ts';

/** Parts of a model card that say how good the version is; each is empty where nothing is known. */
type Report = NonNullable<ModelCard['evaluation']>;

const SLICES_SHOWN = 8;
const CLASSES_SHOWN = 12;

const percent = (confidence: number): string => `${String(Number((confidence * 100).toPrecision(4)))} %`;

function metricTable(report: Report, names: readonly string[]): string {
  const { metrics, intervals, champion, confidence } = report;
  const withIntervals = names.some((name) => intervals[name] !== undefined);
  const rows = names.map((name) => {
    const interval = intervals[name];
    const range = interval === undefined ? '' : `${score(interval.low)} to ${score(interval.high)}`;
    return `<tr><td>${escaped(metricName(name))}${betterMark(name)}</td><td class="n">${score(metrics[name])}</td>${withIntervals ? `<td class="n soft">${range}</td>` : ''}${champion === null ? '' : `<td class="n">${score(champion.metrics[name])}</td>`}</tr>`;
  });
  return `<table class="fit"><thead><tr><th>metric</th><th class="n">value</th>${withIntervals ? `<th class="n">${confidence === null ? 'interval' : `${percent(confidence)} interval`}</th>` : ''}${champion === null ? '' : `<th class="n">champion (${String(champion.version)})</th>`}</tr></thead><tbody>${rows.join('')}</tbody></table>`;
}

const TESTS = { delong: 'DeLong’s test', mcnemar: 'McNemar’s test', 'paired-bootstrap': 'paired bootstrap' } as const;

function championText({ champion, metric }: Report): string {
  if (champion === null) return '';
  const { comparison } = champion;
  const against = `<p>Champion when this version was judged: version ${String(champion.version)}${champion.model === '' ? '' : ` of ${escaped(champion.model)}`}, on the same rows.`;
  if (comparison === null) return `${against}</p>`;
  const { improvement, low, high, confidence, pValue: p, method } = comparison;
  return `${against} By ${escaped(metricName(metric))} this one is ${improvement < 0 ? 'worse' : 'better'} by ${score(Math.abs(improvement))} (${percent(confidence)} interval ${difference(low)} to ${difference(high)}; ${TESTS[method]}, ${pValue(p)}).</p>`;
}

/** Whether the rows it was judged on are others than those that it was trained and chosen by. */
const isUnseen = ({ data }: ModelCard): boolean => {
  const test = data.find(({ role }) => role === 'test');
  return test !== undefined && data.some(({ role }) => role === 'training') && data.every(({ role, id }) => role === 'test' || id !== test.id);
};

export function metricsPart(facts: ModelCard): string {
  const { evaluation } = facts;
  if (evaluation === null) return '';
  const order = Object.keys(METRIC_TABLE);
  const names = Object.keys(evaluation.metrics).sort((a, b) => order.indexOf(a) - order.indexOf(b));
  const isHeadline = (name: string): boolean => name === evaluation.metric || metricDefinition(name)?.headline === true;
  const headline = names.filter(isHeadline).sort((a, b) => Number(b === evaluation.metric) - Number(a === evaluation.metric));
  const others = names.filter((name) => !isHeadline(name));
  const own = Object.entries(evaluation.business).map(([name, value]) => `<tr><td>${escaped(words(name))}</td><td class="n">${figure(value)}</td></tr>`);
  return `<h2 id="metrics">Metrics</h2><p class="soft">On ${count(evaluation.rows)} rows${isUnseen(facts) ? ' that are neither those of training nor those of validation' : ''}.</p>${metricTable(evaluation, headline)}${
    others.length === 0 ? '' : `<details><summary>${count(others.length)} more metrics</summary>${metricTable(evaluation, others)}</details>`
  }${championText(evaluation)}${own.length === 0 ? '' : `<h3>Figures of its own</h3><table class="fit"><tbody>${own.join('')}</tbody></table>`}`;
}

const STATES = { holds: { text: 'holds', style: 'good' }, warns: { text: 'warning', style: 'warn' }, fails: { text: 'fails', style: 'bad' } } as const;

/** Acceptance rules and tests of behaviour. */
export function rulesPart({ rules, evaluation }: ModelCard): string {
  const tests = evaluation?.tests ?? [];
  const told = rules.map(
    ({ rule, found, state }) =>
      `<tr><td class="state ${STATES[state].style}">${STATES[state].text}</td><td>${escaped(rule)}</td><td class="n">${found === null ? '–' : escaped(found)}</td></tr>`,
  );
  const tested = tests.map(({ what, kind, tried, failed, passed, severity }) => {
    const { text, style } = STATES[passed ? 'holds' : severity === 'warn' ? 'warns' : 'fails'];
    return `<tr><td class="state ${style}">${text}</td><td>${escaped(what)} <span class="tag">${escaped(words(kind))}</span></td><td class="n">${failed === 0 ? `all of ${count(tried)}` : `${count(failed)} of ${count(tried)} fail`}</td></tr>`;
  });
  const rulesTable =
    told.length === 0
      ? ''
      : `<h2 id="rules">Acceptance rules</h2><table class="fit rules"><thead><tr><th></th><th>rule</th><th class="n">found</th></tr></thead><tbody>${told.join('')}</tbody></table>`;
  return `${rulesTable}${
    tested.length === 0
      ? ''
      : `<h2 id="behaviour">Tests of behaviour</h2><table class="fit rules"><thead><tr><th></th><th>test</th><th class="n">cases</th></tr></thead><tbody>${tested.join('')}</tbody></table>`
  }`;
}

const card = (title: string, inner: string, style = ''): string => `<section class="card${style}"><h3>${title}</h3>${inner}</section>`;

/** Rows by what they are and what they were answered, as a table whose cells are the darker the more of their row they hold. */
export function confusionTable({ classes, counts }: NonNullable<Report['curves']['confusion']>): string {
  const shown = Math.min(CLASSES_SHOWN, classes.length);
  const rest = classes.length - shown;
  const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
  const merged = (row: readonly number[]): number[] => (rest === 0 ? [...row] : [...row.slice(0, shown), sum(row.slice(shown))]);
  const lines = counts.slice(0, shown).map(merged);
  if (rest > 0) {
    const others = counts.slice(shown);
    lines.push(merged(classes.map((_, column) => sum(others.map((row) => row[column] ?? 0)))));
  }
  const names = [...classes.slice(0, shown), ...(rest > 0 ? [`${count(rest)} more`] : [])];
  const body = lines.map((line, place) => {
    const total = sum(line);
    const cells = line.map((value, answered) => {
      const part = total === 0 ? 0 : value / total;
      return `<td class="cell${part > 0.55 ? ' full' : ''}${answered === place ? ' right' : ''}" style="--share:${(part * 100).toFixed(0)}%">${count(value)}<small>${total === 0 ? '–' : `${(part * 100).toFixed(1)} %`}</small></td>`;
    });
    return `<tr><th scope="row">${escaped(names[place] ?? '')}</th>${cells.join('')}</tr>`;
  });
  const head = names.map((name) => `<th scope="col">${escaped(name)}</th>`);
  return `<div class="scroll"><table class="confusion"><thead><tr><th class="corner">is ↓ &nbsp; answered →</th>${head.join('')}</tr></thead><tbody>${body.join('')}</tbody></table></div>`;
}

export async function curvesPart({ evaluation, task }: ModelCard): Promise<string> {
  if (evaluation === null) return '';
  const { roc, precisionRecall, calibration, brierParts, confusion, residuals } = evaluation.curves;
  const { metrics, threshold } = evaluation;
  const cards: string[] = [];
  const positive = task.kind === 'binary' ? (task.classes[1] ?? '') : '';
  const confusionCounts = confusion?.counts;
  const [[right = 0, alarms = 0] = [], [missed = 0, found = 0] = []] = confusionCounts?.length === 2 ? confusionCounts : [];
  const total = right + alarms + missed + found;
  const dot = total === 0 || threshold === null ? '' : ` Dot: at the threshold, ${figure(Number(threshold.toPrecision(4)))}.`;
  if (roc !== undefined && roc.length > 1) {
    const plot = await curvePlot(
      {
        points: roc.map(({ falsePositiveRate: x, truePositiveRate: y }) => ({ x, y })),
        xTitle: 'false positive rate',
        yTitle: 'true positive rate',
        guide: [
          { x: 0, y: 0 },
          { x: 1, y: 1 },
        ],
        ...(total === 0 ? {} : { at: { x: alarms / Math.max(1, right + alarms), y: found / Math.max(1, missed + found) } }),
      },
      `ROC curve${metrics['auc'] === undefined ? '' : ` with an area of ${score(metrics['auc'])}`}`,
    );
    cards.push(card('ROC', `${plot}<p class="soft">Area ${score(metrics['auc'])}.${dot}</p>`));
  }
  if (precisionRecall !== undefined && precisionRecall.length > 1) {
    const base = total === 0 ? (precisionRecall.at(-1)?.precision ?? 0) : (missed + found) / total;
    const plot = await curvePlot(
      {
        points: precisionRecall.map(({ recall: x, precision: y }) => ({ x, y })),
        xTitle: 'recall',
        yTitle: 'precision',
        guide: [
          { x: 0, y: base },
          { x: 1, y: base },
        ],
        ...(found + alarms === 0 ? {} : { at: { x: found / Math.max(1, missed + found), y: found / (found + alarms) } }),
      },
      `Precision over recall${metrics['averagePrecision'] === undefined ? '' : `, average precision ${score(metrics['averagePrecision'])}`}`,
    );
    cards.push(
      card(
        'Precision and recall',
        `${plot}<p class="soft">Average precision ${score(metrics['averagePrecision'])}; ${share(base, 1)} of the rows are ${escaped(positive)}.${dot}</p>`,
      ),
    );
  }
  if (calibration !== undefined && calibration.length > 0) {
    const what = task.kind === 'binary' ? `share that is ${positive}`.slice(0, 40) : 'share answered rightly';
    const plot = await calibrationPlot(calibration, what, `Calibration in ${String(calibration.length)} bins`);
    const parts =
      brierParts === undefined
        ? ''
        : ` Brier score: reliability ${score(brierParts.reliability)}, resolution ${score(brierParts.resolution)}, uncertainty ${score(brierParts.uncertainty)}.`;
    cards.push(
      card(
        'Calibration',
        `${plot}<p class="soft">${metrics['ece'] === undefined ? '' : `Expected calibration error ${score(metrics['ece'])}.`} Bars: 95 % intervals.${parts}</p>`,
      ),
    );
  }
  if (confusion !== undefined && confusion.classes.length > 0) {
    const note = confusion.classes.length > CLASSES_SHOWN ? `<p class="soft">The ${String(CLASSES_SHOWN)} most frequent classes.</p>` : '';
    cards.push(
      card(
        'Confusion',
        `${confusionTable(confusion)}<p class="soft">Rows, and their share of the class that they are.${threshold === null ? '' : ` ${escaped(positive)} from ${figure(Number(threshold.toPrecision(4)))} on.`}</p>${note}`,
        confusion.classes.length > 6 ? ' broad' : confusion.classes.length > 3 ? ' wider' : '',
      ),
    );
  }
  if (residuals !== undefined && residuals.points.length > 0) {
    const { points, histogram, quantiles } = residuals;
    cards.push(
      card(
        'Residuals',
        `${await residualsPlot(points, `Residuals of ${String(points.length)} rows over their answers`)}<p class="soft">${count(points.length)} rows, in even steps from the least answer to the greatest.</p>`,
      ),
    );
    const edges = [...histogram.map(({ from }) => from), histogram.at(-1)?.to ?? 0];
    const at = (q: string): number => quantiles[q] ?? 0;
    const plot = await numberPlot(
      { edges, counts: histogram.map(({ rows }) => rows), spread: [at('5%'), at('25%'), at('50%'), at('75%'), at('95%')], height: 180 },
      `Histogram of residuals, from ${figure(edges[0])} to ${figure(edges.at(-1))}`,
    );
    const five = (['5%', '25%', '50%', '75%', '95%'] as const).map(
      (q) => `<div><dt>${q === '50%' ? 'median' : q.replace('%', ' %')}</dt><dd>${figure(Number(at(q).toPrecision(3)))}</dd></div>`,
    );
    cards.push(
      card(
        'Distribution of residuals',
        `${plot}<dl class="five">${five.join('')}</dl><p class="soft">The outermost bars hold half a per cent each of what lies beyond.</p>`,
      ),
    );
  }
  return cards.length === 0 ? '' : `<h2 id="curves">Curves</h2><div class="cards">${cards.join('')}</div>`;
}

/** An interval on a line, and where the whole is, as a small picture in a row of a table. */
function intervalMark(
  value: number,
  low: number | undefined,
  high: number | undefined,
  whole: number | undefined,
  [from, to]: readonly [number, number],
): string {
  const x = (at: number): string => (((at - from) / (to - from || 1)) * 108 + 6).toFixed(1);
  const all = whole === undefined || whole < from || whole > to ? '' : `<path d="M${x(whole)},0v16" stroke="#5b6875" stroke-dasharray="2 2"/>`;
  const range = low === undefined || high === undefined ? '' : `<path d="M${x(low)},8H${x(high)}" stroke="#2f6f9f" stroke-width="2"/>`;
  return `<svg viewBox="0 0 120 16" aria-hidden="true">${all}${range}<circle cx="${x(value)}" cy="8" r="3.5" fill="#2f6f9f"/></svg>`;
}

export function slicesPart({ evaluation, hiddenSlices }: ModelCard): string {
  const lists = (evaluation?.slices ?? []).filter(({ values }) => values.length > 0);
  if (evaluation === null || (lists.length === 0 && hiddenSlices.length === 0)) return '';
  const cards = lists.map(({ column, metric, values, tooSmall, withoutValue }) => {
    const whole = evaluation.metrics[metric];
    const ends = [...values.flatMap(({ metric: value, low, high }) => [value, low ?? value, high ?? value]), ...(whole === undefined ? [] : [whole])].filter(
      Number.isFinite,
    );
    const range = [Math.min(...ends), Math.max(...ends)] as const;
    const rows = values.map(
      ({ value, rows: n, metric: of, low, high }) =>
        `<tr><td>${escaped(sliceName(value))}</td><td class="n">${count(n)}</td><td class="n">${score(of)}</td><td class="mark">${intervalMark(of, low, high, whole, range)}</td></tr>`,
    );
    const head = `<thead><tr><th>value</th><th class="n">rows</th><th class="n">${escaped(metricName(metric))}</th><th></th></tr></thead>`;
    const table = (lines: readonly string[]): string => `<table class="slices">${head}<tbody>${lines.join('')}</tbody></table>`;
    const more = rows.length - SLICES_SHOWN;
    // one more line takes less room than what says that there is one
    const cut = more > 1 ? SLICES_SHOWN : rows.length;
    const left = [
      ...(tooSmall > 0 ? [`${count(tooSmall)} with too few rows`] : []),
      ...(withoutValue > 0 ? [`${count(withoutValue)} in which the metric has no value`] : []),
    ];
    return card(
      `By ${escaped(column)}`,
      `${table(rows.slice(0, cut))}${cut < rows.length ? `<details><summary>${count(more)} better ones</summary>${table(rows.slice(cut))}</details>` : ''}${left.length === 0 ? '' : `<p class="soft">Not listed: ${left.join(', ')}.</p>`}`,
    );
  });
  const hidden = hiddenSlices.length === 0 ? '' : `<p class="soft">Not shown, because their values are personal: ${hiddenSlices.map(escaped).join(', ')}.</p>`;
  const isMarked = lists.some(({ values }) => values.some(({ low }) => low !== undefined));
  return `<h2 id="slices">Slices</h2><p class="soft">The worst first. Dotted: all rows${isMarked ? '; lines: intervals' : ''}.</p>${hidden}<div class="cards two">${cards.join('')}</div>`;
}
