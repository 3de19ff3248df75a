import { createHash } from 'node:crypto';
import { canonicalJson } from '../contracts/canonical-json.ts';
import { MillraceError } from '../contracts/errors.ts';
import { MODEL_FILES } from '../contracts/model-folder.ts';
import { PredictorSchema } from '../contracts/signature.ts';
import { folderOf, inRegistry, safePath } from './artifact-paths.ts';
import type { Artifacts, StoredArtifact } from './artifacts.ts';
import { IMPORT_COUNTS, type ImportCounts, type ImportedFile, type ImportedPoints, type ImportedVersion, type ImportScope } from './imports.ts';
import {
  type FileOwner,
  type MlflowSource,
  problemList,
  type ProblemList,
  readRecord,
  type SelectedModel,
  type SelectionOptions,
  selectFrom,
  type SourceFile,
  type SourceLoggedModel,
  SourceLoggedModelSchema,
  SourcePointSchema,
  type SourceRun,
  SourceRunSchema,
  type SourceVersion,
} from './mlflow-source.ts';
import type { Store } from './store.ts';
import { MLFLOW_RUN_STATUSES } from './tracked-runs.ts';

/**
 * Import of experiments, runs, logged models, registered models and files, from any source.
 *
 * Invariants:
 * 1. All of the source is looked at before anything is written: what stands in the way is told at once, and nothing is imported then.
 * 2. A run's files are stored, each hash held against what was read, before the run is written with all it has in one transaction.
 *    Killed anywhere, the same command goes on behind the last run that is whole.
 * 3. What is there with the same content is left alone; what is there with another one is a problem. A run that was under way when it
 *    was imported is brought up to date.
 * 4. At the end the store's counts are held against the source's.
 */
export interface ImportOptions extends SelectionOptions {
  readonly store: Store;
  readonly artifacts: Artifacts;
  readonly source: MlflowSource;
  readonly onProgress?: (progress: ImportProgress) => void;
}

export interface ImportProgress {
  readonly phase: 'looking' | 'importing' | 'comparing';
  /** Runs and models, done and in all. */
  readonly done: number;
  readonly total: number;
  readonly points: number;
  readonly files: number;
  readonly bytes: number;
}

export interface ImportReport {
  readonly from: string;
  /** What the source has of what was asked for, and what the store has of it now. */
  readonly source: ImportCounts;
  readonly target: ImportCounts;
  readonly matches: boolean;
  /** Records that were written now, and those that were there already. */
  readonly imported: number;
  readonly alreadyThere: number;
  /** Files that were read and stored now, each with its hash checked. */
  readonly checkedFiles: number;
  /** What could not come along, in words: files of versions that lie elsewhere. */
  readonly leftOut: readonly string[];
}

/** Runs that are read at the same time; they are written one by one. */
const RUNS_AT_ONCE = 4;
/** Runs that are compared with the store's at a time. */
const COMPARED_AT_ONCE = 200;
const MILLRACE_TAG = 'millrace.pipeline';

const orNull = (text: string): string | null => (text === '' ? null : text);
const without = (tags: Readonly<Record<string, string>>, key: string): Readonly<Record<string, string>> =>
  Object.fromEntries(Object.entries(tags).filter(([name]) => name !== key));

/** What makes a run this one, field by field; places are another store's, and left out. */
function essence(run: SourceRun, experiment: string): Readonly<Record<string, unknown>> {
  const { info, data, inputs, outputs } = run;
  const byText = (items: readonly unknown[]): readonly string[] => items.map((item) => canonicalJson(item)).sort();
  return {
    experiment,
    name: info.run_name,
    user: info.user_id,
    status: info.status,
    'start time': info.start_time ?? null,
    'end time': info.end_time ?? null,
    lifecycle: info.lifecycle_stage,
    params: data.params,
    tags: data.tags,
    metrics: byText(data.metrics.map((point) => ({ ...point, value: String(point.value) }))),
    datasets: byText(
      inputs.dataset_inputs.map(({ tags, dataset }) => ({ tags, ...dataset, schema: dataset.schema ?? null, profile: dataset.profile ?? null })),
    ),
    models: [byText(inputs.model_inputs), byText(outputs.model_outputs)],
  };
}

