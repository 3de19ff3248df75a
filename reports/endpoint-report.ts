import { type EndpointReport, foldSteps, foldTraffic, type ReportFinding, type ReportMetric, type WindowStep } from '../contracts/endpoint-report.ts';
import { score } from './card-text.ts';
import {
  DESK,
  DRIFT_LEVELS,
  eventsPlot,
  FAILING_LEVELS,
  heatPlot,
  type Layout,
  type Levels,
  PHONE,
  qualityPlot,
  rowsPlot,
  timeAxis,
  type TimeAxis,
  trafficPlots,
  versionColour,
} from './endpoint-report-plots.ts';
import { factsList, pageFrame } from './report-frame.ts';
import { count, escaped, share, timeText } from './report-text.ts';

/** Rows of a heat map; what has no room is counted beneath it. */
const MOST_ROWS = 30;
const MOST_EVENTS = 100;

/** A plot in the two widths in which a page is read. */
async function both(report: EndpointReport, draw: (axis: TimeAxis, steps: readonly WindowStep[]) => Promise<string | null>): Promise<string | null> {
  const one = async (layout: Layout): Promise<string | null> => draw(timeAxis(layout, report), foldSteps(report.monitoring.steps, layout.mostSteps));
  const [desk, phone] = [await one(DESK), await one(PHONE)];
  return desk === null || phone === null ? null : `<div class="desk">${desk}</div><div class="phone">${phone}</div>`;
}

const nothing = (text: string): string => `<p class="empty">${text}</p>`;
const legend = (
  entries: readonly { readonly colour: string; readonly opacity?: number; readonly text: string; readonly isLow?: boolean; readonly shape?: string }[],
): string =>
  `<p class="legend">${entries
    .map(
      ({ colour, opacity = 1, text, isLow, shape }) =>
        `<span><i class="${shape ?? (isLow === true ? 'low' : 'box')}" style="--c:var(--${colour});--o:${String(opacity)}"></i>${text}</span>`,
    )
    .join('')}</p>`;
const levelLegend = (levels: Levels): string => legend(levels.map(({ colour, opacity, text, height }) => ({ colour, opacity, text, isLow: height < 0.6 })));

const versionsOf = ({ served, traffic }: EndpointReport): ReadonlyMap<string, number> => {
  const names = [...served.flatMap(({ champion, challenger }) => [champion, challenger]), ...traffic.steps.flatMap(({ versions }) => versions)].flatMap((of) =>
    of === null ? [] : [`${of.model} ${String(of.version)}`],
  );
  return new Map([...new Set(names)].map((name, place) => [name, place]));
};
const versionLegend = (places: ReadonlyMap<string, number>): string =>
  legend([...places].map(([name, place]) => ({ colour: versionColour(place), text: escaped(name), opacity: 0.85 })));

async function eventsPart(report: EndpointReport, places: ReadonlyMap<string, number>): Promise<string> {
  const { served, events, eventsLeftOut } = report;
  const title = '<h2 id="events">What happened</h2>';
  if (served.length === 0 && events.length === 0)
    return `${title}${nothing('Nothing was served, rolled out or retrained in this time, and no alert was raised.')}`;
  const plot = await both(report, (axis) =>
    eventsPlot(axis, served, events, places, `What served, and ${count(events.length)} rollouts, retrainings and alerts over time`),
  );
  const rows = events
    .toReversed()
    .slice(0, MOST_EVENTS)
    .map(
      ({ kind, at, what, state, command }) =>
        `<tr><td class="when">${timeText(at)}</td><td>${kind}</td><td>${escaped(what)}${command === null ? '' : `<p><code>${escaped(command)}</code></p>`}</td><td>${escaped(state.replaceAll('_', ' '))}</td></tr>`,
    );
  const older = events.length - rows.length + Object.values(eventsLeftOut).reduce((sum, n) => sum + n, 0);
  const table =
    rows.length === 0
      ? nothing('No rollout, retraining or alert in this time.')
      : `<details${rows.length > 12 ? '' : ' open'}><summary>${count(events.length)} rollouts, retrainings and alerts, the newest first</summary><div class="scroll"><table class="events"><thead><tr><th>when (UTC)</th><th>kind</th><th>what</th><th>state</th></tr></thead><tbody>${rows.join('')}</tbody></table></div></details>${older > 0 ? `<p class="soft">${count(older)} older ones are not listed.</p>` : ''}`;
  return `${title}${plot ?? ''}${versionLegend(places)}${legend([
    { colour: 'mark', shape: 'dot', text: 'went well, or is information' },
    { colour: 'minus', shape: 'peak', text: 'failed, was refused or taken back, or waits for someone' },
  ])}<p class="soft">A dotted line through all plots: another version began to answer.</p>${table}`;
}

