/** One look at what asks for a retraining: what is new since the last one. */
import { createHash } from 'node:crypto';
import { MillraceError } from '../contracts/errors.ts';
import type { RetrainTrigger } from '../contracts/retrain-triggers.ts';
import type { RetrainRequest } from '../contracts/retraining.ts';
import { countAbove } from '../data/count-above.ts';
import { fileIdentities, fingerprintSource } from '../data/fingerprint-source.ts';
import { findFiles } from '../data/remote-files.ts';
import { isFileSource } from '../contracts/source.ts';
import type { Noticed, RetrainTriggerRecord } from '../store/retrain-triggers.ts';
import type { ActivityDependencies } from './dependencies.ts';
import { sourceAccess } from './source-access.ts';

/** Kinds that are looked at; a schedule is Temporal's, and a notification is heard. */
export type WatchedTrigger = Extract<RetrainTrigger, { readonly kind: 'files' | 'rows' | 'labels' | 'snapshot' }>;
export const isWatched = (trigger: RetrainTrigger): trigger is WatchedTrigger => trigger.kind !== 'schedule' && trigger.kind !== 'notify';

type LookDependencies = Pick<ActivityDependencies, 'store' | 'config' | 'artifacts' | 'builds' | 'log'>;

/** What one look needs beside the trigger: sizes of files at the look before, to tell those that still grow. */
export interface LookContext {
  readonly signal: AbortSignal;
  readonly sizes: Map<string, string>;
}

/** Things that are named in a reason and in evidence; the others are counted. */
const NAMED = 5;
const EVIDENCE_ITEMS = 50;

/** What a trigger asks: its own reason first, then what was found. */
export function requestOf(
  trigger: Pick<RetrainTrigger, 'name' | 'reason'>,
  found: string,
  evidence: unknown,
  key: string,
): RetrainRequest & { readonly key: string } {
  return {
    reason: `${trigger.reason === undefined ? '' : `${trigger.reason}: `}${found}`.slice(0, 2_000),
    source: trigger.name,
    evidence,
    at: new Date().toISOString(),
    key: `${createHash('sha256').update(trigger.name).digest('hex').slice(0, 12)}/${key}`,
  };
}

/** @returns null where nothing has to be written */
export async function lookForNews(deps: LookDependencies, record: RetrainTriggerRecord, context: LookContext): Promise<Noticed | null> {
  const { trigger } = record;
  switch (trigger.kind) {
    case 'files':
      return newFiles(deps, record, trigger, context);
    case 'rows':
      return newRows(deps, record, trigger, context.signal);
    case 'labels':
      return newLabels(deps, record, trigger);
    case 'snapshot':
      return newSnapshots(deps, record, trigger);
    default:
      return null;
  }
}

const hashOf = (items: readonly string[]): string => createHash('sha256').update(JSON.stringify(items)).digest('hex').slice(0, 32);
const count = (n: number, one: string): string => `${n.toLocaleString('en')} ${one}${n === 1 ? '' : 's'}`;
const named = (items: readonly string[]): string => `${items.slice(0, NAMED).join(', ')}${items.length > NAMED ? ' and more' : ''}`;

async function newFiles(
  deps: LookDependencies,
  record: RetrainTriggerRecord,
  trigger: Extract<WatchedTrigger, { kind: 'files' }>,
  { signal, sizes }: LookContext,
) {
  const access = sourceAccess(deps, { runId: '', buildId: '' });
  if (!isFileSource(trigger.source)) throw new MillraceError('INTERNAL', 'A watched source of files is none of files.');
  const { files, close } = await findFiles(trigger.source, access, signal).catch((error: unknown) => {
    // a folder that is empty, or not made yet
    if (error instanceof MillraceError && error.code === 'SOURCE_NOT_FOUND') return { files: [], close: () => undefined };
    throw error;
  });
  try {
    const before = new Map(sizes);
    sizes.clear();
    for (const { kind, file } of files) if (kind === 'local') sizes.set(file.label, `${String(file.sizeBytes)} ${String(file.modifiedMs)}`);
    const isFirst = record.state === null;
    // what is written just now is there when it no longer grows; what lies elsewhere appears whole
    const settled = files.filter(({ kind, file }) => kind === 'remote' || isFirst || (file.sizeBytes > 0 && before.get(file.label) === sizes.get(file.label)));
    const identities = await fileIdentities(settled, access, signal);
    const items = new Map(settled.map(({ file }, index) => [hashOf([file.label, identities[index] ?? '']), file.label]));
    if (isFirst) return { state: { since: new Date().toISOString() }, items: [...items.keys()], ask: null };
    const fresh = await deps.store.retrainTriggers.unseen(record.pipeline, record.name, [...items.keys()]);
    if (fresh.length === 0) return null;
    const labels = fresh.map((item) => items.get(item) ?? '').sort();
    const evidence = { files: labels.slice(0, EVIDENCE_ITEMS), count: labels.length };
    return {
      state: record.state,
      items: fresh,
      ask: requestOf(trigger, `${count(labels.length, 'new file')}: ${named(labels)}`, evidence, hashOf([...fresh].sort())),
    };
  } finally {
    close();
  }
}

