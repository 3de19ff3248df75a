import { z } from 'zod';
import { MillraceError, type Problem } from '../contracts/errors.ts';

/**
 * What can be imported: experiments, runs, models and files, wherever they come from. Records are MLflow's JSON, as its server writes
 * it; they are read by the schemas here and by nothing else.
 */
export interface MlflowSource {
  /** For people: an address, a folder. */
  readonly name: string;
  experiments(): AsyncIterable<unknown>;
  /** Of an experiment, the deleted ones too. */
  runs(experimentId: string): AsyncIterable<unknown>;
  /** All points of a metric of a run, page by page. */
  history(runId: string, key: string): AsyncIterable<readonly unknown[]>;
  loggedModels(experimentId: string): AsyncIterable<unknown>;
  models(): AsyncIterable<unknown>;
  versions(model: string): AsyncIterable<unknown>;
  files(owner: FileOwner): AsyncIterable<SourceFile>;
}

/** Whose files are asked for, and what the source says of where they lie. */
export type FileOwner =
  | { readonly kind: 'run' | 'loggedModel'; readonly id: string; readonly root: string }
  /** Files that are a version's alone: of one that a run of Millrace's registered. */
  | { readonly kind: 'version'; readonly model: string; readonly version: number; readonly root: string };

export interface SourceFile {
  /** Below its owner, as the source says it: not looked at yet. */
  readonly path: string;
  readonly sizeBytes?: number;
  /** Where the source knows it. */
  readonly sha256?: string;
  open(): Promise<AsyncIterable<Uint8Array>>;
}

/** Postgres holds neither NUL nor half of a surrogate pair. */
const text = z.string().refine((value) => !/\u0000|[\uD800-\uDFFF]/u.test(value), 'holds a NUL character or half of a surrogate pair, which cannot be stored');
const maybe = text.nullish().transform((value) => value ?? '');
const integer = z
  .union([
    z.number(),
    z
      .string()
      .regex(/^-?\d+$/)
      .transform(Number),
  ])
  .refine((value) => Number.isSafeInteger(value), 'is no integer of at most 53 bits');
/** The end of the year 9999: what comes later no date can say. */
const milliseconds = integer.refine((value) => value >= 0 && value <= 253_402_300_799_999, 'is no time before the year 10000');
const moment = milliseconds.nullish().transform((value) => value ?? undefined);
const double = z.union([
  z.number(),
  z.enum(['NaN', 'Infinity', '-Infinity']).transform(Number),
  z
    .string()
    .regex(/^[-+]?[\d.]+(?:[eE][-+]?\d+)?$/)
    .transform(Number),
]);
const listOf = <T extends z.ZodType>(item: T) =>
  z
    .array(item)
    .nullish()
    .transform((value) => (value ?? []) as readonly z.output<T>[]);
const pairs = listOf(z.object({ key: text, value: maybe })).transform(
  (all): Readonly<Record<string, string>> => Object.fromEntries(all.map(({ key, value }) => [key, value])),
);
const lifecycle = z
  .enum(['active', 'deleted'])
  .nullish()
  .transform((value) => value ?? 'active');

export const SourceExperimentSchema = z.object({
  experiment_id: text,
  name: text.min(1),
  lifecycle_stage: lifecycle,
  creation_time: moment,
  last_update_time: moment,
  tags: pairs,
});
export type SourceExperiment = z.output<typeof SourceExperimentSchema>;

export const SourcePointSchema = z.object({ value: double, timestamp: milliseconds, step: integer.nullish().transform((value) => value ?? 0) });

export const SourceRunSchema = z.object({
  info: z.object({
    run_id: z.string().regex(/^[0-9a-f]{32}$/, 'is no id of 32 hex digits'),
    run_name: maybe,
    experiment_id: text,
    user_id: maybe,
    status: z.enum(['SCHEDULED', 'RUNNING', 'FINISHED', 'FAILED', 'KILLED']),
    start_time: moment,
    end_time: moment,
    lifecycle_stage: lifecycle,
    artifact_uri: maybe,
  }),
  data: z
    .object({ metrics: listOf(SourcePointSchema.extend({ key: text })), params: pairs, tags: pairs })
    .nullish()
    .transform((value) => value ?? { metrics: [], params: {}, tags: {} }),
  inputs: z
    .object({
      dataset_inputs: listOf(
        z.object({
          tags: pairs,
          dataset: z.object({ name: text, digest: text, source_type: maybe, source: maybe, schema: text.nullish(), profile: text.nullish() }),
        }),
      ),
      model_inputs: listOf(z.object({ model_id: text })),
    })
    .nullish()
    .transform((value) => value ?? { dataset_inputs: [], model_inputs: [] }),
  outputs: z
    .object({ model_outputs: listOf(z.object({ model_id: text, step: integer.nullish().transform((value) => value ?? 0) })) })
    .nullish()
    .transform((value) => value ?? { model_outputs: [] }),
});
export type SourceRun = z.output<typeof SourceRunSchema>;

export const SourceLoggedModelSchema = z.object({
  info: z.object({
    model_id: z.string().regex(/^m-[0-9a-f]{32}$/, 'is no id of m- and 32 hex digits'),
    experiment_id: text,
    name: maybe,
    creation_timestamp_ms: moment,
    last_updated_timestamp_ms: moment,
    artifact_uri: maybe,
    model_type: maybe,
    source_run_id: maybe,
    status: z
      .enum(['LOGGED_MODEL_PENDING', 'LOGGED_MODEL_READY', 'LOGGED_MODEL_UPLOAD_FAILED'])
      .nullish()
      .transform((value) => value ?? 'LOGGED_MODEL_READY'),
    tags: pairs,
  }),
  data: z
    .object({ params: pairs, metrics: listOf(SourcePointSchema.extend({ key: text, run_id: maybe, dataset_name: maybe, dataset_digest: maybe })) })
    .nullish()
    .transform((value) => value ?? { params: {}, metrics: [] }),
});
export type SourceLoggedModel = z.output<typeof SourceLoggedModelSchema>;

