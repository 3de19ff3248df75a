/** Judges windows again for which labels or outcomes came late. */
import { MillraceError } from '../contracts/errors.ts';
import type { Finding } from '../contracts/monitoring.ts';
import { PredictorSchema } from '../contracts/signature.ts';
import { withDuckDb } from '../data/duckdb.ts';
import { feedbackByWindow } from '../data/monitor-rows.ts';
import { feedbackSegments, predictionSegments } from '../data/prediction-segments.ts';
import { findingsOf, type FoundWindow } from './monitor-findings.ts';
import { earliestLabelled, hooks, type Look, measure, notesOf, putWindow, sameVersion } from './monitor-look.ts';

/** Late windows that one look judges again at most. */
const MOST_LATE = 24;

/** Looks again at windows for which labels or outcomes have come since, the oldest first, and at what they and later ones then show. */
export async function lookAgain(look: Look, known: FoundWindow[], touched: readonly FoundWindow[]): Promise<readonly FoundWindow[]> {
  const { deps, options, until } = look;
  const { endpoint, quality } = options;
  if (quality === false) return [];
  const earliest = earliestLabelled(options, until);
  const open = known
    .filter(
      (window) =>
        !touched.includes(window) && window.to > earliest && window.figures.labelsUntil !== undefined && window.figures.version.predictor !== undefined,
    )
    .toReversed();
  const [first] = open;
  if (first === undefined) return [];
  const { home } = deps.config;
  const since = open.map(({ from, to, figures }) => ({ from, to, since: figures.labelsUntil ?? to }));
  const feedback = await feedbackSegments(
    home,
    endpoint,
    since.reduce((least, one) => (one.since < least ? one.since : least), until),
  );
  if (feedback.length === 0) return [];
  const segments = await predictionSegments(home, endpoint, first.from);
  const { signal } = hooks(deps, endpoint);
  const counts = await withDuckDb({ signal }, (db) => feedbackByWindow(db, { segments, feedback, until, windows: since }));
  const late = open.filter((_, index) => (counts[index] ?? 0) > 0).slice(0, MOST_LATE);
  const changed: FoundWindow[] = [];
  for (const window of late) {
    const { version } = window.figures;
    const predictor = await deps.artifacts.getJson(version.predictor ?? '').catch((error: unknown) => {
      // it was removed with its version: the window stays as it is
      if (error instanceof MillraceError) return null;
      throw error;
    });
    if (predictor === null) continue;
    const {
      quality: judged,
      outcomes,
      log,
    } = await measure(look, { ...window, feedbackUntil: until, predictor: PredictorSchema.parse(predictor), whole: null }, version);
    const notes = (window.figures.notes ?? []).filter((note) => !/label/.test(note));
    const { rows } = window.figures;
    changed.push({
      ...window,
      figures: {
        ...window.figures,
        ...(judged === undefined ? {} : { quality: judged }),
        ...(outcomes === undefined ? {} : { outcomes }),
        ...(log === undefined ? {} : { log }),
        notes: [...notes, ...notesOf({ rows, latencyMs: null, ...(judged === undefined ? {} : { quality: judged }) }, options)],
        labelsUntil: until,
      },
    });
  }
  return refound(look, known, changed);
}

/** Findings of windows that changed, and of those after them: a streak of theirs may have become another one. */
async function refound({ deps, options }: Look, known: FoundWindow[], changed: readonly FoundWindow[]): Promise<readonly FoundWindow[]> {
  const [first] = changed;
  if (first === undefined) return [];
  const replaced = new Map(changed.map((window) => [`${window.from} ${window.to}`, window]));
  const written: FoundWindow[] = [];
  for (let at = known.length - 1; at >= 0; at--) {
    const window = known[at];
    if (window === undefined || window.to < first.to) continue;
    const newer = replaced.get(`${window.from} ${window.to}`);
    const figures = (newer ?? window).figures;
    if (figures.findings === undefined) continue;
    const byLabels = ({ check }: Finding): boolean => check === 'quality' || check === 'outcome';
    const findings = [
      ...findingsOf({ ...window, figures }, sameVersion(known.slice(at + 1), figures.version), options).filter(byLabels),
      ...figures.findings.filter((finding) => !byLabels(finding)),
    ];
    if (newer === undefined && JSON.stringify(findings) === JSON.stringify(figures.findings)) continue;
    const found = { ...window, figures: { ...figures, findings } };
    known[at] = found;
    await putWindow(deps, options.endpoint, found);
    written.push(found);
  }
  return written;
}