async function driftPart(report: EndpointReport): Promise<string> {
  const { drift, driftLeftOut, windows } = report.monitoring;
  const title = '<h2 id="drift">Drift</h2>';
  if (windows === 0) return `${title}${nothing(noWindows(report))}`;
  if (drift.length === 0) return `${title}${nothing('No window had enough rows to be measured.')}`;
  const names = drift.slice(0, MOST_ROWS);
  const plot = await both(report, (axis, steps) =>
    heatPlot(axis, { names, steps, valueOf: (step, row) => step.drift[row] ?? null, levels: DRIFT_LEVELS }, `Drift of ${names.join(', ')} over time`),
  );
  const left = driftLeftOut + drift.length - names.length;
  return `${title}${plot ?? ''}${levelLegend(DRIFT_LEVELS)}<p class="soft">How far a column is from its reference, as a multiple of the limit that holds for it. Blank: not measured.${left > 0 ? ` ${count(left)} columns that drifted less are not shown.` : ''}</p>`;
}

async function qualityPart(report: EndpointReport): Promise<string> {
  const { metrics, steps, windows } = report.monitoring;
  const title = '<h2 id="quality">Quality</h2>';
  if (windows === 0) return `${title}${nothing(noWindows(report))}`;
  const labelled = steps.reduce((sum, step) => sum + step.labelled, 0);
  const said = labelled === 0 ? nothing('No labels came yet: what is shown, if anything, is estimated from the scores.') : '';
  const plots: string[] = [];
  let isEstimated = false;
  for (const [place, metric] of metrics.entries()) {
    const plot = await both(report, (axis, folded) =>
      qualityPlot(
        axis,
        metric,
        folded.map((step) => ({ step, labelled: step.labelledQuality[place] ?? null, estimated: step.estimatedQuality[place] ?? null })),
        `${metric.name} by window`,
      ),
    );
    if (plot === null) continue;
    isEstimated ||= steps.some((step) => (step.estimatedQuality[place] ?? null) !== null);
    plots.push(`<h3>${escaped(metric.name)}${latestText(metric, place, steps)}</h3>${plot}`);
  }
  const rows = await both(report, rowsPlot);
  return `${title}${said}${plots.join('')}${
    plots.length === 0
      ? nothing('No metric could be computed or estimated.')
      : legend([
          ...(labelled === 0 ? [] : [{ colour: 'mark', text: 'from labels, with its 95 % interval' }]),
          ...(isEstimated ? [{ colour: 'minus', text: 'estimated without labels, with its error' }] : []),
          ...(metrics.some(({ reference }) => reference !== null) ? [{ colour: 'ink', shape: 'dash', text: 'when the version was judged' }] : []),
        ])
  }<h3>Rows, and labels that came <span class="version">${count(labelled)} of ${count(steps.reduce((sum, step) => sum + step.rows, 0))}</span></h3>${rows ?? ''}`;
}

