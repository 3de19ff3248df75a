import { sql } from 'drizzle-orm';
import {
  bigint,
  bigserial,
  boolean,
  check,
  customType,
  doublePrecision,
  foreignKey,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  serial,
  text,
  uniqueIndex,
} from 'drizzle-orm/pg-core';
import type { Column } from '../contracts/columns.ts';
import { ALERT_KINDS, ALERT_SEVERITIES, ALERT_STATUSES, type AlertMessage } from '../contracts/alerts.ts';
import type { ErrorReport } from '../contracts/errors.ts';
import { ROLES } from '../contracts/identity.ts';
import type { FeatureView } from '../contracts/feature-views.ts';
import type { FlaggedRow, LabelValue } from '../contracts/labels.ts';
import {
  type ExperimentEvidence,
  type ReadyTune,
  RETRAINING_FATES,
  type RetrainingTiming,
  type RetrainRequest,
  type TriggerEntry,
} from '../contracts/retraining.ts';
import type { RetrainTrigger } from '../contracts/retrain-triggers.ts';
import type { Route, ServedVersion } from '../contracts/routes.ts';
import type { Trigger } from '../contracts/run.ts';
import type { BinCounts } from '../contracts/serving-bins.ts';

/**
 * The tables, as Drizzle sees them. `store/migrations/` holds the SQL that makes them; a test holds the two together.
 * Column names are the snake_case of the property's name (drizzle.config.ts and store/database.ts both say so).
 *
 * Invariants:
 * 1. A run is a row of `runs` under its own 32-hex id, whoever made it: a workflow, or later an MLflow client.
 * 2. What publishes (aliases, routes) carries an epoch that only grows, also when the thing itself is taken away.
 * 3. A stage's `token` grows with each attempt; writes under an older one are refused.
 * 4. Times are `timestamptz(3)`, read as UTC ISO strings.
 */
const instant = customType<{ data: string; driverData: string }>({
  dataType: () => 'timestamp (3) with time zone',
  fromDriver: (value) => new Date(value).toISOString(),
});
const createdAt = () => instant().notNull().default(sql`now()`);

/** jsonb whose value may itself be null: SQL NULL is what stands for it. */
const json = <T>() => jsonb().$type<T>();

export const RUN_STATUSES = ['waiting', 'running', 'completed', 'failed', 'cancelled', 'terminated'] as const;
export type RunStatus = (typeof RUN_STATUSES)[number];
export const STAGE_STATUSES = ['running', 'completed', 'failed', 'cancelled'] as const;
export type StageStatus = (typeof STAGE_STATUSES)[number];
export const FEEDBACK_STATUSES = ['waiting', 'joined', 'unknown'] as const;
export type FeedbackStatus = (typeof FEEDBACK_STATUSES)[number];
export const VERSION_STATUSES = ['candidate', 'approved', 'rolled_back', 'retired'] as const;
export type VersionStatus = (typeof VERSION_STATUSES)[number];
/** MLflow's stages of a version, as its clients write them. */
export const MODEL_STAGES = ['None', 'Staging', 'Production', 'Archived'] as const;
export type ModelStage = (typeof MODEL_STAGES)[number];
export const ROLLOUT_STATUSES = ['queued', 'running', 'completed', 'rolled_back', 'failed'] as const;
export type RolloutStatus = (typeof ROLLOUT_STATUSES)[number];
export const UNDO_STATUSES = ['pending', 'done', 'failed'] as const;
export type UndoStatus = (typeof UNDO_STATUSES)[number];
export const LABEL_REQUEST_STATUSES = ['open', 'answered', 'expired', 'cancelled'] as const;
export type LabelRequestStatus = (typeof LABEL_REQUEST_STATUSES)[number];
export const PREDICTION_TARGETS = ['table', 'endpoint'] as const;
export const PREDICTION_SET_STATUSES = ['writing', 'published', 'undone', 'removing', 'removed'] as const;
export const LABEL_ITEM_STATUSES = ['open', 'settled', 'withdrawn'] as const;
export type LabelItemStatus = (typeof LABEL_ITEM_STATUSES)[number];
export const APPROVAL_STATUSES = ['pending', 'approved', 'rejected', 'expired', 'revoked'] as const;
export type ApprovalStatus = (typeof APPROVAL_STATUSES)[number];

/** Where code came from. `clean` is false when the working tree had changes; null when there was no repository. */
export interface GitState {
  readonly remote: string | null;
  readonly commit: string | null;
  readonly clean: boolean | null;
}

/** Where a cached result was taken from. */
export interface CachedFrom {
  readonly runId: string;
  readonly stage: string;
}

/** Why a stage had to run: no earlier result of it, the cache was not asked, or these parts of the fingerprint differ. */
export type MissReason =
  | { readonly kind: 'first' }
  | { readonly kind: 'notAsked' }
  | { readonly kind: 'differs'; readonly fromRunId: string; readonly parts: readonly string[] };

/** One step of a rollout, as its workflow took it. */
export interface RolloutStep {
  readonly at: string;
  readonly name: string;
  readonly percent?: number;
  readonly figures?: Readonly<Record<string, unknown>>;
}

/** What became known of a version while people decided on it. */
export interface EvidenceChange {
  /** UTC ISO. */
  readonly at: string;
  readonly what: string;
}

const oneOf = (column: string, values: readonly string[]) => sql.raw(`"${column}" in (${values.map((v) => `'${v}'`).join(', ')})`);

export const builds = pgTable('builds', {
  /** SHA-256 over the workflow bundle and the step bundles. */
  id: text().primaryKey(),
  createdAt: createdAt(),
  gitRemote: text(),
  gitCommit: text(),
  gitClean: boolean(),
  /** Names of the pipelines that the build holds, with what is known of each. */
  pipelines: json<unknown>().notNull(),
  /** Artifacts: file name → SHA-256. */
  bundles: json<Readonly<Record<string, string>>>().notNull(),
});

export const experiments = pgTable('experiments', {
  id: serial().primaryKey(),
  name: text().notNull().unique(),
  /** The pipeline whose runs it holds, whatever it is called now; null for those that MLflow's clients made. */
  pipeline: text().unique(),
  /** Where the files of its runs go; null for this server's own store. */
  artifactLocation: text(),
  lifecycleStage: text().notNull().default('active'),
  tags: json<Readonly<Record<string, string>>>().notNull().default({}),
  createdAt: createdAt(),
  updatedAt: createdAt(),
});

