import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, lstat, mkdir, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { MillraceError, type Problem } from '../contracts/errors.ts';
import { Sha256Schema } from '../contracts/ids.ts';
import { safePath } from './artifact-paths.ts';
import {
  type FileOwner,
  type MlflowSource,
  problemList,
  type SelectionOptions,
  selectFrom,
  type SourceFile,
  SourceLoggedModelSchema,
  SourceRunSchema,
} from './mlflow-source.ts';

/**
 * Experiments, runs, models and their files as a folder that can be imported elsewhere.
 *
 * Invariants:
 * 1. `manifest.json` is written last, with the hash of each list; the list of artifacts names each by its hash. A folder without it
 *    is not whole, and is refused.
 * 2. A file has its name when all of it is there. An artifact that is there with the right hash is kept when the export is made again.
 * 3. Nothing of a folder is believed before its hashes have been looked at, all of them; no path of it leads out of it: lists have the
 *    names below, artifacts are named by their hashes, links are refused.
 */
const FORMAT = 'millrace-export/1';
const MANIFEST = 'manifest.json';
const LISTS = ['experiments.jsonl', 'runs.jsonl', 'metrics.jsonl', 'logged-models.jsonl', 'models.jsonl', 'artifacts.jsonl'] as const;
type ListName = (typeof LISTS)[number];
const ARTIFACTS = 'artifacts';
const PART = '.part';
const POINTS_A_LINE = 5_000;
const MOST_LINE_BYTES = 256 * 2 ** 20;
const PIECE_BYTES = 1 << 20;

const countsSchema = z.object({
  experiments: z.number(),
  runs: z.number(),
  metrics: z.number(),
  loggedModels: z.number(),
  models: z.number(),
  versions: z.number(),
  files: z.number(),
  artifacts: z.number(),
  bytes: z.number(),
});
const ManifestSchema = z.object({
  format: z.literal(FORMAT),
  /** UTC ISO. */
  createdAt: z.string(),
  /** Of the package that made it. */
  millrace: z.string(),
  counts: countsSchema,
  files: z.array(z.object({ path: z.enum(LISTS), sizeBytes: z.number(), sha256: Sha256Schema })).length(LISTS.length),
});
type Manifest = z.infer<typeof ManifestSchema>;
export type ExportCounts = z.infer<typeof countsSchema>;

const fileSchema = z.object({ path: z.string(), sha256: Sha256Schema, sizeBytes: z.number() });
type ListedFile = z.infer<typeof fileSchema>;
const lineSchemas = {
  run: z.object({ run: z.unknown(), files: z.array(fileSchema) }),
  metric: z.object({ run_id: z.string(), key: z.string(), points: z.array(z.unknown()) }),
  loggedModel: z.object({ experiment_id: z.string(), model: z.unknown(), files: z.array(fileSchema) }),
  model: z.object({ model: z.unknown(), versions: z.array(z.object({ version: z.unknown(), files: z.array(fileSchema) })) }),
  artifact: z.object({ sha256: Sha256Schema, sizeBytes: z.number() }),
};

const artifactPath = (folder: string, sha256: string): string => join(folder, ARTIFACTS, sha256.slice(0, 2), sha256.slice(2));

async function hashOf(path: string): Promise<{ readonly sha256: string; readonly sizeBytes: number } | null> {
  const info = await lstat(path).catch(() => null);
  // a link may lead anywhere
  if (info?.isFile() !== true) return null;
  const hash = createHash('sha256');
  let sizeBytes = 0;
  for await (const piece of createReadStream(path, { highWaterMark: PIECE_BYTES }) as AsyncIterable<Buffer>) {
    hash.update(piece);
    sizeBytes += piece.length;
  }
  return { sha256: hash.digest('hex'), sizeBytes };
}

interface ListWriter {
  add(line: unknown): Promise<void>;
  /** Gives it its name. */
  end(): Promise<Manifest['files'][number]>;
  abandon(): Promise<void>;
}