/** The newest value of a metric beside its name. */
function latestText({ better }: ReportMetric, place: number, steps: readonly WindowStep[]): string {
  const last = steps.findLast((step) => (step.labelledQuality[place] ?? step.estimatedQuality[place] ?? null) !== null);
  const found = last?.labelledQuality[place] ?? last?.estimatedQuality[place];
  if (last === undefined || !found) return '';
  const range = found.low === null || found.high === null ? '' : ` (${score(found.low)} to ${score(found.high)})`;
  return ` <span class="version">${score(found.value)}${range} at ${timeText(last.to)}${better === 'lower' ? '; lower is better' : ''}</span>`;
}

async function trafficPart(report: EndpointReport, places: ReadonlyMap<string, number>): Promise<string> {
  const { steps, stepMs } = report.traffic;
  const title = '<h2 id="traffic">Traffic</h2>';
  if (steps.length === 0)
    return `${title}${nothing('No request was answered in this time.')}<h2 id="latency">Latency and errors</h2>${nothing('No request was answered in this time.')}`;
  const sets = [
    await trafficPlots(timeAxis(DESK, report), foldTraffic(report.traffic, DESK.mostSteps), places),
    await trafficPlots(timeAxis(PHONE, report), foldTraffic(report.traffic, PHONE.mostSteps), places),
  ];
  const shown = (of: 'requests' | 'share' | 'errors' | 'latency'): string | null => {
    const [desk, phone] = sets.map((set) => set[of]);
    return desk === null || desk === undefined || phone === null || phone === undefined
      ? null
      : `<div class="desk">${desk}</div><div class="phone">${phone}</div>`;
  };
  const [requests, errors] = sums(report);
  const shares = shown('share');
  return `${title}<h3>Requests in ${durationText(stepMs)} <span class="version">${count(requests)} in all</span></h3>${shown('requests') ?? ''}${
    shares === null ? '<p class="soft">One version answered everything.</p>' : `<h3>Share of each version</h3>${shares}`
  }${versionLegend(places)}<h2 id="latency">Latency and errors</h2>${
    shown('latency') === null
      ? nothing('No latency was recorded.')
      : `<h3>Latency in milliseconds</h3>${shown('latency') ?? ''}${legend([
          { colour: 'mark', shape: 'dash', text: 'median' },
          { colour: 'plum', shape: 'dash', text: '95 % of requests' },
          { colour: 'minus', shape: 'dash', text: '99 %' },
        ])}`
  }<h3>Requests that failed <span class="version">${count(errors)}, ${share(errors, requests)}</span></h3>${errors === 0 ? nothing('No request failed.') : (shown('errors') ?? '')}`;
}

async function dataQualityPart(report: EndpointReport): Promise<string> {
  const { dataQuality, dataQualityLeftOut, windows } = report.monitoring;
  const title = '<h2 id="data-quality">Data quality</h2>';
  if (windows === 0) return `${title}${nothing(noWindows(report))}`;
  if (dataQuality.length === 0) return `${title}${nothing('No live request failed an expectation of the training data.')}`;
  const names = dataQuality.slice(0, MOST_ROWS);
  const plot = await both(report, (axis, steps) =>
    heatPlot(axis, { names, steps, valueOf: (step, row) => step.failing[row] ?? null, levels: FAILING_LEVELS }, `Rows that fail ${names.join(', ')} over time`),
  );
  const left = dataQualityLeftOut + dataQuality.length - names.length;
  return `${title}${plot ?? ''}${levelLegend(FAILING_LEVELS)}${left > 0 ? `<p class="soft">${count(left)} more are not shown.</p>` : ''}`;
}

const STATE_STYLES = { open: 'bad', over: 'good', noticed: 'warn' } as const;
const findingRow = ({ what, since, until, windows, against, sure, state, command }: ReportFinding): string =>
  `<tr><td class="state ${STATE_STYLES[state]}">${state}</td><td>${escaped(what)}<p><code>${escaped(command)}</code></p></td><td>${timeText(since)}<p class="soft">${state === 'open' ? '' : `until ${timeText(until)}; `}${count(windows)} ${windows === 1 ? 'window' : 'windows'}</p></td><td>${escaped(against ?? '–')}</td><td>${escaped(sure ?? 'a fact')}</td></tr>`;