interface RowsState {
  readonly value: string | null;
  /** Of the source's content at the last look. */
  readonly fingerprint: string | null;
}

async function newRows(deps: LookDependencies, record: RetrainTriggerRecord, trigger: Extract<WatchedTrigger, { kind: 'rows' }>, signal: AbortSignal) {
  const { source, column, atLeast } = trigger;
  const access = sourceAccess(deps, { runId: '', buildId: '' });
  const before = record.state as RowsState | null;
  const fingerprint =
    source.format === 'postgres' ? null : await fingerprintSource(source, access, signal).then(({ known, sha256 }) => (known ? sha256 : null));
  if (before !== null && fingerprint !== null && fingerprint === before.fingerprint) return null;
  const { rows, value } = await countAbove(source, { column, before: before?.value ?? null }, access, { artifacts: deps.artifacts, signal });
  if (before === null) return { state: { value, fingerprint }, ask: null };
  if (rows === 0 || rows < atLeast) return fingerprint === null ? null : { state: { ...before, fingerprint }, ask: null };
  const since = before.value === null ? '' : `, after ${before.value}`;
  return {
    state: { value, fingerprint },
    ask: requestOf(
      trigger,
      `${count(rows, 'new row')} by ${column}${since}`,
      { column, after: before.value, upTo: value, rows },
      hashOf([before.value ?? '', value ?? '']),
    ),
  };
}

interface LabelsState {
  /** Since when labels were counted when it last asked, and how many times `atLeast` there were. */
  readonly since: string;
  readonly times: number;
}

async function newLabels(deps: LookDependencies, record: RetrainTriggerRecord, trigger: Extract<WatchedTrigger, { kind: 'labels' }>) {
  const { endpoint, queue, atLeast } = trigger;
  const before = record.state as LabelsState | null;
  if (before === null) return { state: { since: record.armedAt, times: 0 }, ask: null };
  const trained = await deps.store.retrainTriggers.lastTrainingAt(record.pipeline);
  const since = trained !== null && trained > record.armedAt ? trained : record.armedAt;
  const labels = await deps.store.retrainTriggers.labelsSince({
    since,
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(queue === undefined ? {} : { queue }),
  });
  const times = Math.floor(labels / atLeast);
  if (times <= (before.since === since ? before.times : 0)) return before.since === since ? null : { state: { since, times: 0 }, ask: null };
  const of = endpoint ?? queue ?? '';
  return {
    state: { since, times },
    ask: requestOf(trigger, `${count(labels, 'new label')} of ${of} since ${since}`, { of, since, labels, atLeast }, `${since}/${String(times)}`),
  };
}

async function newSnapshots(deps: LookDependencies, record: RetrainTriggerRecord, trigger: Extract<WatchedTrigger, { kind: 'snapshot' }>) {
  const found = await deps.store.retrainTriggers.foreignSnapshots(trigger.dataset, record.pipeline);
  if (record.state === null) return { state: { since: new Date().toISOString() }, items: found.map(({ id }) => id), ask: null };
  const fresh = await deps.store.retrainTriggers.unseen(
    record.pipeline,
    record.name,
    found.map(({ id }) => id),
  );
  const newest = found.find(({ id }) => fresh.includes(id));
  if (newest === undefined) return null;
  const many = fresh.length === 1 ? 'a new snapshot' : `${String(fresh.length)} new snapshots`;
  return {
    state: record.state,
    items: fresh,
    ask: requestOf(
      trigger,
      `${many} of ${trigger.dataset} by the pipeline ${newest.pipeline}: ${count(newest.rows, 'row')}`,
      { dataset: newest.id, snapshots: fresh.slice(0, EVIDENCE_ITEMS), pipeline: newest.pipeline, run: newest.runId },
      hashOf([...fresh].sort()),
    ),
  };
}