function essenceOfModel({ info, data }: SourceLoggedModel, experiment: string): Readonly<Record<string, unknown>> {
  return {
    experiment,
    name: info.name,
    type: info.model_type,
    run: info.source_run_id,
    status: info.status,
    params: data.params,
    tags: info.tags,
  };
}

const different = (a: Readonly<Record<string, unknown>>, b: Readonly<Record<string, unknown>>): readonly string[] =>
  Object.keys(a).filter((field) => canonicalJson(a[field]) !== canonicalJson(b[field]));

async function* batches<T>(items: AsyncIterable<T>, size: number): AsyncGenerator<readonly T[]> {
  let batch: T[] = [];
  for await (const item of items) {
    batch.push(item);
    if (batch.length < size) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

async function* mapped<T, U>(items: AsyncIterable<T>, map: (item: T) => U | null): AsyncGenerator<U> {
  for await (const item of items) {
    const value = map(item);
    if (value !== null) yield value;
  }
}

/** Does the work for each, a few at a time; the first failure ends it when those under way have ended. */
async function eachOf<T>(items: AsyncIterable<T>, work: (item: T) => Promise<void>): Promise<void> {
  const iterator = items[Symbol.asyncIterator]();
  const state = { failed: false };
  let turn = Promise.resolve<unknown>(undefined);
  // generators answer one call at a time
  const next = (): Promise<IteratorResult<T>> => {
    const mine = turn.then(() => iterator.next());
    turn = mine.catch(() => undefined);
    return mine;
  };
  const lane = async (): Promise<void> => {
    try {
      while (!state.failed) {
        const item = await next();
        if (item.done === true) return;
        await work(item.value);
      }
    } catch (error) {
      state.failed = true;
      throw error;
    }
  };
  const ended = await Promise.allSettled(Array.from({ length: RUNS_AT_ONCE }, lane));
  for (const one of ended) if (one.status === 'rejected') throw one.reason;
}

/** @throws MillraceError CONFLICT with everything that stands in the way; nothing is written then */
export async function importMlflow(options: ImportOptions): Promise<ImportReport> {
  const { store, artifacts, source, onProgress } = options;
  const problems = problemList();
  const progress = { phase: 'looking' as ImportProgress['phase'], done: 0, total: 0, points: 0, files: 0, bytes: 0 };
  const tell = (): void => onProgress?.({ ...progress });
  const count: Record<(typeof IMPORT_COUNTS)[number], number> = Object.fromEntries(IMPORT_COUNTS.map((name) => [name, 0])) as never;

  // 1. looking
  tell();
  const selected = await selectFrom(source, options, problems);
  const seen = { experiments: new Set<string>(), runs: new Set<string>(), same: new Set<string>(), loggedModels: new Set<string>(), chosen: new Set<string>() };
  const readRun = (raw: unknown): SourceRun | null => {
    const run = readRecord(SourceRunSchema, raw, `runs.${idOf(raw, 'run_id')}`, problems);
    return run === null ? null : { ...run, data: { ...run.data, tags: without(run.data.tags, MILLRACE_TAG) } };
  };
  const readModel = (raw: unknown): SourceLoggedModel | null => readRecord(SourceLoggedModelSchema, raw, `models.${idOf(raw, 'model_id')}`, problems);

  for (const one of selected.experiments) {
    const { experiment } = one;
    let holds = false;
    for await (const batch of batches(
      mapped(source.runs(experiment.experiment_id), (raw) => {
        const run = readRun(raw);
        return run !== null && one.takes(run) ? run : null;
      }),
      COMPARED_AT_ONCE,
    )) {
      holds = true;
      progress.total += batch.length;
      const there = await runsThere(store, batch);
      for (const run of batch) {
        const id = run.info.run_id;
        seen.runs.add(id);
        const other = there.get(id);
        if (other === undefined) continue;
        const fields = different(essence(run, experiment.name), essence(other.run, other.experiment));
        if (fields.length === 0) seen.same.add(id);
        else if (!isBehind(other, run, experiment.name))
          problems.add(`runs.${id}`, 'is there with another content', {
            found: fields.join(', '),
            fix: 'Compare both; leave its experiment out by --experiments, or import into an empty store.',
          });
      }
      tell();
    }
    for await (const model of mapped(source.loggedModels(experiment.experiment_id), readModel)) {
      if (!one.takesModel(model)) continue;
      holds = true;
      progress.total++;
      const id = model.info.model_id;
      seen.loggedModels.add(id);
      const other = await loggedModelThere(store, id);
      if (other === null) continue;
      const fields = different(essenceOfModel(model, experiment.name), essenceOfModel(other.model, other.experiment));
      if (fields.length === 0) seen.same.add(id);
      else problems.add(`models.${id}`, 'is there with another content', { found: fields.join(', ') });
    }
    if (!holds && options.experiments?.includes(experiment.name) !== true && options.models !== undefined) continue;
    await options.requireMay?.('experiment', experiment.name);
    seen.chosen.add(experiment.experiment_id);
    await lookAtExperiment(store, one.experiment, problems);
  }
  for (const chosen of selected.models) await lookAtModel(store, chosen, problems);
  problems.throwAny(
    (n) => `${String(n)} ${n === 1 ? 'thing stands' : 'things stand'} in the way: nothing was imported.`,
    'See each: what the store has under a name or an id stays as it is. Choose by --experiments and --models, or import into an empty store.',
  );
  await store.audit.write({ action: 'store.import', subject: 'store', details: { from: source.name, runs: seen.runs.size, models: selected.models.length } });

  // 2. importing
  progress.phase = 'importing';
  progress.total += selected.models.length;
  tell();
  const scope: { -readonly [K in keyof ImportScope]: ImportScope[K][number][] } = {
    experiments: [],
    runs: [],
    loggedModels: [],
    models: [],
    versions: [],
    aliases: [],
    folders: [],
  };
  const result = { imported: 0, alreadyThere: 0, checkedFiles: 0 };
  const leftOut: string[] = [];
  /** Where the source says that files of a run or model lie, and where they lie here. */
  const roots = new Map<string, string>();
  let writing = Promise.resolve<unknown>(undefined);
  /** One record is written at a time: reading takes most of the time, and a pool of connections is small. */
  const write = async (work: () => Promise<void>): Promise<void> => {
    const mine = writing.then(work);
    writing = mine.catch(() => undefined);
    await mine;
  };
  const takeIn = async (file: SourceFile): Promise<StoredArtifact> => {
    const stored = await storeFile(artifacts, file);
    result.checkedFiles++;
    progress.files++;
    progress.bytes += stored.sizeBytes;
    tell();
    return stored;
  };
  /** Files of a run or model: stored now, or for one that is there only counted. */
  const filesOf = async (owner: FileOwner, folder: string, isThere: boolean): Promise<readonly ImportedFile[]> => {
    const files: ImportedFile[] = [];
    for await (const file of source.files(owner)) {
      const path = `${folder}/${pathOf(file, 'id' in owner ? owner.id : '')}`;
      if (isThere) {
        const sizeBytes = file.sizeBytes ?? (await store.artifactFiles.find(path))?.sizeBytes ?? 0;
        count.files++;
        count.bytes += sizeBytes;
        continue;
      }
      const { sha256, sizeBytes } = await takeIn(file);
      count.files++;
      count.bytes += sizeBytes;
      files.push({ path, sha256, sizeBytes });
    }
    return files;
  };

  for (const one of selected.experiments) {
    const { experiment } = one;
    if (!seen.chosen.has(experiment.experiment_id)) continue;
    const experimentId = await store.imports.putExperiment({
      name: experiment.name,
      lifecycleStage: experiment.lifecycle_stage,
      tags: without(experiment.tags, MILLRACE_TAG),
      createdAtMs: experiment.creation_time,
      updatedAtMs: experiment.last_update_time,
    });
    const place = folderOf((await store.experiments.get(experimentId)).artifactLocation) ?? experimentId;
    count.experiments++;
    scope.experiments.push(experiment.name);

    await eachOf(
      mapped(source.runs(experiment.experiment_id), (raw) => {
        const run = readRun(raw);
        // what began while this goes on is taken the next time
        return run !== null && seen.runs.has(run.info.run_id) && one.takes(run) ? run : null;
      }),
      async (run) => {
        const { info, data } = run;
        const id = info.run_id;
        const folder = `${place}/${id}/artifacts`;
        roots.set(rootOf(info.artifact_uri), folder);
        const isThere = seen.same.has(id);
        const metrics: ImportedPoints[] = [];
        for (const { key } of data.metrics) {
          const points = await pointsOf(source, id, key);
          count.metrics += points.values.length;
          progress.points += points.values.length;
          if (!isThere) metrics.push(points);
        }
        const files = await filesOf({ kind: 'run', id, root: info.artifact_uri }, folder, isThere);
        count.runs++;
        count.params += Object.keys(data.params).length;
        count.tags += Object.keys(data.tags).length;
        count.datasets += run.inputs.dataset_inputs.length;
        scope.runs.push(id);
        scope.folders.push(folder);
        if (isThere) result.alreadyThere++;
        else {
          await write(() =>
            store.imports.putRun({
              id,
              experimentId,
              name: info.run_name,
              userId: info.user_id,
              status: MLFLOW_RUN_STATUSES[info.status],
              lifecycleStage: info.lifecycle_stage,
              startedAtMs: info.start_time,
              endedAtMs: info.end_time,
              params: data.params,
              tags: data.tags,
              metrics,
              datasets: run.inputs.dataset_inputs.map(({ tags, dataset }) => ({
                name: dataset.name,
                digest: dataset.digest,
                sourceType: dataset.source_type,
                source: dataset.source,
                schema: dataset.schema ?? null,
                profile: dataset.profile ?? null,
                tags,
              })),
              models: [
                ...run.inputs.model_inputs.map(({ model_id }) => ({ modelId: model_id, role: 'input' as const, step: 0 })),
                ...run.outputs.model_outputs.map(({ model_id, step }) => ({ modelId: model_id, role: 'output' as const, step })),
              ],
              files,
            }),
          );
          result.imported++;
        }
        progress.done++;
        tell();
      },
    );

    for await (const model of mapped(source.loggedModels(experiment.experiment_id), readModel)) {
      const { info, data } = model;
      const id = info.model_id;
      if (!seen.loggedModels.has(id) || !one.takesModel(model)) continue;
      const folder = `${place}/models/${id}/artifacts`;
      roots.set(rootOf(info.artifact_uri), folder);
      const isThere = seen.same.has(id);
      const files = await filesOf({ kind: 'loggedModel', id, root: info.artifact_uri }, folder, isThere);
      // a point is of the run that logged it
      const metrics = data.metrics.filter(({ run_id }) => seen.runs.has(run_id));
      if (metrics.length < data.metrics.length) leftOut.push(`${String(data.metrics.length - metrics.length)} metrics of ${id}, whose runs were not asked for`);
      count.loggedModels++;
      count.modelMetrics += metrics.length;
      scope.loggedModels.push(id);
      scope.folders.push(folder);
      if (isThere) result.alreadyThere++;
      else {
        const status = { LOGGED_MODEL_PENDING: 'pending', LOGGED_MODEL_READY: 'ready', LOGGED_MODEL_UPLOAD_FAILED: 'failed' } as const;
        await write(() =>
          store.imports.putLoggedModel({
            id,
            experimentId,
            name: info.name,
            modelType: orNull(info.model_type),
            sourceRunId: orNull(info.source_run_id),
            status: status[info.status],
            createdAtMs: info.creation_timestamp_ms,
            updatedAtMs: info.last_updated_timestamp_ms,
            params: data.params,
            tags: info.tags,
            metrics: metrics.map(({ run_id, key, value, step, timestamp, dataset_name, dataset_digest }) => ({
              runId: run_id,
              key,
              value,
              step,
              atMs: timestamp,
              datasetName: dataset_name,
              datasetDigest: dataset_digest,
            })),
            files,
          }),
        );
        result.imported++;
      }
      progress.done++;
      tell();
    }
  }
  problems.throwAny((n) => `The source has changed meanwhile: ${String(n)} of its records do not fit. What was imported is whole.`, 'Import again.');

  for (const { model, versions } of selected.models) {
    const now = await store.imports.model(model.name);
    const fresh: ImportedVersion[] = [];
    for (const { version } of versions) {
      scope.versions.push({ model: model.name, version: version.version });
      if (now?.versions.some((one) => one.version === version.version) === true) {
        result.alreadyThere++;
        continue;
      }
      const meant = (await ownPredictor(source, version, artifacts, takeIn)) ?? placeOfVersion(version, roots);
      if (meant.predictor === null && meant.folder === null)
        leftOut.push(`the files of ${model.name} version ${String(version.version)}, which lie at ${version.source}`);
      fresh.push({
        ...meant,
        version: version.version,
        runId: orNull(version.run_id),
        runLink: orNull(version.run_link),
        loggedModel: orNull(version.model_id),
        stage: version.current_stage,
        description: orNull(version.description),
        tags: version.tags,
        createdAtMs: version.creation_timestamp,
        updatedAtMs: version.last_updated_timestamp,
      });
    }
    await store.imports.putModel(
      {
        name: model.name,
        description: orNull(model.description),
        tags: model.tags,
        createdAtMs: model.creation_timestamp,
        updatedAtMs: model.last_updated_timestamp,
        versions: fresh,
        aliases: model.aliases,
      },
      source.name,
    );
    result.imported += fresh.length;
    count.models++;
    count.versions += versions.length;
    count.aliases += model.aliases.length;
    scope.models.push(model.name);
    scope.aliases.push(...model.aliases.map(({ alias, version }) => ({ model: model.name, alias, version })));
    progress.done++;
    tell();
  }

  // 3. comparing
  progress.phase = 'comparing';
  tell();
  const target = await store.imports.counts(scope);
  return { from: source.name, source: count, target, matches: IMPORT_COUNTS.every((name) => count[name] === target[name]), ...result, leftOut };
}

function idOf(raw: unknown, field: string): string {
  const id = ((raw ?? {}) as { readonly info?: Readonly<Record<string, unknown>> }).info?.[field];
  return typeof id === 'string' ? id.slice(0, 64) : '?';
}

/** Where a file lies below its run or model. @throws INVALID_REQUEST for a path that leads out of it */
function pathOf({ path }: SourceFile, id: string): string {
  const refuse = (): MillraceError =>
    new MillraceError('INVALID_REQUEST', 'The source names a file by a path that is none. What was imported before is whole.', {
      problems: [{ path: id, message: 'has a file that cannot be stored under its path', found: path.slice(0, 200) }],
      fix: 'Rename the file there, or leave the experiment out by --experiments.',
    });
  let kept = '';
  try {
    kept = safePath(path);
  } catch {
    throw refuse();
  }
  if (kept === '') throw refuse();
  return kept;
}

/** Stores a file. @throws ARTIFACT_CORRUPT where what was read is not what is stored, or not what the source says */
async function storeFile(artifacts: Artifacts, file: SourceFile): Promise<StoredArtifact> {
  const hash = createHash('sha256');
  let sizeBytes = 0;
  async function* reading(): AsyncGenerator<Uint8Array> {
    for await (const piece of await file.open()) {
      hash.update(piece);
      sizeBytes += piece.length;
      yield piece;
    }
  }
  const stored = await artifacts.putStream(reading());
  const sha256 = hash.digest('hex');
  const wrong = (found: string): MillraceError =>
    new MillraceError('ARTIFACT_CORRUPT', 'A file of the source did not arrive as it is there. What was imported before is whole.', {
      problems: [{ path: file.path, message: 'has other content', found }],
      fix: 'Import again; if it comes again, look at the source.',
    });
  if (stored.sha256 !== sha256 || !(await artifacts.has(sha256))) throw wrong(`stored as ${stored.sha256}, read as ${sha256}`);
  if (file.sha256 !== undefined && file.sha256 !== sha256) throw wrong(`${sha256} for ${file.sha256}`);
  if (file.sizeBytes !== undefined && file.sizeBytes !== sizeBytes) throw wrong(`${String(sizeBytes)} of ${String(file.sizeBytes)} bytes`);
  return stored;
}

async function pointsOf(source: MlflowSource, runId: string, key: string): Promise<ImportedPoints> {
  const [values, steps, atMs]: [number[], number[], number[]] = [[], [], []];
  const known = new Set<string>();
  for await (const page of source.history(runId, key))
    for (const raw of page) {
      const point = SourcePointSchema.safeParse(raw);
      if (!point.success)
        throw new MillraceError('INVALID_REQUEST', `A point of the metric ${key} of run ${runId} cannot be stored. What was imported before is whole.`, {
          problems: point.error.issues.map((issue) => ({ path: issue.path.join('.'), message: issue.message })),
        });
      const { value, step, timestamp } = point.data;
      // a point that stands twice is one point
      if (known.size === known.add(`${String(timestamp)} ${String(step)} ${String(value)}`).size) continue;
      values.push(value);
      steps.push(step);
      atMs.push(timestamp);
    }
  return { key, values, steps, atMs };
}

interface RunThere {
  readonly run: SourceRun;
  readonly experiment: string;
  readonly isOfWorkflow: boolean;
}

/** Runs of the store with the ids of these. */
async function runsThere(store: Store, runs: readonly SourceRun[]): Promise<ReadonlyMap<string, RunThere>> {
  const found = new Map<string, RunThere>();
  const names = new Map<string, string>();
  for (const text of await store.trackedRuns.jsons(runs.map(({ info }) => info.run_id))) {
    const run = SourceRunSchema.parse(JSON.parse(text));
    const id = run.info.experiment_id;
    const name = names.get(id) ?? (await store.experiments.get(id)).name;
    names.set(id, name);
    found.set(run.info.run_id, { run, experiment: name, isOfWorkflow: run.data.tags['millrace.workflowId'] !== undefined });
  }
  return found;
}

/** Whether what is there is an earlier state of the same run, which was under way then. */
function isBehind({ run, experiment, isOfWorkflow }: RunThere, now: SourceRun, name: string): boolean {
  const under = run.info.status === 'RUNNING' || run.info.status === 'SCHEDULED';
  const keeps = Object.entries(run.data.params).every(([key, value]) => now.data.params[key] === value);
  return under && !isOfWorkflow && keeps && experiment === name && run.info.start_time === now.info.start_time;
}

async function loggedModelThere(store: Store, id: string): Promise<{ readonly model: SourceLoggedModel; readonly experiment: string } | null> {
  const text = await store.loggedModels.json(id, true).catch((error: unknown) => {
    if (error instanceof MillraceError && error.code === 'NOT_FOUND') return null;
    throw error;
  });
  if (text === null) return null;
  const model = SourceLoggedModelSchema.parse(JSON.parse(text));
  return { model, experiment: (await store.experiments.get(model.info.experiment_id)).name };
}

async function lookAtExperiment(
  store: Store,
  { name, lifecycle_stage, tags }: { readonly name: string; readonly lifecycle_stage: string; readonly tags: Readonly<Record<string, string>> },
  problems: ProblemList,
): Promise<void> {
  const there = await store.experiments.findByName(name);
  if (there === null) return;
  const path = `experiments.${name}`;
  if (there.lifecycleStage === 'deleted' && lifecycle_stage === 'active')
    problems.add(path, 'is deleted here', { fix: 'Restore it by the MLflow client, or leave it out.' });
  for (const [key, value] of Object.entries(without(tags, MILLRACE_TAG)))
    if ((there.tags[key] ?? value) !== value) problems.add(`${path}.tags.${key}`, 'has another value here', { found: there.tags[key]?.slice(0, 100) ?? '' });
  if (folderOf(there.artifactLocation) === null) problems.add(path, 'keeps its files elsewhere', { found: there.artifactLocation });
}

async function lookAtModel(store: Store, { model, versions }: SelectedModel, problems: ProblemList): Promise<void> {
  const path = `models.${model.name}`;
  const numbers = new Set(versions.map(({ version }) => version.version));
  for (const { alias, version } of model.aliases)
    if (!numbers.has(version)) problems.add(`${path}.aliases.${alias}`, 'names a version that the source does not have', { found: String(version) });
  const there = await store.imports.model(model.name);
  if (there === null) return;
  if (!there.isDeleted) {
    if ((there.description ?? '') !== model.description) problems.add(path, 'has another description here');
    for (const [key, value] of Object.entries(model.tags)) if (there.tags[key] !== value) problems.add(`${path}.tags.${key}`, 'has another value here');
  }
  for (const { version } of versions) {
    const other = there.versions.find((one) => one.version === version.version);
    if (other === undefined) continue;
    const at = `${path}.versions.${String(version.version)}`;
    if (other.isDeleted) problems.add(at, 'was deleted here: a number is never given twice');
    else if ((other.runId ?? '') !== version.run_id || (other.loggedModel ?? '') !== version.model_id) problems.add(at, 'is another one here, of another run');
  }
  for (const { alias, version } of model.aliases) {
    const other = there.aliases.find((one) => one.alias === alias);
    if (other !== undefined && other.version !== version)
      problems.add(`${path}.aliases.${alias}`, 'names another version here', { found: String(other.version) });
  }
}

/** An address as it is compared: this server's own spelling, without a slash at its end. */
function rootOf(uri: string): string {
  const folder = folderOf(uri);
  return folder === null ? uri.replace(/\/+$/, '') : `mlflow-artifacts:/${folder}`;
}

/** Where the files of a version lie here: in the folder of its run or logged model, where that was imported. */
function placeOfVersion(
  { source }: SourceVersion,
  roots: ReadonlyMap<string, string>,
): { readonly predictor: null; readonly source: string; readonly folder: string | null } {
  const below = (root: string | undefined, path: string): string | null =>
    root === undefined ? null : [root, safePath(path)].filter((part) => part !== '').join('/');
  const [, modelId, inModel = ''] = /^models:\/+(m-[0-9a-f]{32})(?:\/(.*))?$/.exec(source) ?? [];
  const [, runId, inRun = ''] = /^runs:\/+([0-9a-f]{32})(?:\/(.*))?$/.exec(source) ?? [];
  const named = (end: string): string | undefined => [...roots.values()].find((folder) => folder.endsWith(end));
  if (modelId !== undefined) return { predictor: null, source, folder: below(named(`/models/${modelId}/artifacts`), inModel) };
  if (runId !== undefined) return { predictor: null, source, folder: below(named(`/${runId}/artifacts`), inRun) };
  const parts = rootOf(source).split('/');
  for (let length = parts.length; length > 0; length--) {
    const folder = below(roots.get(parts.slice(0, length).join('/')), parts.slice(length).join('/'));
    if (folder !== null) return { predictor: null, source: `mlflow-artifacts:/${folder}`, folder };
  }
  return { predictor: null, source: source === '' ? 'unknown:/' : source, folder: null };
}

/** A version that a run of Millrace's registered comes with its predictor, which is then the same here. */
async function ownPredictor(
  source: MlflowSource,
  version: SourceVersion,
  artifacts: Artifacts,
  takeIn: (file: SourceFile) => Promise<StoredArtifact>,
): Promise<{ readonly predictor: string; readonly source: null; readonly folder: null } | null> {
  const root = folderOf(version.source);
  if (root === null || inRegistry(root) === null) return null;
  const stored = new Map<string, string>();
  for await (const file of source.files({ kind: 'version', model: version.name, version: version.version, root: version.source }))
    stored.set(file.path, (await takeIn(file)).sha256);
  const predictor = stored.get(MODEL_FILES.predictor);
  if (predictor === undefined) return null;
  const { onnx } = PredictorSchema.parse(await artifacts.getJson(predictor));
  if (stored.get(MODEL_FILES.onnx) !== onnx)
    throw new MillraceError('ARTIFACT_CORRUPT', `The graph of ${version.name} version ${String(version.version)} is not the one that its predictor names.`);
  return { predictor, source: null, folder: null };
}