function findingsPart({ findings, findingsLeftOut, monitoring }: EndpointReport): string {
  const title = '<h2 id="findings">Findings</h2>';
  if (findings.length === 0) return `${title}${nothing(monitoring.windows === 0 ? 'No window was looked at.' : 'The monitor found nothing.')}`;
  return `${title}<div class="scroll"><table class="findings"><thead><tr><th></th><th>what</th><th>since</th><th>against</th><th>how sure</th></tr></thead><tbody>${findings
    .map(findingRow)
    .join('')}</tbody></table></div>${findingsLeftOut > 0 ? `<p class="soft">${count(findingsLeftOut)} more are not listed.</p>` : ''}`;
}

const noWindows = ({ isMonitored, newestWindow }: EndpointReport): string =>
  newestWindow !== null
    ? `The monitor looked at no window of this time; the newest one of all ends at ${timeText(newestWindow)}.`
    : isMonitored
      ? 'The monitor has looked at no window yet.'
      : 'This endpoint has no monitor: a pipeline starts one with monitor().';

const sums = ({ traffic: { steps } }: EndpointReport): readonly [requests: number, errors: number] => [
  steps.reduce((sum, { versions }) => sum + versions.reduce((all, of) => all + of.requests, 0), 0),
  steps.reduce((sum, { versions }) => sum + versions.reduce((all, of) => all + of.errors, 0), 0),
];

const UNITS = [
  ['day', 86_400_000],
  ['hour', 3_600_000],
  ['minute', 60_000],
  ['second', 1_000],
] as const;
function durationText(ms: number): string {
  const [unit, size] = UNITS.find(([, of]) => ms >= of && ms % of === 0) ?? ['second', 1_000];
  const n = ms / size;
  return `${count(n)} ${unit}${n === 1 ? '' : 's'}`;
}

function summary(report: EndpointReport): (readonly [string, string])[] {
  const { monitoring, served, findings } = report;
  const [requests, errors] = sums(report);
  const champion = served.at(-1)?.champion ?? null;
  const open = findings.filter(({ state }) => state === 'open').length;
  return [
    ['Answers', champion === null ? 'nothing' : `${escaped(champion.model)} ${String(champion.version)}`],
    ['Findings that are open', open === 0 ? 'none' : `<a href="#findings">${count(open)}</a>`],
    ['Requests', count(requests)],
    ['Failed', share(errors, requests)],
    ['Windows looked at', count(monitoring.windows)],
  ];
}

/** The page of an endpoint's report: whole in itself, without scripts and without requests, all plots on one time axis. */
export async function endpointReportPage(report: EndpointReport): Promise<string> {
  const { endpoint, from, to, monitoring } = report;
  const places = versionsOf(report);
  const parts = [
    await eventsPart(report, places),
    await driftPart(report),
    await qualityPart(report),
    await dataQualityPart(report),
    await trafficPart(report, places),
    findingsPart(report),
  ].join('');
  const links = [...parts.matchAll(/<h2 id="([a-z-]+)">([^<]*)<\/h2>/g)].map(([, id = '', text = '']) => `<li><a href="#${id}">${text}</a></li>`);
  const folded =
    monitoring.windowsAStep > 1
      ? `<p class="soft">${count(monitoring.windows)} windows are drawn in ${count(monitoring.steps.length)} steps of up to ${count(monitoring.windowsAStep)}: the worst drift and data quality of each step, and the mean of its quality.</p>`
      : '';
  return pageFrame(
    `${endpoint}: how it does`,
    `<header><h1>${escaped(endpoint)}</h1><p class="soft">Endpoint, from ${timeText(from)} to ${timeText(to)}</p>${folded}${factsList(summary(report))}</header><nav aria-label="Contents"><ul>${links.join('')}</ul></nav>${parts}`,
  );
}