export const runs = pgTable(
  'runs',
  {
    id: text().primaryKey(),
    /** Order of arrival; the page cursor of `runs list`. */
    seq: bigserial({ mode: 'number' }).notNull(),
    workflowId: text(),
    temporalRunId: text(),
    /** Empty for a run of an MLflow client. */
    pipeline: text().notNull(),
    name: text(),
    /** Who started it, where that is known. */
    userId: text(),
    experimentId: integer().references(() => experiments.id),
    lifecycleStage: text().notNull().default('active'),
    buildId: text(),
    status: text({ enum: RUN_STATUSES }).notNull(),
    params: json<unknown>().notNull(),
    trigger: json<Trigger>().notNull(),
    purpose: json<unknown>(),
    retryOf: text(),
    gitRemote: text(),
    gitCommit: text(),
    gitClean: boolean(),
    createdAt: createdAt(),
    /** When it left the queue; null while it waits. */
    startedAt: instant(),
    endedAt: instant(),
    error: json<ErrorReport>(),
  },
  (t) => [
    uniqueIndex('runs_workflow').on(t.workflowId, t.temporalRunId),
    index('runs_seq').on(t.seq),
    index('runs_pipeline').on(t.pipeline, t.seq),
    index('runs_open').on(t.pipeline, t.seq).where(sql`status in ('waiting', 'running')`),
    index('runs_experiment').on(t.experimentId, t.seq),
    index('runs_started').on(t.experimentId, sql`coalesce(started_at, created_at) desc`, t.id),
    check('runs_status', oneOf('status', RUN_STATUSES)),
    check('runs_id', sql.raw(`"id" ~ '^[0-9a-f]{32}$'`)),
  ],
);

export const stages = pgTable(
  'stages',
  {
    runId: text()
      .notNull()
      .references(() => runs.id, { onDelete: 'cascade' }),
    name: text().notNull(),
    pipeline: text().notNull(),
    kind: text().notNull(),
    ordinal: integer().notNull(),
    status: text({ enum: STAGE_STATUSES }).notNull(),
    attempts: integer().notNull(),
    /** Fencing: microseconds of the clock at the attempt's begin, greater than every earlier one. */
    token: bigint({ mode: 'number' }).notNull(),
    pool: text(),
    device: text(),
    worker: text(),
    fingerprint: text(),
    fingerprintParts: json<Readonly<Record<string, unknown>>>(),
    missReason: json<MissReason>(),
    cachedFrom: json<CachedFrom>(),
    input: json<unknown>(),
    output: json<unknown>(),
    startedAt: instant().notNull(),
    endedAt: instant(),
    error: json<ErrorReport>(),
    /** Of all attempts together; the peaks are the greatest of them. */
    cpuSeconds: doublePrecision(),
    peakMib: doublePrecision(),
    gpuSeconds: doublePrecision(),
    gpuPeakMib: doublePrecision(),
    /** Mean share of the device's time in use while it was held, 0 … 1; of the newest attempt. */
    gpuUtilisation: doublePrecision(),
    /** In the currency of the configuration's rates; null where it names none. */
    cost: doublePrecision(),
    checkpointSha: text(),
    checkpointStep: bigint({ mode: 'number' }),
  },
  (t) => [
    primaryKey({ columns: [t.runId, t.name] }),
    index('stages_cache').on(t.fingerprint, t.endedAt).where(sql`status = 'completed' and cached_from is null`),
    index('stages_nearest').on(t.pipeline, t.name, t.endedAt).where(sql`status = 'completed'`),
    // Hashes among the values of what a stage was given: which stages have read a dataset or a predictor.
    index('stages_reads').using('gin', sql`jsonb_path_query_array(input, 'strict $.** ? (@ like_regex "^[0-9a-f]{64}$")')`).where(sql`status = 'completed'`),
    check('stages_status', oneOf('status', STAGE_STATUSES)),
  ],
);

export const LINEAGE_EVENTS = ['start', 'end'] as const;

/** What OpenLineage's receiver is to be told of runs, made of the records when it is sent. */
export const lineageEvents = pgTable(
  'lineage_events',
  {
    runId: text()
      .notNull()
      .references(() => runs.id, { onDelete: 'cascade' }),
    event: text({ enum: LINEAGE_EVENTS }).notNull(),
    /** The run's. */
    seq: bigint({ mode: 'number' }).notNull(),
    /** Of a start: whether its end has a line too. */
    closed: boolean().notNull().default(false),
    attempts: integer().notNull().default(0),
    /** When it is tried next; while one tries, when another may. */
    nextAt: createdAt(),
    deliveredAt: instant(),
    gaveUpAt: instant(),
    lastError: text(),
    createdAt: createdAt(),
  },
  (t) => [
    primaryKey({ columns: [t.runId, t.event] }),
    index('lineage_events_seq').on(t.seq),
    index('lineage_events_open').on(t.seq).where(sql`event = 'start' and not closed`),
    index('lineage_events_due').on(t.seq).where(sql`delivered_at is null and gave_up_at is null`),
    check('lineage_events_event', oneOf('event', LINEAGE_EVENTS)),
  ],
);

/** The outside MLflow server to which runs are mirrored: one row, or none. */
export const mlflowMirror = pgTable(
  'mlflow_mirror',
  {
    id: integer().primaryKey().default(1),
    target: text().notNull(),
    /** Whether the runs of before have their rows. */
    queued: boolean().notNull().default(false),
    attempts: integer().notNull().default(0),
    nextAt: createdAt(),
    /** Since when the server takes nothing; null while it does. */
    failingSince: instant(),
    lastError: text(),
  },
  () => [check('mlflow_mirror_one', sql`id = 1`)],
);

/** Where a run stands on the outside server, and what of it was sent. */
export const mirroredRuns = pgTable(
  'mirrored_runs',
  {
    runId: text()
      .primaryKey()
      .references(() => runs.id, { onDelete: 'cascade' }),
    /** The run's. */
    seq: bigint({ mode: 'number' }).notNull(),
    outsideId: text(),
    /** When it was asked for, while it is not known whether it came to be. */
    askedAt: instant(),
    /** Hash of the parameters, tags, name and state that were sent. */
    factsSent: text(),
    tagsSent: json<readonly string[]>().notNull().default([]),
    /** Whether all of its points are to be sent, not only new ones; and where that has come to. */
    whole: boolean().notNull().default(false),
    wholeAfter: json<readonly (string | number)[]>(),
    attempts: integer().notNull().default(0),
    nextAt: createdAt(),
    lastError: text(),
    createdAt: createdAt(),
  },
  (t) => [index('mirrored_runs_whole').on(t.seq).where(sql`whole`), index('mirrored_runs_refused').on(t.nextAt).where(sql`last_error is not null`)],
);

/** What changed of runs since it was sent; written by triggers, in the transaction of the change. Points come as lists, a statement a row. */
export const mirrorFeed = pgTable(
  'mirror_feed',
  {
    id: bigserial({ mode: 'number' }).primaryKey(),
    runId: text().notNull(),
    at: createdAt(),
    /** As MLflow's clients see them; null where no points were added, but something else of the run has changed. */
    names: text().array(),
    steps: bigint({ mode: 'number' }).array(),
    values: doublePrecision().array(),
    ats: instant().array(),
  },
  (t) => [index('mirror_feed_run').on(t.runId, t.id)],
);

