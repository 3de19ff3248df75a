import { mkdir, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { packageVersion } from '../config/package-root.ts';
import { MillraceError } from '../contracts/errors.ts';
import { ValidationResultSchema } from '../contracts/expectations.ts';
import type { OpenLineageConfig } from '../contracts/open-lineage.ts';
import { ProfileSchema } from '../contracts/profile.ts';
import { DatasetManifestSchema } from '../contracts/references.ts';
import type { Artifacts } from '../store/artifacts.ts';
import type { DatasetRecord } from '../store/datasets.ts';
import type { Store } from '../store/store.ts';
import { type DatasetFacts, eventsOf, hashesIn, type OpenLineageEvent, type RunFacts } from './open-lineage-events.ts';
import { postJson } from './post-json.ts';

const AT_ONCE = 20;
/** A process that was killed while it sent holds its line no longer than this and what an attempt takes. */
const LEASE_SECONDS = 60;
/** Events of one run that one attempt sends: a run of thousands of stages is told in the file or not at all within the lease. */
const KEPT_OPEN_MS = 30_000;

export interface OpenLineageDeps {
  readonly store: Pick<Store, 'runs' | 'stages' | 'models' | 'rollouts' | 'openLineage'>;
  readonly artifacts: Pick<Artifacts, 'getJson'>;
  readonly openLineage: OpenLineageConfig;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly log: (level: 'warn', message: string, details?: Readonly<Record<string, unknown>>) => void;
}

/** A receiver did not take an event; `message` names no secret. */
class ReceiverFailure extends Error {
  override readonly name = 'ReceiverFailure';
}

/**
 * Tells what there is to tell of runs, the oldest first, until one is not taken: it is tried again later. Runs do not wait for
 * it. An event may come twice, never not at all: a receiver knows it by its run, type and time.
 *
 * @returns How many lines of the outbox were told.
 */
export async function tellOpenLineage(deps: OpenLineageDeps): Promise<number> {
  const { openLineage } = deps.store;
  await openLineage.gather();
  for (let told = 0; told < AT_ONCE; told++) {
    const due = await openLineage.claim({ leaseSeconds: LEASE_SECONDS });
    if (due === null) return told;
    try {
      await send(deps, eventsOf(due.event, await factsOf(deps, due.runId, due.event), { namespace: deps.openLineage.namespace, version: packageVersion }));
    } catch (error) {
      if (!(error instanceof ReceiverFailure)) throw error;
      deps.log('warn', 'OpenLineage events were not taken; they are sent again', { runId: due.runId, attempt: due.attempt, why: error.message });
      await openLineage.failed(due, error.message);
      return told;
    }
    await openLineage.delivered(due);
  }
  return AT_ONCE;
}

async function factsOf({ store, artifacts }: OpenLineageDeps, runId: string, event: 'start' | 'end'): Promise<RunFacts> {
  const run = await store.runs.get(runId);
  if (event === 'start') return { run, stages: [], datasets: [], versions: [], rollouts: [] };
  const [stages, versions, rollouts] = await Promise.all([store.stages.list(runId), store.models.versionsOfRun(runId), store.rollouts.list({ runId })]);
  const told = stages.filter(({ kind }) => kind !== 'trial');
  const hashes = new Set(told.flatMap(({ input, output }) => [...hashesIn(input), ...hashesIn(output)]));
  const datasets: DatasetFacts[] = [];
  for (const record of await store.openLineage.datasets([...hashes])) datasets.push(await datasetFacts(record, artifacts));
  return { run, stages: told, datasets, versions, rollouts };
}

/** What the artifacts say of a dataset; where they are gone the record alone is told. */
async function datasetFacts(record: DatasetRecord, artifacts: OpenLineageDeps['artifacts']): Promise<DatasetFacts> {
  const bare: DatasetFacts = { record, profile: null, expectations: [], personal: new Set(), files: 0 };
  if (record.collectedAt !== null) return bare;
  try {
    const manifest = DatasetManifestSchema.parse(await artifacts.getJson(record.id));
    const files = manifest.files.length;
    if (manifest.reserved !== null) return { ...bare, files };
    const [profile, report] = await Promise.all([
      record.profile === null ? null : artifacts.getJson(record.profile),
      record.report === null || record.kind !== 'validate' ? null : artifacts.getJson(record.report),
    ]);
    const validation = report === null ? null : ValidationResultSchema.parse(report);
    return {
      record,
      files,
      profile: profile === null ? null : ProfileSchema.parse(profile),
      expectations: validation?.results ?? [],
      personal: new Set([...Object.keys(manifest.sensitive), ...(validation?.personal ?? []).map(({ column }) => column)]),
    };
  } catch (error) {
    if (error instanceof MillraceError && (error.code === 'ARTIFACT_MISSING' || error.code === 'ARTIFACT_CORRUPT')) return bare;
    throw error;
  }
}

async function send({ openLineage, env }: OpenLineageDeps, events: readonly OpenLineageEvent[]): Promise<void> {
  if (openLineage.kind === 'file') {
    await append(openLineage.path, events.map((event) => `${JSON.stringify(event)}\n`).join(''));
    return;
  }
  const key = env[openLineage.keyVariable];
  const until = Date.now() + KEPT_OPEN_MS;
  for (const event of events) {
    if (Date.now() > until) throw new ReceiverFailure(`The receiver took too long for the ${String(events.length)} events of a run.`);
    const headers = key === undefined || key === '' ? {} : { authorization: `Bearer ${key}` };
    const why = await postJson(openLineage.url, JSON.stringify(event), headers, openLineage.timeoutMs);
    if (why !== null) throw new ReceiverFailure(why);
  }
}

/** Appends whole lines, and waits until they are on disk. */
async function append(path: string, lines: string): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true });
    const file = await open(path, 'a');
    try {
      await file.writeFile(lines);
      await file.sync();
    } finally {
      await file.close();
    }
  } catch {
    throw new ReceiverFailure('The file of OpenLineage events could not be written.');
  }
}
