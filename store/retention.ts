import { createHash } from 'node:crypto';
import { MillraceError } from '../contracts/errors.ts';
import type { Artifacts, ListedArtifact } from './artifacts.ts';
import type { DatasetRecord } from './datasets.ts';
import { HASHES, type LiveRoots } from './live-roots.ts';
import type { Store } from './store.ts';

/**
 * Retention: takes the files of old datasets away, and what nothing points to.
 *
 * Invariants:
 * 1. Nothing that a version, an open run, an endpoint or a build points to is taken, by way of any number of artifacts;
 *    nor a golden set, nor the newest dataset of a name.
 * 2. Records first, bytes after: a dataset is marked as collected, then what the records do not reach any more is removed.
 *    Ended anywhere between, the next collection finds the same files unreached and goes on.
 * 3. What was put or kept within the grace period, or since the oldest stage under way began, is not removed: work that
 *    has not recorded its result yet loses nothing. A cached result is kept before it is taken over, and a dataset that is
 *    marked is no hit; made again, it is unmarked by the record of its stage.
 * 4. A damaged artifact that may name others ends the collection: what it named cannot be known.
 */
export interface RetentionOptions {
  /** Datasets neither made nor used for so long are taken. */
  readonly olderThanMs: number;
  /** The newest of each name that stay, however old; at least 1. */
  readonly keepLast: number;
  /** Nothing younger is touched. Default 24 hours; below 2 hours only while no run is open. */
  readonly graceMs?: number;
  /** Says what would go, and changes nothing. */
  readonly dryRun?: boolean;
}

export interface Collection {
  /** Datasets whose records were marked. */
  readonly datasets: readonly DatasetRecord[];
  /** Artifacts removed. */
  readonly files: number;
  readonly sizeBytes: number;
  /** Left in the temporary folder by attempts that were killed; 0 for a dry run. */
  readonly temporaryFiles: number;
}

const DEFAULT_GRACE_MS = 24 * 3_600_000;
/** Use is noted to the hour (store/artifacts.ts). */
const LEAST_GRACE_MS = 2 * 3_600_000;

interface Place {
  readonly store: Pick<Store, 'datasets' | 'runs'>;
  readonly artifacts: Artifacts;
}

/**
 * Collects.
 * @throws MillraceError INVALID_REQUEST for a short grace period while runs are open; ARTIFACT_CORRUPT
 */
export async function collectDatasets(place: Place, options: RetentionOptions): Promise<Collection> {
  const datasets = await markDatasets(place, options);
  const swept = await sweepArtifacts(place, options, options.dryRun === true ? datasets : []);
  return { datasets, ...swept };
}

/** The first half: marks the records, and gives them back. */
export async function markDatasets({ store, artifacts }: Place, { olderThanMs, keepLast, graceMs = DEFAULT_GRACE_MS, dryRun }: RetentionOptions) {
  const state = await store.datasets.retention();
  if (graceMs < LEAST_GRACE_MS && state.openRuns > 0) {
    throw new MillraceError('INVALID_REQUEST', `${state.openRuns} runs are open: the grace period must be 2 hours or more.`, {
      fix: 'Leave --grace out, or wait until no run is waiting or running.',
    });
  }
  const there = await listAll(artifacts);
  const live = await reach(artifacts, there, state.roots, new Set());
  const before = Date.now() - Math.max(olderThanMs, graceMs);
  const places = new Map<string, number>();
  const condemned: DatasetRecord[] = [];
  for (const dataset of await store.datasets.listUncollected()) {
    const place = (places.get(dataset.name) ?? 0) + 1;
    places.set(dataset.name, place);
    const usedAtMs = Math.max(Date.parse(dataset.createdAt), there.get(dataset.id)?.usedAtMs ?? 0);
    if (place > keepLast && usedAtMs < before && !live.kept.has(dataset.id)) condemned.push(dataset);
  }
  if (dryRun !== true) await store.datasets.markCollected(condemned.map(({ id }) => id));
  return condemned;
}