export const artifacts = pgTable('artifacts', {
  sha256: text().primaryKey(),
  sizeBytes: bigint({ mode: 'number' }).notNull(),
  kind: text().notNull(),
  createdAt: createdAt(),
});

/** Sorted by its bytes, so that what lies below a folder lies together in the index. */
const path = customType<{ data: string }>({ dataType: () => 'text collate "C"' });

/** Files that MLflow's clients put beside runs and logged models: names of artifacts. */
export const artifactFiles = pgTable(
  'artifact_files',
  {
    /** Below the root of all: `EXPERIMENT/RUN/artifacts/model/MLmodel`. */
    path: path().primaryKey(),
    sha256: text().notNull(),
    sizeBytes: bigint({ mode: 'number' }).notNull(),
    updatedAt: createdAt(),
  },
  (t) => [index('artifact_files_sha256').on(t.sha256)],
);

export const datasets = pgTable(
  'datasets',
  {
    /** SHA-256 of the manifest. */
    id: text().primaryKey(),
    seq: bigserial({ mode: 'number' }).notNull(),
    name: text().notNull(),
    rows: bigint({ mode: 'number' }).notNull(),
    columns: json<readonly Column[]>().notNull(),
    sizeBytes: bigint({ mode: 'number' }).notNull(),
    source: json<unknown>(),
    /** What made it: the stage's kind, or `quarantine`, `golden`. */
    kind: text(),
    /** Manifests it was made from. */
    parents: json<readonly string[]>().notNull().default([]),
    /** Profile (artifact); null where no statistic may see the rows. */
    profile: text(),
    /** What the stage that made it has to tell (artifact): validation, clean counts, split checks. */
    report: text(),
    owner: text(),
    /** The run and stage that made it first. */
    runId: text(),
    stage: text(),
    createdAt: createdAt(),
    /** When retention took its files away; the record stays. */
    collectedAt: instant(),
  },
  (t) => [index('datasets_name').on(t.name, t.seq), index('datasets_seq').on(t.seq), index('datasets_parents').using('gin', t.parents)],
);

export const metrics = pgTable(
  'metrics',
  {
    /** Without a foreign key, which would cost as much as the points themselves: triggers look for the run, and remove its points with it. */
    runId: text().notNull(),
    /** Empty for what was logged to the run itself. */
    stage: text().notNull().default(''),
    key: text().notNull(),
    step: bigint({ mode: 'number' }).notNull().default(0),
    value: doublePrecision().notNull(),
    at: createdAt(),
  },
  // Also what makes a point that is logged twice one point: a client whose connection broke sends it again.
  (t) => [uniqueIndex('metrics_points').on(t.runId, t.key, t.at, t.step, t.value, t.stage)],
);

/** The last point of each metric, by (step, time, value); a trigger on `metrics` keeps it in the same statement. */
export const latestMetrics = pgTable(
  'latest_metrics',
  {
    /** Without a foreign key, which would cost as much as the points themselves: triggers look for the run, and remove its points with it. */
    runId: text().notNull(),
    /** As MLflow's clients see it: the key, or STAGE/KEY. */
    name: text().notNull(),
    stage: text().notNull(),
    key: text().notNull(),
    value: doublePrecision().notNull(),
    step: bigint({ mode: 'number' }).notNull(),
    at: instant().notNull(),
  },
  (t) => [primaryKey({ columns: [t.runId, t.name] }), index('latest_metrics_value').on(t.name, t.value, t.runId)],
);

/** Datasets that MLflow's clients logged as inputs of a run. */
export const runDatasets = pgTable(
  'run_datasets',
  {
    runId: text()
      .notNull()
      .references(() => runs.id, { onDelete: 'cascade' }),
    name: text().notNull(),
    digest: text().notNull(),
    sourceType: text().notNull(),
    source: text().notNull(),
    schema: text(),
    profile: text(),
    /** `mlflow.data.context` among them: training, validation. */
    tags: json<Readonly<Record<string, string>>>().notNull(),
  },
  (t) => [primaryKey({ columns: [t.runId, t.name, t.digest] })],
);

export const LOGGED_MODEL_STATUSES = ['pending', 'ready', 'failed'] as const;
export type LoggedModelStatus = (typeof LOGGED_MODEL_STATUSES)[number];

/** Models that MLflow's clients logged, whether they were registered or not. */
export const loggedModels = pgTable(
  'logged_models',
  {
    /** `m-` and 32 hex digits. */
    id: text().primaryKey(),
    experimentId: integer()
      .notNull()
      .references(() => experiments.id),
    name: text().notNull(),
    modelType: text(),
    sourceRunId: text(),
    status: text({ enum: LOGGED_MODEL_STATUSES }).notNull(),
    lifecycleStage: text().notNull().default('active'),
    params: json<Readonly<Record<string, string>>>().notNull(),
    tags: json<Readonly<Record<string, string>>>().notNull(),
    createdAt: createdAt(),
    updatedAt: createdAt(),
  },
  (t) => [index('logged_models_experiment').on(t.experimentId, t.createdAt), check('logged_models_status', oneOf('status', LOGGED_MODEL_STATUSES))],
);

/** Metrics that a run logged of a logged model, on a dataset where one was named. */
export const loggedModelMetrics = pgTable(
  'logged_model_metrics',
  {
    modelId: text()
      .notNull()
      .references(() => loggedModels.id, { onDelete: 'cascade' }),
    runId: text()
      .notNull()
      .references(() => runs.id, { onDelete: 'cascade' }),
    key: text().notNull(),
    value: doublePrecision().notNull(),
    step: bigint({ mode: 'number' }).notNull(),
    at: instant().notNull(),
    /** Empty where none was named. */
    datasetName: text().notNull(),
    datasetDigest: text().notNull(),
  },
  (t) => [
    uniqueIndex('logged_model_metrics_points').on(t.modelId, t.key, t.at, t.step, t.runId, t.datasetName, t.datasetDigest),
    index('logged_model_metrics_run').on(t.runId),
  ],
);

export const RUN_MODEL_ROLES = ['input', 'output'] as const;

/** Logged models that a run used or made. */
export const runModels = pgTable(
  'run_models',
  {
    runId: text()
      .notNull()
      .references(() => runs.id, { onDelete: 'cascade' }),
    modelId: text().notNull(),
    role: text({ enum: RUN_MODEL_ROLES }).notNull(),
    step: bigint({ mode: 'number' }).notNull(),
  },
  (t) => [primaryKey({ columns: [t.runId, t.role, t.modelId, t.step] }), check('run_models_role', oneOf('role', RUN_MODEL_ROLES))],
);