export const SourceModelSchema = z.object({
  name: text.min(1).refine((value) => !/[/:]/.test(value), "cannot contain '/' or ':'"),
  creation_timestamp: moment,
  last_updated_timestamp: moment,
  description: maybe,
  tags: pairs,
  aliases: listOf(z.object({ alias: text, version: integer })),
});
export type SourceModel = z.output<typeof SourceModelSchema>;

export const SourceVersionSchema = z.object({
  name: text,
  version: integer.refine((value) => value > 0 && value < 2 ** 31, 'is no number of a version'),
  creation_timestamp: moment,
  last_updated_timestamp: moment,
  current_stage: z
    .enum(['None', 'Staging', 'Production', 'Archived'])
    .nullish()
    .transform((value) => value ?? 'None'),
  description: maybe,
  source: maybe,
  run_id: maybe,
  run_link: maybe,
  model_id: maybe,
  tags: pairs,
});
export type SourceVersion = z.output<typeof SourceVersionSchema>;

/** What is wrong is collected: all of it is told at once. */
export interface ProblemList {
  readonly problems: readonly Problem[];
  add(path: string, message: string, more?: { readonly found?: string; readonly fix?: string }): void;
}

const MOST_PROBLEMS = 100;

export function problemList(): ProblemList & { throwAny(message: (count: number) => string, fix: string): void } {
  const problems: Problem[] = [];
  let count = 0;
  return {
    problems,
    add(path, message, more = {}) {
      count++;
      if (problems.length < MOST_PROBLEMS) problems.push({ path, message, ...more });
    },
    throwAny(message, fix) {
      if (count > 0) throw new MillraceError('CONFLICT', message(count), { problems, fix });
    },
  };
}

/** A record as its schema has it; null, with its problems noted, where it does not fit. */
export function readRecord<Schema extends z.ZodType>(schema: Schema, value: unknown, path: string, problems: ProblemList): z.output<Schema> | null {
  const read = schema.safeParse(value);
  if (read.success) return read.data;
  for (const issue of read.error.issues) problems.add([path, ...issue.path.map(String)].join('.'), issue.message);
  return null;
}

export interface SelectionOptions {
  /** Names. Default: all, or with `models` only what their versions were made of. */
  readonly experiments?: readonly string[];
  /** Names. Default: all, or with `experiments` none. */
  readonly models?: readonly string[];
  /** Refuses what whoever asks may not touch. Called for each experiment and model of which something is taken, before it is. Default: everything may be. */
  readonly requireMay?: (kind: 'experiment' | 'model', name: string) => Promise<void>;
}

export interface SelectedModel {
  readonly model: SourceModel;
  readonly raw: unknown;
  readonly versions: readonly { readonly version: SourceVersion; readonly raw: unknown }[];
}

export interface SelectedExperiment {
  readonly experiment: SourceExperiment;
  readonly raw: unknown;
  takes(run: SourceRun): boolean;
  takesModel(model: SourceLoggedModel): boolean;
}

/** What is taken of a source; names that it does not have become problems. Prompts, which MLflow keeps among the models, are left out. */
export async function selectFrom(
  source: MlflowSource,
  { experiments, models, requireMay }: SelectionOptions,
  problems: ProblemList,
): Promise<{ readonly experiments: readonly SelectedExperiment[]; readonly models: readonly SelectedModel[] }> {
  const chosen: SelectedModel[] = [];
  const modelsMissing = new Set(models ?? []);
  if (models !== undefined || experiments === undefined)
    for await (const raw of source.models()) {
      const model = readRecord(SourceModelSchema, raw, 'models', problems);
      if (model === null || model.tags['mlflow.prompt.is_prompt'] !== undefined) continue;
      if (models !== undefined && !modelsMissing.delete(model.name)) continue;
      await requireMay?.('model', model.name);
      const versions: SelectedModel['versions'][number][] = [];
      for await (const one of source.versions(model.name)) {
        const version = readRecord(SourceVersionSchema, one, `models/${model.name}`, problems);
        if (version !== null) versions.push({ version, raw: one });
      }
      chosen.push({ model, raw, versions });
    }
  for (const name of modelsMissing) problems.add('--models', 'is not there', { found: name });

  const all = chosen.flatMap(({ versions }) => versions.map(({ version }) => version));
  const runIds = new Set(all.map((version) => version.run_id));
  const modelIds = new Set(all.flatMap((version) => [version.model_id, /^models:\/+(m-[0-9a-f]{32})/.exec(version.source)?.[1] ?? '']));
  const everything = experiments === undefined && models === undefined;
  const experimentsMissing = new Set(experiments ?? []);
  const selected: SelectedExperiment[] = [];
  for await (const raw of source.experiments()) {
    const experiment = readRecord(SourceExperimentSchema, raw, 'experiments', problems);
    if (experiment === null) continue;
    const whole = everything || experimentsMissing.delete(experiment.name);
    if (!whole && models === undefined) continue;
    selected.push({
      experiment,
      raw,
      takes: (run) => whole || runIds.has(run.info.run_id),
      takesModel: (model) => whole || modelIds.has(model.info.model_id),
    });
  }
  for (const name of experimentsMissing) problems.add('--experiments', 'is not there', { found: name });
  return { experiments: selected, models: chosen };
}
