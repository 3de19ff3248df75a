/** Tells of what windows showed: alerts to people, requests to the pipeline's retraining controller. */
import { MillraceError } from '../contracts/errors.ts';
import type { Finding } from '../contracts/monitoring.ts';
import { askRetraining } from './ask-retraining.ts';
import { changeBehind } from './change-in-windows.ts';
import { type FoundWindow, isMeasured } from './monitor-findings.ts';
import { type Look, sameVersion } from './monitor-look.ts';

/** What is the matter now: of each thing what the newest window says in which it was measured. `known`: newest first. */
export function standing(known: readonly FoundWindow[]): readonly { readonly window: FoundWindow; readonly finding: Finding }[] {
  const [newest] = known;
  if (newest === undefined) return [];
  const windows = sameVersion(known, newest.figures.version);
  const seen = new Set<string>();
  return windows.flatMap((window) =>
    (window.figures.findings ?? []).flatMap((finding) => {
      const key = JSON.stringify([finding.check, finding.subject]);
      if (seen.has(key)) return [];
      seen.add(key);
      return windows.find(({ figures }) => isMeasured(finding, figures)) === window ? [{ window, finding }] : [];
    }),
  );
}

export async function settleAlerts({ deps, options }: Look, known: readonly FoundWindow[]): Promise<void> {
  const { endpoint } = options;
  await deps.store.alerts.settle({
    kinds: ['drift', 'quality', 'skew', 'data', 'system'],
    endpoint,
    firing: standing(known)
      .filter(({ finding }) => finding.firing)
      .map(({ finding: { kind, check, subject, what, since, against, sure, windowsInARow } }) => ({
        kind,
        endpoint,
        subject: check === 'schema' ? `${subject} missing` : subject,
        what: `${what}${windowsInARow > 1 ? `, in ${String(windowsInARow)} windows in a row` : ''}.`,
        since,
        against,
        sure,
        look: `/api/v1/endpoints/${endpoint}/windows`,
        command: `millrace endpoints windows ${endpoint}`,
      })),
  });
}

/** What a controller is told of as one thing: drift of any column is one, whichever is worst. */
const conditionOf = ({ check, subject }: Finding): string => (check === 'drift' ? 'drift' : `${check} ${subject}`);

/** Asks for each thing once a streak, and says when one is over. */
export async function askForRetraining(
  { deps, options }: Look,
  pipeline: string,
  known: readonly FoundWindow[],
  touched: readonly FoundWindow[],
  before: ReturnType<typeof standing>,
): Promise<boolean> {
  const { endpoint } = options;
  const source = `monitor/${endpoint}`;
  const now = standing(known).filter(({ finding }) => finding.retrain);
  const conditions = new Set(now.map(({ finding }) => conditionOf(finding)));
  const earlier = new Set(before.filter(({ finding }) => finding.retrain).map(({ finding }) => conditionOf(finding)));
  const due = new Map<string, typeof now>();
  for (const one of now) {
    const condition = conditionOf(one.finding);
    if (touched.includes(one.window) && !earlier.has(condition)) due.set(condition, [...(due.get(condition) ?? []), one]);
  }
  const over = [...earlier].filter((condition) => !conditions.has(condition));
  if (due.size + over.length > 0 && pipeline === '') throw new MillraceError('INTERNAL', `The monitor of ${endpoint} has no pipeline.`);
  for (const condition of over) await askRetraining(deps, pipeline, { reason: `${condition} is over`, source, condition, recovered: true });
  for (const [condition, found] of due) {
    const [first] = found;
    if (first === undefined) continue;
    const { window, finding } = first;
    const { what, since, windowsInARow, against, sure, value, limit, subject } = finding;
    const { model, version } = window.figures.version;
    const change = changeBehind(
      finding,
      sameVersion(known, { model, version }).filter(({ to }) => to <= window.to),
    );
    await askRetraining(deps, pipeline, {
      reason: `${what} in ${String(windowsInARow)} ${windowsInARow === 1 ? 'window' : 'windows'} in a row`,
      source,
      condition,
      key: `${source} ${model} ${String(version)} ${condition} ${since}`.slice(0, 300),
      at: window.to,
      evidence: {
        endpoint,
        from: window.from,
        to: window.to,
        // a streak begins where a threshold is passed: what is behind it may have begun earlier
        ...(change !== null && change.at < since ? { changePoint: change.at, changeFound: change.found } : { changePoint: since }),
        version: { model, version },
        rows: window.figures.rows,
        worst: { column: subject, value, limit, against, sure },
        findings: found.slice(0, 20).map((one) => one.finding),
        look: `/api/v1/endpoints/${endpoint}/windows`,
      },
    });
  }
  return due.size > 0;
}