export const runParams = pgTable(
  'run_params',
  {
    runId: text()
      .notNull()
      .references(() => runs.id, { onDelete: 'cascade' }),
    key: text().notNull(),
    value: text().notNull(),
  },
  (t) => [primaryKey({ columns: [t.runId, t.key] })],
);

export const runTags = pgTable(
  'run_tags',
  {
    runId: text()
      .notNull()
      .references(() => runs.id, { onDelete: 'cascade' }),
    key: text().notNull(),
    value: text().notNull(),
  },
  (t) => [primaryKey({ columns: [t.runId, t.key] })],
);

export const models = pgTable('models', {
  name: text().primaryKey(),
  purpose: json<unknown>(),
  owner: text(),
  description: text(),
  tags: json<Readonly<Record<string, string>>>().notNull().default({}),
  lastVersion: integer().notNull().default(0),
  createdAt: createdAt(),
  updatedAt: createdAt(),
  /** When it was deleted. The row stays for its numbers: a model that is made again under the name goes on from them. */
  deletedAt: instant(),
});

export const versions = pgTable(
  'versions',
  {
    model: text()
      .notNull()
      .references(() => models.name, { onUpdate: 'cascade' }),
    version: integer().notNull(),
    /** SHA-256; null for what an MLflow client registered, until Millrace has made a predictor of its ONNX file. */
    predictor: text(),
    /** Where the files of what an MLflow client registered lie, as the client said it; null for what a run registered. */
    source: text(),
    /** The folder that `source` meant when it was registered, below the artifacts' root; null where they lie elsewhere. */
    folder: text(),
    /** A link to the run that made it, where it was made by another server. */
    runLink: text(),
    /** MLflow's id of the logged model that it was made of. */
    loggedModel: text(),
    modelStage: text({ enum: MODEL_STAGES }).notNull().default('None'),
    runId: text(),
    stage: text(),
    status: text({ enum: VERSION_STATUSES }).notNull(),
    metrics: json<Readonly<Record<string, number>>>().notNull(),
    /** SHA-256 of the evaluation's report; null for a bare file. */
    evaluation: text(),
    /** SHA-256 of the model card (JSON, which names its page); null until it is made. */
    card: text(),
    owner: text(),
    description: text(),
    tags: json<Readonly<Record<string, string>>>().notNull().default({}),
    /** Why it was rolled back or retired. */
    statusReason: text(),
    createdAt: createdAt(),
    updatedAt: createdAt(),
    /** When it was deleted; the row stays for what was predicted with it. */
    deletedAt: instant(),
  },
  (t) => [
    primaryKey({ columns: [t.model, t.version] }),
    uniqueIndex('versions_once').on(t.runId, t.stage, t.model),
    index('versions_predictor').on(t.predictor),
    index('versions_updated').on(t.updatedAt, t.model, t.version),
    check('versions_status', oneOf('status', VERSION_STATUSES)),
    check('versions_model_stage', oneOf('model_stage', MODEL_STAGES)),
    check('versions_made_of', sql.raw('"predictor" is not null or "source" is not null')),
  ],
);

export const aliases = pgTable(
  'aliases',
  {
    model: text()
      .notNull()
      .references(() => models.name, { onUpdate: 'cascade' }),
    alias: text().notNull(),
    /** Null: the alias names nothing now; the row stays for its epoch. */
    version: integer(),
    epoch: bigint({ mode: 'number' }).notNull(),
    movedByRun: text(),
    movedAt: createdAt(),
  },
  (t) => [
    primaryKey({ columns: [t.model, t.alias] }),
    foreignKey({ name: 'aliases_version', columns: [t.model, t.version], foreignColumns: [versions.model, versions.version] }).onUpdate('cascade'),
  ],
);

export const aliasHistory = pgTable(
  'alias_history',
  {
    model: text().notNull(),
    alias: text().notNull(),
    epoch: bigint({ mode: 'number' }).notNull(),
    version: integer(),
    movedByRun: text(),
    reason: text(),
    movedAt: createdAt(),
  },
  (t) => [primaryKey({ columns: [t.model, t.alias, t.epoch] })],
);

export const endpoints = pgTable('endpoints', { name: text().primaryKey(), createdAt: createdAt() });

export const routes = pgTable('routes', {
  endpoint: text()
    .primaryKey()
    .references(() => endpoints.name),
  epoch: bigint({ mode: 'number' }).notNull(),
  /** Null: nothing answers; the row stays for its epoch. */
  champion: json<ServedVersion>(),
  challenger: json<NonNullable<Route['challenger']>>(),
  /** Loaded without traffic. */
  standby: json<readonly ServedVersion[]>().notNull().default([]),
  log: boolean().notNull(),
  rolloutId: text(),
  updatedAt: createdAt(),
});

export const routeHistory = pgTable(
  'route_history',
  {
    endpoint: text().notNull(),
    epoch: bigint({ mode: 'number' }).notNull(),
    champion: json<ServedVersion>(),
    challenger: json<NonNullable<Route['challenger']>>(),
    standby: json<readonly ServedVersion[]>().notNull().default([]),
    log: boolean().notNull(),
    rolloutId: text(),
    runId: text(),
    /** Why, and who: a run, a person, a guard. */
    reason: text(),
    by: text(),
    at: createdAt(),
  },
  (t) => [primaryKey({ columns: [t.endpoint, t.epoch] })],
);

export const rollouts = pgTable(
  'rollouts',
  {
    id: text().primaryKey(),
    seq: bigserial({ mode: 'number' }).notNull(),
    endpoint: text()
      .notNull()
      .references(() => endpoints.name),
    model: text().notNull(),
    version: integer().notNull(),
    runId: text(),
    stage: text(),
    strategy: json<unknown>().notNull(),
    status: text({ enum: ROLLOUT_STATUSES }).notNull(),
    steps: json<readonly RolloutStep[]>().notNull().default([]),
    reason: text(),
    /** The route's epoch that the rollout set last. */
    epoch: bigint({ mode: 'number' }),
    createdAt: createdAt(),
    startedAt: instant(),
    endedAt: instant(),
  },
  (t) => [
    index('rollouts_endpoint').on(t.endpoint, t.seq),
    uniqueIndex('rollouts_once').on(t.runId, t.stage, t.endpoint),
    check('rollouts_status', oneOf('status', ROLLOUT_STATUSES)),
  ],
);

export const servers = pgTable('servers', {
  id: text().primaryKey(),
  url: text().notNull(),
  leaseUntil: instant().notNull(),
  /** Routes that it could not take up, with the reason. */
  failures: jsonb().$type<readonly { readonly endpoint: string; readonly epoch: number; readonly error: ErrorReport }[]>().notNull().default([]),
});