async function listWriter(folder: string, path: ListName): Promise<ListWriter> {
  const part = join(folder, `${path}${PART}`);
  const handle: FileHandle = await open(part, 'w', 0o600);
  const hash: Hash = createHash('sha256');
  let sizeBytes = 0;
  let waiting: Buffer[] = [];
  let waitingBytes = 0;
  const flush = async (): Promise<void> => {
    const all = Buffer.concat(waiting);
    waiting = [];
    waitingBytes = 0;
    hash.update(all);
    sizeBytes += all.length;
    await handle.writeFile(all);
  };
  return {
    async add(line) {
      const bytes = Buffer.from(`${JSON.stringify(line)}\n`);
      waiting.push(bytes);
      waitingBytes += bytes.length;
      if (waitingBytes >= PIECE_BYTES) await flush();
    },
    async end() {
      await flush();
      await handle.sync();
      await handle.close();
      await rename(part, join(folder, path));
      return { path, sizeBytes, sha256: hash.digest('hex') };
    },
    async abandon() {
      await handle.close().catch(() => undefined);
      await rm(part, { force: true });
    },
  };
}

/** Writes an artifact, unless it is there as it should be. @returns its hash, and whether it was there */
async function writeArtifact(folder: string, file: SourceFile): Promise<{ readonly sha256: string; readonly sizeBytes: number; readonly kept: boolean }> {
  if (file.sha256 !== undefined) {
    const there = await hashOf(artifactPath(folder, file.sha256));
    if (there?.sha256 === file.sha256) return { ...there, kept: true };
  }
  const part = join(folder, `artifact${PART}`);
  const hash = createHash('sha256');
  let sizeBytes = 0;
  const handle = await open(part, 'w', 0o600);
  try {
    for await (const piece of await file.open()) {
      hash.update(piece);
      sizeBytes += piece.length;
      await handle.writeFile(piece);
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
  const sha256 = hash.digest('hex');
  const path = artifactPath(folder, sha256);
  await mkdir(dirname(path), { recursive: true });
  await rename(part, path);
  return { sha256, sizeBytes, kept: false };
}

/** A folder that is empty, or holds an export, whole or not. @throws USAGE for any other */
async function prepareFolder(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const ours = new Set<string>([MANIFEST, `${MANIFEST}${PART}`, ARTIFACTS, `artifact${PART}`, ...LISTS, ...LISTS.map((name) => `${name}${PART}`)]);
  const foreign = (await readdir(folder)).filter((name) => !ours.has(name));
  if (foreign.length > 0)
    throw new MillraceError('USAGE', 'The folder holds something that is no export.', {
      problems: foreign.slice(0, 20).map((name) => ({ path: name, message: 'is not of an export' })),
      fix: 'Give a new or an empty folder, or that of an export that was broken off.',
    });
  // from now on it is not whole
  await rm(join(folder, MANIFEST), { force: true });
}

export interface ExportOptions extends SelectionOptions {
  readonly source: MlflowSource;
  readonly folder: string;
  /** Of the package. */
  readonly version: string;
  readonly onProgress?: (counts: ExportCounts) => void;
}

/**
 * Writes the folder, or goes on with one that was broken off.
 * @throws MillraceError CONFLICT for names that are not there, USAGE for a folder that holds something else, DISK_FULL
 */
export async function exportToFolder(options: ExportOptions): Promise<{ readonly createdAt: string; readonly counts: ExportCounts; readonly kept: number }> {
  try {
    return await writeFolder(options);
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT'))
      throw new MillraceError('DISK_FULL', 'The disk of the folder is full. What was written is kept: the same command goes on.');
    throw error;
  }
}

async function writeFolder({ source, folder, version, onProgress, ...selection }: ExportOptions) {
  const problems = problemList();
  const selected = await selectFrom(source, selection, problems);
  problems.throwAny((n) => `${String(n)} ${n === 1 ? 'thing stands' : 'things stand'} in the way: nothing was exported.`, 'See each.');
  await prepareFolder(folder);
  const lists = new Map<ListName, ListWriter>();
  for (const name of LISTS) lists.set(name, await listWriter(folder, name));
  const to = (name: ListName): ListWriter => lists.get(name) as ListWriter;
  const counts = { experiments: 0, runs: 0, metrics: 0, loggedModels: 0, models: 0, versions: 0, files: 0, artifacts: 0, bytes: 0 };
  const written = new Set<string>();
  let kept = 0;
  const filesOf = async (owner: FileOwner): Promise<readonly ListedFile[]> => {
    const files: ListedFile[] = [];
    for await (const file of source.files(owner)) {
      const path = safePath(file.path);
      const known = file.sha256 !== undefined && file.sizeBytes !== undefined && written.has(file.sha256);
      const { sha256, sizeBytes, ...made } = known ? { sha256: file.sha256, sizeBytes: file.sizeBytes, kept: false } : await writeArtifact(folder, file);
      files.push({ path, sha256, sizeBytes });
      counts.files++;
      counts.bytes += sizeBytes;
      if (made.kept) kept++;
      if (written.has(sha256)) continue;
      written.add(sha256);
      counts.artifacts++;
      await to('artifacts.jsonl').add({ sha256, sizeBytes });
    }
    onProgress?.({ ...counts });
    return files;
  };
  try {
    for (const one of selected.experiments) {
      const id = one.experiment.experiment_id;
      let holds = selection.models === undefined || selection.experiments?.includes(one.experiment.name) === true;
      let asked = false;
      const may = async (): Promise<void> => {
        if (!asked) await selection.requireMay?.('experiment', one.experiment.name);
        asked = true;
      };
      if (holds) await may();
      for await (const raw of source.runs(id)) {
        const run = SourceRunSchema.parse(raw);
        if (!one.takes(run)) continue;
        await may();
        holds = true;
        for (const { key } of run.data.metrics)
          for await (const page of source.history(run.info.run_id, key))
            for (let from = 0; from < page.length; from += POINTS_A_LINE) {
              const points = page.slice(from, from + POINTS_A_LINE);
              counts.metrics += points.length;
              await to('metrics.jsonl').add({ run_id: run.info.run_id, key, points });
            }
        counts.runs++;
        await to('runs.jsonl').add({ run: raw, files: await filesOf({ kind: 'run', id: run.info.run_id, root: run.info.artifact_uri }) });
      }
      for await (const raw of source.loggedModels(id)) {
        const model = SourceLoggedModelSchema.parse(raw);
        if (!one.takesModel(model)) continue;
        await may();
        holds = true;
        counts.loggedModels++;
        const files = await filesOf({ kind: 'loggedModel', id: model.info.model_id, root: model.info.artifact_uri });
        await to('logged-models.jsonl').add({ experiment_id: id, model: raw, files });
      }
      if (!holds) continue;
      counts.experiments++;
      await to('experiments.jsonl').add(one.raw);
    }
    for (const { model, raw, versions } of selected.models) {
      const all: { readonly version: unknown; readonly files: readonly ListedFile[] }[] = [];
      for (const { version: of, raw: one } of versions)
        all.push({ version: one, files: await filesOf({ kind: 'version', model: model.name, version: of.version, root: of.source }) });
      counts.models++;
      counts.versions += versions.length;
      await to('models.jsonl').add({ model: raw, versions: all });
    }
    const files: Manifest['files'] = [];
    for (const list of lists.values()) files.push(await list.end());
    const manifest: Manifest = { format: FORMAT, createdAt: new Date().toISOString(), millrace: version, counts, files };
    await removeUnlisted(folder, written);
    await writeFile(join(folder, `${MANIFEST}${PART}`), `${JSON.stringify(manifest, null, 2)}\n`, { mode: 0o600, flush: true });
    await rename(join(folder, `${MANIFEST}${PART}`), join(folder, MANIFEST));
    return { createdAt: manifest.createdAt, counts, kept };
  } catch (error) {
    for (const list of lists.values()) await list.abandon();
    throw error;
  }
}

/** What an earlier export into the folder had and this one has not. */
async function removeUnlisted(folder: string, written: ReadonlySet<string>): Promise<void> {
  for (const start of await readdir(join(folder, ARTIFACTS)).catch(() => []))
    for (const rest of await readdir(join(folder, ARTIFACTS, start)).catch(() => []))
      if (!written.has(`${start}${rest}`)) await rm(join(folder, ARTIFACTS, start, rest), { force: true, recursive: true });
}

/** A line of a file, and where it stands. */
interface Line {
  readonly value: unknown;
  readonly start: number;
  readonly length: number;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new MillraceError('SOURCE_MALFORMED', 'A line of the export is not JSON.');
  }
}

async function* linesOf(path: string): AsyncGenerator<Line> {
  let rest: Buffer[] = [];
  let start = 0;
  let length = 0;
  for await (const piece of createReadStream(path, { highWaterMark: PIECE_BYTES }) as AsyncIterable<Buffer>) {
    let from = 0;
    for (let end = piece.indexOf(10); end !== -1; end = piece.indexOf(10, from)) {
      rest.push(piece.subarray(from, end));
      length += end - from;
      yield { value: parsed(Buffer.concat(rest).toString('utf8')), start, length };
      start += length + 1;
      [rest, length, from] = [[], 0, end + 1];
    }
    rest.push(piece.subarray(from));
    length += piece.length - from;
    if (length > MOST_LINE_BYTES) throw new MillraceError('INVALID_REQUEST', 'A line of the export is too long.');
  }
}

/**
 * The folder of an export as a source. All its hashes are looked at first.
 * @throws MillraceError SOURCE_NOT_FOUND without a manifest, ARTIFACT_CORRUPT with every file that is missing or has changed
 */
export async function openExportFolder(folder: string, onProgress?: (checked: number) => void): Promise<MlflowSource & { readonly counts: ExportCounts }> {
  const manifest = await readManifest(folder);
  const damaged: Problem[] = [];
  const check = async (path: string, shown: string, expected: { readonly sha256: string; readonly sizeBytes: number }): Promise<void> => {
    const found = await hashOf(path);
    if (found === null) damaged.push({ path: shown, message: 'is missing, or no plain file' });
    else if (found.sha256 !== expected.sha256 || found.sizeBytes !== expected.sizeBytes)
      damaged.push({ path: shown, message: 'has changed', found: found.sha256 });
  };
  for (const name of LISTS) {
    const listed = manifest.files.find(({ path }) => path === name);
    if (listed === undefined) damaged.push({ path: name, message: 'is not in the manifest' });
    else await check(join(folder, name), name, listed);
  }
  const refuseDamaged = (): void => {
    if (damaged.length > 0)
      throw new MillraceError('ARTIFACT_CORRUPT', 'Files of the export are missing or have changed. Nothing was imported.', {
        problems: damaged.slice(0, 100),
        fix: 'Export again into the folder: what is as it should be is kept.',
      });
  };
  // what is listed is believed only when the lists are what they were
  refuseDamaged();
  let checked = 0;
  const known = new Set<string>();
  for await (const { value } of linesOf(join(folder, 'artifacts.jsonl'))) {
    const artifact = lineSchemas.artifact.parse(value);
    known.add(artifact.sha256);
    await check(artifactPath(folder, artifact.sha256), `${ARTIFACTS}/${artifact.sha256.slice(0, 2)}/${artifact.sha256.slice(2)}`, artifact);
    onProgress?.(++checked);
  }
  refuseDamaged();

  const metricLines = new Map<string, { readonly start: number; readonly length: number }[]>();
  const metricId = (runId: string, key: string): string => `${runId} ${key}`;
  for await (const { value, start, length } of linesOf(join(folder, 'metrics.jsonl'))) {
    const { run_id, key } = lineSchemas.metric.parse(value);
    const lines = metricLines.get(metricId(run_id, key)) ?? [];
    lines.push({ start, length });
    metricLines.set(metricId(run_id, key), lines);
  }
  /** Files of each run, logged model and version. */
  const files = new Map<string, readonly ListedFile[]>();
  const list = async function* (name: ListName): AsyncGenerator {
    for await (const { value } of linesOf(join(folder, name))) yield value;
  };
  for await (const value of list('runs.jsonl')) {
    const { run, files: of } = lineSchemas.run.parse(value);
    files.set(`run ${SourceRunSchema.parse(run).info.run_id}`, of);
  }
  for await (const value of list('logged-models.jsonl')) {
    const { model, files: of } = lineSchemas.loggedModel.parse(value);
    files.set(`loggedModel ${SourceLoggedModelSchema.parse(model).info.model_id}`, of);
  }
  const versionKey = (version: unknown): string => {
    const { name, version: number } = z.object({ name: z.string(), version: z.coerce.number() }).parse(version);
    return `version ${String(number)} ${name}`;
  };
  for await (const value of list('models.jsonl'))
    for (const { version, files: of } of lineSchemas.model.parse(value).versions) files.set(versionKey(version), of);
  const unknown = [...files.values()].flat().filter(({ sha256 }) => !known.has(sha256));
  if (unknown.length > 0)
    throw new MillraceError('ARTIFACT_CORRUPT', 'The export names artifacts that it does not hold. Nothing was imported.', {
      problems: unknown.slice(0, 100).map(({ path, sha256 }) => ({ path, message: 'is not among the artifacts', found: sha256 })),
    });

  return {
    name: folder,
    counts: manifest.counts,
    experiments: () => list('experiments.jsonl'),
    async *runs(experimentId) {
      for await (const value of list('runs.jsonl')) {
        const { run } = lineSchemas.run.parse(value);
        if (SourceRunSchema.parse(run).info.experiment_id === experimentId) yield run;
      }
    },
    async *history(runId, key) {
      const lines = metricLines.get(metricId(runId, key)) ?? [];
      if (lines.length === 0) return;
      const handle = await open(join(folder, 'metrics.jsonl'), 'r');
      try {
        for (const { start, length } of lines) {
          const { buffer } = await handle.read(Buffer.alloc(length), 0, length, start);
          yield lineSchemas.metric.parse(JSON.parse(buffer.toString('utf8'))).points;
        }
      } finally {
        await handle.close();
      }
    },
    async *loggedModels(experimentId) {
      for await (const value of list('logged-models.jsonl')) {
        const { experiment_id, model } = lineSchemas.loggedModel.parse(value);
        if (experiment_id === experimentId) yield model;
      }
    },
    async *models() {
      for await (const value of list('models.jsonl')) yield lineSchemas.model.parse(value).model;
    },
    async *versions(name) {
      for await (const value of list('models.jsonl')) {
        const { model, versions } = lineSchemas.model.parse(value);
        if ((model as { readonly name?: unknown }).name === name) for (const { version } of versions) yield version;
      }
    },
    async *files(owner) {
      await Promise.resolve();
      const key = owner.kind === 'version' ? `version ${String(owner.version)} ${owner.model}` : `${owner.kind} ${owner.id}`;
      for (const { path, sha256, sizeBytes } of files.get(key) ?? [])
        yield { path, sha256, sizeBytes, open: () => Promise.resolve(createReadStream(artifactPath(folder, sha256))) };
    },
  };
}

async function readManifest(folder: string): Promise<Manifest> {
  let text: string;
  try {
    if (!(await lstat(join(folder, MANIFEST))).isFile()) throw new Error('no plain file');
    text = await readFile(join(folder, MANIFEST), 'utf8');
  } catch {
    throw new MillraceError('SOURCE_NOT_FOUND', `There is no whole export in ${folder}: it has no ${MANIFEST}.`, {
      fix: 'Give the folder of an export; one that was broken off is made whole by the same `millrace export` again.',
    });
  }
  try {
    return ManifestSchema.parse(JSON.parse(text));
  } catch {
    throw new MillraceError('SOURCE_MALFORMED', `${MANIFEST} is not of an export that this Millrace knows (${FORMAT}).`);
  }
}