/** The second half: removes what no record reaches. `without`: datasets that a dry run takes for marked. */
export async function sweepArtifacts(
  { store, artifacts }: Place,
  { graceMs = DEFAULT_GRACE_MS, dryRun }: RetentionOptions,
  without: readonly DatasetRecord[] = [],
): Promise<Omit<Collection, 'datasets'>> {
  const startedMs = Date.now();
  const state = await store.datasets.retention();
  const before = Math.min(startedMs - graceMs, state.oldestWorkMs ?? startedMs);
  const there = await listAll(artifacts);
  const collected = new Set([...(await store.datasets.collectedIds()), ...without.map(({ id }) => id)]);
  // Datasets that stay, with what their stages have to tell.
  const staying = (await store.datasets.listUncollected()).filter(({ id }) => !collected.has(id));
  const mentioned = [...state.roots.mentioned, ...staying.flatMap(({ id, profile, report }) => [id, profile ?? id, report ?? id])];
  const { all, kept } = await reach(artifacts, there, { ...state.roots, mentioned }, collected);
  // Marked while a run was taking it over: it is whole, and stays.
  if (dryRun !== true) await store.datasets.unmarkCollected([...collected].filter((id) => kept.has(id) && there.has(id)));
  let files = 0;
  let sizeBytes = 0;
  for (const artifact of there.values()) {
    if (all.has(artifact.sha256) || artifact.usedAtMs >= before) continue;
    if (dryRun !== true && !(await artifacts.remove(artifact.sha256, before))) continue;
    files++;
    sizeBytes += artifact.sizeBytes;
  }
  const temporaryFiles = dryRun === true ? 0 : await artifacts.cleanTemporary(Math.max(startedMs - before, 1));
  return { files, sizeBytes, temporaryFiles };
}

async function listAll(artifacts: Artifacts): Promise<ReadonlyMap<string, ListedArtifact>> {
  const found = new Map<string, ListedArtifact>();
  for await (const artifact of artifacts.list()) found.set(artifact.sha256, artifact);
  return found;
}

/** Follows the roots. `kept`: what must stay; `all`: that, and what is mentioned without a way through `collected`. */
async function reach(artifacts: Artifacts, there: ReadonlyMap<string, ListedArtifact>, roots: LiveRoots, collected: ReadonlySet<string>) {
  const named = new Map<string, Named>();
  const namedBy = async (sha256: string): Promise<Named> => {
    const known = named.get(sha256) ?? (there.has(sha256) ? await readNames(artifacts, sha256) : NOTHING);
    named.set(sha256, known);
    return known;
  };
  const follow = async (from: readonly string[], reached: Set<string>, choose: (names: Named) => readonly string[]): Promise<void> => {
    const open = from.filter((sha256) => !reached.has(sha256));
    for (const sha256 of open) reached.add(sha256);
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      for (const name of choose(await namedBy(next))) {
        if (reached.has(name)) continue;
        reached.add(name);
        open.push(name);
      }
    }
  };
  const kept = new Set<string>();
  await follow(roots.lineage, kept, ({ all }) => all);
  await follow(roots.itself, kept, ({ parts }) => parts);
  const all = new Set(kept);
  const staying = (sha256: string): boolean => !collected.has(sha256);
  await follow(roots.mentioned.filter(staying), all, ({ parts }) => parts.filter(staying));
  return { kept, all };
}

interface Named {
  readonly all: readonly string[];
  /** Without what a dataset was made from. */
  readonly parts: readonly string[];
}
const NOTHING: Named = { all: [], parts: [] };
const OPENING = new Set(['{', '[']);

/** The artifacts that an artifact names: any JSON may. @throws ARTIFACT_CORRUPT */
async function readNames(artifacts: Artifacts, sha256: string): Promise<Named> {
  const bytes = await artifacts.read(sha256);
  if (bytes === undefined) return NOTHING;
  // Read as a stream, however large: a name may lie across two pieces.
  const hash = createHash('sha256');
  const names = new Set<string>();
  let rest = '';
  let isFirst = true;
  for await (const chunk of bytes as AsyncIterable<Buffer>) {
    // leaving the loop destroys the stream
    if (isFirst && !OPENING.has(String.fromCharCode(chunk[0] ?? 0))) return NOTHING;
    isFirst = false;
    hash.update(chunk);
    const text = rest + chunk.toString('latin1');
    // One that ends with the piece may go on: it is looked at with the next.
    for (const match of text.matchAll(HASHES)) if (match.index + 64 < text.length) names.add(match[0]);
    rest = text.slice(-65);
  }
  if (isFirst) return NOTHING;
  for (const [name] of rest.matchAll(HASHES)) names.add(name);
  if (hash.digest('hex') !== sha256)
    throw new MillraceError('ARTIFACT_CORRUPT', 'An artifact that may name others is damaged: nothing was removed.', {
      problems: [{ path: 'sha256', message: 'has other content', found: sha256 }],
    });
  const all = [...names];
  if (!all.length) return NOTHING;
  const parents = new Set(await parentsOf(artifacts, sha256));
  return { all, parts: all.filter((name) => !parents.has(name)) };
}

/** Of a dataset's manifest. Manifests are small; nothing else is asked. */
async function parentsOf(artifacts: Artifacts, sha256: string): Promise<readonly string[]> {
  const value = await artifacts.getJson(sha256).catch(() => null);
  if (value === null || typeof value !== 'object' || !('format' in value) || value.format !== 'millrace-dataset/1' || !('parents' in value)) return [];
  return Array.isArray(value.parents) ? value.parents.filter((name): name is string => typeof name === 'string') : [];
}