export const serverRoutes = pgTable(
  'server_routes',
  {
    serverId: text()
      .notNull()
      .references(() => servers.id, { onDelete: 'cascade' }),
    endpoint: text().notNull(),
    epoch: bigint({ mode: 'number' }).notNull(),
    leaseUntil: instant().notNull(),
  },
  (t) => [primaryKey({ columns: [t.serverId, t.endpoint] }), index('server_routes_endpoint').on(t.endpoint)],
);

export const servingStats = pgTable(
  'serving_stats',
  {
    server: text().notNull(),
    endpoint: text().notNull(),
    model: text().notNull(),
    version: integer().notNull(),
    from: instant('from').notNull(),
    requests: bigint({ mode: 'number' }).notNull(),
    errors: bigint({ mode: 'number' }).notNull(),
    latencyMsSum: doublePrecision().notNull(),
    latencyMsMax: doublePrecision().notNull(),
    latency: json<BinCounts>().notNull().default([]),
    labels: json<BinCounts>().notNull().default([]),
    outputs: json<BinCounts>().notNull().default([]),
    compared: bigint({ mode: 'number' }).notNull().default(0),
    equal: bigint({ mode: 'number' }).notNull().default(0),
  },
  (t) => [primaryKey({ columns: [t.endpoint, t.model, t.version, t.from, t.server] })],
);

/** What became known of predictions: labels and outcomes, added up. */
export const servingOutcomes = pgTable(
  'serving_outcomes',
  {
    endpoint: text().notNull(),
    model: text().notNull(),
    version: integer().notNull(),
    /** The minute of the predictions. */
    from: instant('from').notNull(),
    metric: text().notNull(),
    source: text().notNull(),
    n: bigint({ mode: 'number' }).notNull(),
    sum: doublePrecision().notNull(),
    sumSquares: doublePrecision().notNull(),
    min: doublePrecision().notNull(),
    max: doublePrecision().notNull(),
  },
  (t) => [primaryKey({ columns: [t.endpoint, t.metric, t.from, t.model, t.version, t.source] })],
);

/** Challengers that a prediction server took out of its traffic by itself. */
export const challengerBreaks = pgTable(
  'challenger_breaks',
  {
    server: text().notNull(),
    endpoint: text().notNull(),
    model: text().notNull(),
    version: integer().notNull(),
    epoch: bigint({ mode: 'number' }).notNull(),
    at: instant('at').notNull(),
    reason: text().notNull(),
    figures: json<Readonly<Record<string, number>>>().notNull(),
  },
  (t) => [primaryKey({ columns: [t.endpoint, t.model, t.version, t.server, t.epoch] })],
);

export const undos = pgTable(
  'undos',
  {
    /** Order of publishing; undone in the reverse. */
    seq: bigserial({ mode: 'number' }).primaryKey(),
    runId: text().notNull(),
    stage: text().notNull(),
    kind: text().notNull(),
    /** What is undone, within its run and kind: `model/flight-delay/3`. Adding the same one again changes nothing. */
    key: text().notNull(),
    payload: json<Readonly<Record<string, unknown>>>().notNull(),
    status: text({ enum: UNDO_STATUSES }).notNull().default('pending'),
    /** What was done: `moved back to version 2`, `a newer move stands`. */
    outcome: text(),
    error: json<ErrorReport>(),
    createdAt: createdAt(),
    doneAt: instant(),
  },
  (t) => [
    uniqueIndex('undos_once').on(t.runId, t.kind, t.key),
    index('undos_open').on(t.runId).where(sql`status <> 'done'`),
    check('undos_status', oneOf('status', UNDO_STATUSES)),
  ],
);

export const approvals = pgTable(
  'approvals',
  {
    runId: text().notNull(),
    gate: text().notNull(),
    status: text({ enum: APPROVAL_STATUSES }).notNull().default('pending'),
    requestedAt: createdAt(),
    expiresAt: instant(),
    evidence: json<unknown>(),
    approversNeeded: integer().notNull(),
    settledAt: instant(),
    /** Who decides holds one of these, where tokens are configured. */
    roles: text({ enum: ROLES }).array().notNull().default(sql`'{approver}'`),
    /** Whether the person who started the run may not decide. */
    notAuthor: boolean().notNull().default(false),
    /** Who started the run; null where nobody is known. */
    author: text(),
    /** The model that is decided on. */
    model: text(),
    /** What became known while it waited: votes before it are void. */
    evidenceChanges: json<readonly EvidenceChange[]>().notNull().default([]),
  },
  (t) => [
    primaryKey({ columns: [t.runId, t.gate] }),
    index('approvals_requested').on(t.requestedAt),
    index('approvals_waiting').on(t.model).where(sql`status = 'pending'`),
    check('approvals_status', oneOf('status', APPROVAL_STATUSES)),
  ],
);

export const decisions = pgTable(
  'decisions',
  {
    id: bigserial({ mode: 'number' }).primaryKey(),
    runId: text().notNull(),
    gate: text().notNull(),
    who: text().notNull(),
    decision: text({ enum: ['approve', 'reject'] }).notNull(),
    reason: text().notNull(),
    at: createdAt(),
    /** Whose right it was, where it was lent. */
    onBehalfOf: text(),
    /** When it stopped counting, and why: other evidence, or taken back. */
    voidedAt: instant(),
    voidReason: text(),
  },
  (t) => [
    uniqueIndex('decisions_standing').on(t.runId, t.gate, t.who).where(sql`voided_at is null`),
    foreignKey({ name: 'decisions_gate', columns: [t.runId, t.gate], foreignColumns: [approvals.runId, approvals.gate] }).onDelete('cascade'),
  ],
);

/** The ledger of retraining: a row for each trigger, with what became of it. */
export const retrainings = pgTable(
  'retrainings',
  {
    id: bigserial({ mode: 'number' }).primaryKey(),
    pipeline: text().notNull(),
    /** Unique in its pipeline: the controller's execution and the trigger's number there. */
    key: text().notNull(),
    number: integer().notNull(),
    triggerKey: text(),
    source: text().notNull(),
    reason: text().notNull(),
    condition: text(),
    evidence: json<unknown>(),
    /** When the reason arose. */
    at: instant().notNull(),
    receivedAt: instant().notNull(),
    times: integer().notNull(),
    fate: text({ enum: RETRAINING_FATES }).notNull(),
    because: text().notNull(),
    heldBy: json<TriggerEntry['heldBy']>().notNull().default([]),
    workflowId: text(),
    runId: text(),
    mergedInto: integer(),
    settledAt: instant(),
    timing: json<RetrainingTiming>(),
    /** Counts the writes of its controller: an older one that comes late changes nothing. */
    revision: integer().notNull(),
  },
  (t) => [
    uniqueIndex('retrainings_once').on(t.pipeline, t.key),
    index('retrainings_run').on(t.pipeline, t.workflowId),
    check('retrainings_fate', oneOf('fate', RETRAINING_FATES)),
  ],
);

