/** Since when things are otherwise, as an endpoint's stored windows show it. */
import { METRICS } from '../contracts/evaluation.ts';
import { type Finding, type WindowFigures, WindowFiguresSchema } from '../contracts/monitoring.ts';
import { lastChange } from '../ml/drift/change-point.ts';
import type { Store } from '../store/store.ts';
import type { FoundWindow } from './monitor-findings.ts';

interface WindowChange {
  /** Start of the first window after the change, UTC ISO. */
  readonly at: string;
  /** Sentence for people: of what it is, and what it is found by. */
  readonly found: string;
}

/** Windows that are looked at. */
const MOST_WINDOWS = 400;
/** Metrics of which a change is looked for where no finding names one: the first that windows have. */
const CHIEF = ['auc', 'accuracy', 'rmse', 'mae', 'r2'] as const;

/** The change behind a finding: where its figure's newest level begins. Null where the figure is not one of numbers, or has no change. `windows`: of one version, newest first. */
export function changeBehind({ check, subject }: Pick<Finding, 'check' | 'subject'>, windows: readonly FoundWindow[]): WindowChange | null {
  const points = windows.slice(0, MOST_WINDOWS).flatMap(({ from, figures }) => {
    const value = figureOf(check, subject, figures);
    return value === undefined || !Number.isFinite(value) ? [] : [{ from, value }];
  });
  points.reverse();
  const start = lastChange(points.map(({ value }) => value));
  const first = start === null ? undefined : points[start];
  if (start === null || first === undefined) return null;
  const mean = (part: typeof points): number => part.reduce((sum, { value }) => sum + value, 0) / part.length;
  const name = check === 'drift' ? `the drift of ${subject}` : subject;
  return {
    at: first.from,
    found: `${name} went from ${mean(points.slice(0, start)).toPrecision(3)} to ${mean(points.slice(start)).toPrecision(3)}, by optimal partitioning of ${String(points.length)} windows`,
  };
}

function figureOf(check: Finding['check'], subject: string, { decision, quality, estimated, outcomes }: WindowFigures): number | undefined {
  switch (check) {
    case 'drift':
      return Math.max(...(decision?.columns.find(({ column }) => column === subject)?.tests.map(({ effect }) => effect) ?? [Number.NaN]));
    case 'quality':
      return quality?.metrics[subject];
    case 'estimated':
      return estimated?.metrics[subject.replace(/^estimated /, '')]?.value;
    case 'outcome':
      return outcomes?.[subject]?.mean;
    default:
      return undefined;
  }
}

/** The latest change that the windows of a pipeline's endpoints show, of what the newest one finds to be the matter or of its chief metric; null where there is none. */
export async function changeInWindows(store: Store, pipeline: string): Promise<(WindowChange & { readonly endpoint: string }) | null> {
  const changes = [];
  for (const { endpoint } of await store.monitoring.listMonitors({ pipeline })) {
    const stored = await store.monitoring.listWindows({ endpoint, limit: MOST_WINDOWS });
    const read = stored.flatMap(({ from, to, figures }): FoundWindow[] => {
      const known = WindowFiguresSchema.safeParse(figures);
      return known.success ? [{ from, to, figures: known.data }] : [];
    });
    const [newest] = read;
    if (newest === undefined) continue;
    const { model, version } = newest.figures.version;
    const windows = read.filter(({ figures }) => figures.version.model === model && figures.version.version === version);
    const chief = METRICS.filter((metric) => (CHIEF as readonly string[]).includes(metric)).find((metric) =>
      windows.some(({ figures }) => figures.quality?.metrics[metric] !== undefined),
    );
    const series: Pick<Finding, 'check' | 'subject'>[] = [
      ...(newest.figures.findings ?? []),
      ...(chief === undefined ? [] : [{ check: 'quality' as const, subject: chief }]),
    ];
    for (const one of series) {
      const change = changeBehind(one, windows);
      if (change !== null) changes.push({ ...change, endpoint });
    }
  }
  return changes.sort((a, b) => (a.at < b.at ? 1 : a.at > b.at ? -1 : 0))[0] ?? null;
}