/** Retraining alone does not help: someone should try other things. One is open a pipeline at most. */
export const experimentRequests = pgTable(
  'experiment_requests',
  {
    id: bigserial({ mode: 'number' }).primaryKey(),
    pipeline: text().notNull(),
    /** The run that gave the last reason for it: asked for once. */
    workflowId: text().notNull().unique(),
    because: text().notNull(),
    evidence: json<ExperimentEvidence>().notNull(),
    /** A search that is ready to run; null where no run got as far as training. */
    tune: json<ReadyTune>(),
    openedAt: createdAt(),
    closedAt: instant(),
    /** A person; null: a retraining went well. */
    closedBy: text(),
    comment: text(),
  },
  (t) => [uniqueIndex('experiment_requests_open').on(t.pipeline).where(sql`closed_at is null`)],
);

export const monitors = pgTable('monitors', {
  endpoint: text().primaryKey(),
  config: json<unknown>().notNull(),
  runId: text(),
  updatedAt: createdAt(),
});

export const monitorWindows = pgTable(
  'monitor_windows',
  {
    endpoint: text().notNull(),
    from: instant('from').notNull(),
    to: instant('to').notNull(),
    figures: json<unknown>().notNull(),
    drifted: boolean().notNull(),
    at: createdAt(),
  },
  (t) => [primaryKey({ columns: [t.endpoint, t.from, t.to] })],
);

/** Where people give labels. It outlives the runs that ask in it: what was answered once is not asked again. */
export const labelQueues = pgTable('label_queues', {
  name: text().primaryKey(),
  question: text(),
  classes: json<readonly LabelValue[]>().notNull(),
  /** People asked about each item. */
  labellers: integer().notNull(),
  /** Whether one more person is asked where people disagree. */
  breakTies: boolean().notNull(),
  /** Goes up when the classes change: items of older ones are asked no more. */
  edition: integer().notNull().default(1),
  createdAt: createdAt(),
});

/** What a run waits for in a queue. */
export const labelRequests = pgTable(
  'label_requests',
  {
    id: text().primaryKey(),
    queue: text()
      .notNull()
      .references(() => labelQueues.name),
    runId: text().notNull(),
    stage: text().notNull(),
    workflowId: text(),
    status: text({ enum: LABEL_REQUEST_STATUSES }).notNull().default('open'),
    expiresAt: instant(),
    createdAt: createdAt(),
    closedAt: instant(),
    /** When the waiting run was told that all is answered. */
    toldAt: instant(),
  },
  (t) => [
    index('label_requests_open').on(t.runId).where(sql`status = 'open'`),
    index('label_requests_queue').on(t.queue),
    check('label_requests_status', oneOf('status', LABEL_REQUEST_STATUSES)),
  ],
);

export const labelItems = pgTable(
  'label_items',
  {
    id: text().primaryKey(),
    seq: bigserial({ mode: 'number' }).notNull(),
    queue: text()
      .notNull()
      .references(() => labelQueues.name),
    edition: integer().notNull(),
    /** Of the row's values, or of the request that was flagged: the same row is one item. */
    key: text().notNull(),
    shown: json<Readonly<Record<string, LabelValue | null>>>().notNull(),
    /** Greater ones are asked first. */
    priority: doublePrecision().notNull().default(0),
    needed: integer().notNull(),
    status: text({ enum: LABEL_ITEM_STATUSES }).notNull().default('open'),
    /** The label agreed on, as text; null where people could not agree. */
    label: text(),
    /** The prediction that it came from; null for a row of a dataset. */
    flagged: json<FlaggedRow>(),
    /** When the label went to the endpoint's feedback. */
    fedBackAt: instant(),
    heldBy: text(),
    heldUntil: instant(),
    createdAt: createdAt(),
    settledAt: instant(),
  },
  (t) => [
    uniqueIndex('label_items_once').on(t.queue, t.edition, t.key),
    index('label_items_next').on(t.queue, t.priority.desc(), t.seq).where(sql`status = 'open'`),
    index('label_items_feedback').on(t.settledAt).where(sql`flagged is not null and fed_back_at is null and label is not null`),
    check('label_items_status', oneOf('status', LABEL_ITEM_STATUSES)),
  ],
);

export const labelRequestItems = pgTable(
  'label_request_items',
  {
    requestId: text()
      .notNull()
      .references(() => labelRequests.id, { onDelete: 'cascade' }),
    itemId: text()
      .notNull()
      .references(() => labelItems.id),
  },
  (t) => [primaryKey({ columns: [t.requestId, t.itemId] }), index('label_request_items_item').on(t.itemId)],
);

export const labelAnswers = pgTable(
  'label_answers',
  {
    itemId: text()
      .notNull()
      .references(() => labelItems.id, { onDelete: 'cascade' }),
    by: text().notNull(),
    /** Null: skipped. */
    label: text(),
    comment: text(),
    at: createdAt(),
  },
  (t) => [primaryKey({ columns: [t.itemId, t.by] })],
);

/** What is, or was, the matter: a row from when it was raised until it is resolved. */
export const raisedAlerts = pgTable(
  'raised_alerts',
  {
    id: bigserial({ mode: 'number' }).primaryKey(),
    /** Of kind, endpoint, pipeline and subject: while one is not resolved there is no other. */
    identity: text().notNull(),
    kind: text({ enum: ALERT_KINDS }).notNull(),
    endpoint: text(),
    pipeline: text(),
    subject: text().notNull(),
    severity: text({ enum: ALERT_SEVERITIES }).notNull(),
    what: text().notNull(),
    since: instant().notNull(),
    until: instant(),
    against: text(),
    sure: text(),
    look: text().notNull(),
    command: text().notNull(),
    groupKey: text().notNull(),
    event: boolean().notNull(),
    status: text({ enum: ALERT_STATUSES }).notNull().default('open'),
    raisedAt: createdAt(),
    /** When it was raised last. */
    lastAt: createdAt(),
    /** Since when there is something to tell; null while there is not. */
    dueSince: instant(),
    /** Null: not told yet, or it became more pressing since. */
    toldAt: instant(),
    tellings: integer().notNull().default(0),
    acknowledgedAt: instant(),
    acknowledgedBy: text(),
    comment: text(),
    resolvedAt: instant(),
    /** Why it was closed without having recovered; null where it has, or stands. */
    resolvedBecause: text(),
    /** It recovered, and nobody was told yet. */
    recoveryDue: boolean().notNull().default(false),
  },
  (t) => [
    uniqueIndex('raised_alerts_open').on(t.identity).where(sql`status <> 'resolved'`),
    index('raised_alerts_due').on(t.id).where(sql`status <> 'resolved' or recovery_due`),
    index('raised_alerts_endpoint').on(t.endpoint, t.id),
    check('raised_alerts_kind', oneOf('kind', ALERT_KINDS)),
    check('raised_alerts_severity', oneOf('severity', ALERT_SEVERITIES)),
    check('raised_alerts_status', oneOf('status', ALERT_STATUSES)),
  ],
);

/** Alerts that fit are not told between two times. A column that is null fits everything; `*` stands for any text. */
export const alertSilences = pgTable('alert_silences', {
  id: bigserial({ mode: 'number' }).primaryKey(),
  kind: text({ enum: ALERT_KINDS }),
  endpoint: text(),
  pipeline: text(),
  subject: text(),
  from: instant().notNull(),
  until: instant().notNull(),
  by: text().notNull(),
  reason: text().notNull(),
  createdAt: createdAt(),
  /** Ended by hand before its time. */
  endedAt: instant(),
  endedBy: text(),
});

/** Messages to people, written with what they tell of; delivered by the orchestrator. */
export const alertMessages = pgTable(
  'alerts',
  {
    seq: bigserial({ mode: 'number' }).primaryKey(),
    /** The same one is written once. */
    key: text().notNull().unique(),
    message: json<AlertMessage>().notNull(),
    /** The alerts that it tells of: a channel gets what is told of one in its order. */
    alertIds: bigint({ mode: 'number' }).array().notNull().default(sql`'{}'`),
    /** Whether deliveries were made for the channels of that time. */
    spread: boolean().notNull().default(false),
    createdAt: createdAt(),
  },
  (t) => [index('alerts_unspread').on(t.seq).where(sql`not spread`)],
);

export const alertDeliveries = pgTable(
  'alert_deliveries',
  {
    alert: bigint({ mode: 'number' })
      .notNull()
      .references(() => alertMessages.seq, { onDelete: 'cascade' }),
    channel: text().notNull(),
    attempts: integer().notNull().default(0),
    /** When it is tried next; while one tries, when another may. */
    nextAt: createdAt(),
    deliveredAt: instant(),
    gaveUpAt: instant(),
    lastError: text(),
  },
  (t) => [primaryKey({ columns: [t.alert, t.channel] }), index('alert_deliveries_due').on(t.nextAt).where(sql`delivered_at is null and gave_up_at is null`)],
);

/** Definitions of feature views; a new definition is a new version. */
export const featureViews = pgTable(
  'feature_views',
  {
    name: text().notNull(),
    version: integer().notNull(),
    /** SHA-256 of what the view computes. */
    definition: text().notNull(),
    view: json<FeatureView>().notNull(),
    /** The materialisation that is served; null while there is none. */
    current: bigint({ mode: 'number' }),
    /** Grows with every change of `current`. */
    epoch: bigint({ mode: 'number' }).notNull().default(0),
    createdAt: createdAt(),
  },
  (t) => [primaryKey({ columns: [t.name, t.version] }), uniqueIndex('feature_views_definition').on(t.name, t.definition)],
);

export const FEATURE_SET_STATUSES = ['writing', 'published', 'undone', 'removed'] as const;

/** A materialisation of a feature view: each entity's values as of one instant. */
export const featureSets = pgTable(
  'feature_sets',
  {
    id: bigserial({ mode: 'number' }).primaryKey(),
    view: text().notNull(),
    version: integer().notNull(),
    /** The dataset that it was computed from. */
    snapshot: text().notNull(),
    asOf: instant().notNull(),
    entities: bigint({ mode: 'number' }).notNull().default(0),
    status: text({ enum: FEATURE_SET_STATUSES }).notNull().default('writing'),
    /** The view's epoch when it was published. */
    epoch: bigint({ mode: 'number' }),
    runId: text().notNull(),
    stage: text().notNull(),
    createdAt: createdAt(),
    publishedAt: instant(),
  },
  (t) => [
    foreignKey({ name: 'feature_sets_view', columns: [t.view, t.version], foreignColumns: [featureViews.name, featureViews.version] }),
    index('feature_sets_of').on(t.view, t.version, t.status),
    check('feature_sets_status', oneOf('status', FEATURE_SET_STATUSES)),
  ],
);

/** Online values. Without a reference to their set: a million rows would each be checked. A set's rows go before its mark says so. */
export const featureValues = pgTable(
  'feature_values',
  {
    set: bigint({ mode: 'number' }).notNull(),
    /** Hash of the entity. */
    key: text().notNull(),
    /** Instant of the entity's last row, milliseconds since 1970 UTC. */
    atMs: bigint({ mode: 'number' }).notNull(),
    /** JSON: feature → value. Text, because jsonb takes no U+0000. */
    values: text().notNull(),
  },
  (t) => [primaryKey({ columns: [t.set, t.key] })],
);

/** Which definitions of which views a model version was trained with. */
export const versionFeatures = pgTable(
  'version_features',
  {
    model: text().notNull(),
    version: integer().notNull(),
    view: text().notNull(),
    definition: text().notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.model, t.version, t.view, t.definition] }),
    foreignKey({ name: 'version_features_version', columns: [t.model, t.version], foreignColumns: [versions.model, versions.version] })
      .onDelete('cascade')
      .onUpdate('cascade'),
    index('version_features_view').on(t.view),
  ],
);

/** What predictions are published to: a table, or an endpoint's answers by key. */
export const predictionTargets = pgTable(
  'prediction_targets',
  {
    kind: text({ enum: PREDICTION_TARGETS }).notNull(),
    name: text().notNull(),
    /** The set that is read; null when there is none. */
    current: bigint({ mode: 'number' }),
    /** Grows with each change of `current`. */
    epoch: bigint({ mode: 'number' }).notNull().default(0),
  },
  (t) => [primaryKey({ columns: [t.kind, t.name] }), check('prediction_targets_kind', oneOf('kind', PREDICTION_TARGETS))],
);

/** Predictions of a dataset by one version, published or about to be. A table's rows lie in `prediction_sets.set_ID`. */
export const predictionSets = pgTable(
  'prediction_sets',
  {
    id: bigserial({ mode: 'number' }).primaryKey(),
    kind: text({ enum: PREDICTION_TARGETS }).notNull(),
    name: text().notNull(),
    /** The dataset of predictions. */
    snapshot: text().notNull(),
    model: text().notNull(),
    version: integer().notNull(),
    predictor: text().notNull(),
    /** Of the table, or of the key. */
    columns: json<Column[]>().notNull(),
    rows: bigint({ mode: 'number' }).notNull().default(0),
    status: text({ enum: PREDICTION_SET_STATUSES }).notNull().default('writing'),
    /** The target's epoch when it was published. */
    epoch: bigint({ mode: 'number' }),
    runId: text().notNull(),
    stage: text().notNull(),
    createdAt: createdAt(),
    publishedAt: instant(),
  },
  (t) => [
    foreignKey({ name: 'prediction_sets_target', columns: [t.kind, t.name], foreignColumns: [predictionTargets.kind, predictionTargets.name] }),
    index('prediction_sets_of').on(t.kind, t.name, t.status),
    check('prediction_sets_status', oneOf('status', PREDICTION_SET_STATUSES)),
  ],
);

/** Precomputed answers. Without a reference to their set: a million rows would each be checked. */
export const predictionAnswers = pgTable(
  'prediction_answers',
  {
    set: bigint({ mode: 'number' }).notNull(),
    /** SHA-256 of the key's text. */
    key: text().notNull(),
    /** JSON, as /predict answers it. */
    answer: text().notNull(),
  },
  (t) => [primaryKey({ columns: [t.set, t.key] })],
);

/** How far each file of lines beside the prediction log was read. */
export const logReaders = pgTable('log_readers', {
  /** Under the state folder: `feedback/ENDPOINT/SEGMENT`. */
  file: text().primaryKey(),
  endpoint: text().notNull(),
  offsetBytes: bigint({ mode: 'number' }).notNull(),
  /** Lines that said again what was known. */
  duplicates: bigint({ mode: 'number' }).notNull().default(0),
  readAt: createdAt(),
});

/** What came of predictions, once a row of a request and name: found in the prediction log, waited for, or unknown. */
export const feedback = pgTable(
  'feedback',
  {
    endpoint: text().notNull(),
    requestId: text().notNull(),
    row: integer().notNull(),
    /** An outcome's name; empty for the label. */
    name: text().notNull(),
    value: json<LabelValue>().notNull(),
    receivedAt: instant().notNull(),
    status: text({ enum: FEEDBACK_STATUSES }).notNull().default('waiting'),
    /** How often the prediction was looked for in vain. */
    tries: integer().notNull().default(0),
    nextTryAt: createdAt(),
    /** Of the prediction; null while it is not found. */
    model: text(),
    version: integer(),
    predictedAt: instant(),
  },
  (t) => [
    primaryKey({ columns: [t.endpoint, t.requestId, t.row, t.name] }),
    index('feedback_due').on(t.nextTryAt).where(sql`status = 'waiting'`),
    index('feedback_received').on(t.receivedAt),
    check('feedback_status', oneOf('status', FEEDBACK_STATUSES)),
  ],
);

/** What asks for a pipeline's retraining by itself, as its newest build declares it, and what of it was seen. */
export const retrainTriggers = pgTable(
  'retrain_triggers',
  {
    pipeline: text().notNull(),
    name: text().notNull(),
    trigger: json<RetrainTrigger>().notNull(),
    /** What the next look goes on from; null before the first one. */
    state: json<unknown>(),
    /** Grows with each look that saw something. */
    epoch: bigint({ mode: 'number' }).notNull().default(0),
    armedAt: createdAt(),
    lookedAt: instant(),
    /** Why the last look failed. */
    problem: text(),
  },
  (t) => [primaryKey({ columns: [t.pipeline, t.name] })],
);

/** Things that a trigger has seen: files, snapshots. */
export const retrainTriggerItems = pgTable(
  'retrain_trigger_items',
  {
    pipeline: text().notNull(),
    name: text().notNull(),
    item: text().notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.pipeline, t.name, t.item] }),
    foreignKey({
      name: 'retrain_trigger_items_of',
      columns: [t.pipeline, t.name],
      foreignColumns: [retrainTriggers.pipeline, retrainTriggers.name],
    }).onDelete('cascade'),
  ],
);

/** What triggers ask of the controllers; kept when they were told. */
export const retrainAsks = pgTable(
  'retrain_asks',
  {
    pipeline: text().notNull(),
    key: text().notNull(),
    seq: bigserial({ mode: 'number' }).notNull(),
    /** The trigger's. */
    name: text().notNull(),
    request: json<RetrainRequest>().notNull(),
    noticedAt: createdAt(),
    toldAt: instant(),
  },
  (t) => [primaryKey({ columns: [t.pipeline, t.key] }), index('retrain_asks_untold').on(t.seq).where(sql`told_at is null`)],
);

/** Tokens, as their SHA-256: the token itself is shown once, when it is made. */
export const accessTokens = pgTable('access_tokens', {
  id: text().primaryKey(),
  hash: text().notNull().unique(),
  /** Whose: the name that stands in records. */
  who: text().notNull(),
  roles: text({ enum: ROLES }).array().notNull(),
  /** Patterns of names that it may touch. */
  projects: text().array().notNull(),
  createdBy: text().notNull(),
  createdAt: createdAt(),
  expiresAt: instant(),
  revokedAt: instant(),
  revokedBy: text(),
});

/** Keys that this Millrace signs with; made when first needed. */
export const signingKeys = pgTable('signing_keys', {
  name: text().primaryKey(),
  /** 32 bytes, hexadecimal. */
  secret: text().notNull(),
  createdAt: createdAt(),
});

/** Vouchers that were used, until they would have expired. */
export const spentVouchers = pgTable('spent_vouchers', {
  nonce: text().primaryKey(),
  /** The update that used it: its repetition is no second use. */
  spentBy: text().notNull(),
  expiresAt: instant().notNull(),
});

/** Every decision and change, each with the hash of the one before. A trigger refuses to change and to delete. */
export const auditLog = pgTable(
  'audit_log',
  {
    /** 1, 2, 3 … without a gap. */
    seq: bigint({ mode: 'number' }).primaryKey(),
    at: instant().notNull(),
    who: text().notNull(),
    action: text().notNull(),
    subject: text().notNull(),
    details: json<Readonly<Record<string, unknown>>>().notNull(),
    prevHash: text().notNull(),
    hash: text().notNull(),
  },
  (t) => [index('audit_log_subject').on(t.subject, t.seq)],
);

/** Rights to decide that were lent. */
export const delegations = pgTable('delegations', {
  id: bigserial({ mode: 'number' }).primaryKey(),
  lender: text().notNull(),
  borrower: text().notNull(),
  until: instant().notNull(),
  reason: text().notNull(),
  createdAt: createdAt(),
  endedAt: instant(),
});

export const COMMENT_KINDS = ['run', 'version'] as const;

/** What people say of runs and versions. */
export const comments = pgTable(
  'comments',
  {
    id: bigserial({ mode: 'number' }).primaryKey(),
    kind: text({ enum: COMMENT_KINDS }).notNull(),
    /** A run's id, or `MODEL/VERSION`. */
    subject: text().notNull(),
    who: text().notNull(),
    text: text().notNull(),
    at: createdAt(),
  },
  (t) => [index('comments_of').on(t.kind, t.subject, t.id), check('comments_kind', oneOf('kind', COMMENT_KINDS))],
);
