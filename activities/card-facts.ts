import { createRequire } from 'node:module';
import { packageVersion } from '../config/package-root.ts';
import type { EnsembleParameters } from '../contracts/ensemble.ts';
import { EvaluationReportSchema, type EvaluationReport } from '../contracts/evaluation.ts';
import { ValidationResultSchema } from '../contracts/expectations.ts';
import { columnsOfFeature, type Features } from '../contracts/features.ts';
import { METRIC_TABLE } from '../contracts/metrics.ts';
import { type CardColumn, type ModelCard, ModelCardSchema } from '../contracts/model-card.ts';
import { type ColumnProfile, ProfileSchema } from '../contracts/profile.ts';
import { DatasetManifestSchema, type DatasetRef } from '../contracts/references.ts';
import { requirePredictor } from '../contracts/required-predictor.ts';
import { type Predictor, PredictorSchema } from '../contracts/signature.ts';
import { EvaluateInputSchema, SelectInputSchema, TrainInputSchema } from '../contracts/stages.ts';
import { TuningHistorySchema } from '../contracts/tuning.ts';
import type { VersionRecord } from '../store/models.ts';
import type { StageRecord } from '../store/stages.ts';
import { cardRules } from './card-rules.ts';
import type { ActivityDependencies } from './dependencies.ts';

type Deps = Pick<ActivityDependencies, 'store' | 'artifacts'>;
type Personal = ReadonlyMap<string, NonNullable<CardColumn['personal']>>;

/** Packages whose version says something about a model's bytes or answers. */
const PACKAGES = ['onnxruntime-node', '@duckdb/node-api'] as const;

/** What a stage gave back; its record holds it beside a line for people. */
const outputOf = (stage: StageRecord): Readonly<Record<string, unknown>> =>
  (stage.output as { readonly value?: Readonly<Record<string, unknown>> } | null)?.value ?? {};
const candidateOf = (value: unknown): string | undefined => (value as { readonly predictor?: string } | null | undefined)?.predictor;

/** What is known of a version from the records and artifacts of its run: all of its card but the page. */
export async function cardFacts(version: VersionRecord & { readonly runId: string }, deps: Deps): Promise<ModelCard> {
  const { store, artifacts } = deps;
  const [run, stages, model] = await Promise.all([store.runs.get(version.runId), store.stages.list(version.runId), store.models.find(version.model)]);
  const id = requirePredictor(version);
  const predictor = PredictorSchema.parse(await artifacts.getJson(id));
  const { signature } = predictor;
  const trainings = trainingsIn(stages);
  const trained = await trainingOf(id, predictor, trainings, deps);
  // an ensemble was trained by its members' stages
  const inputs = (trained === null ? trainings.filter((training) => membersOf(predictor).includes(training.predictor)) : [trained]).map(({ stage }) =>
    TrainInputSchema.parse(stage.input),
  );
  const evaluate = stages.find((stage) => stage.kind === 'evaluate' && version.evaluation !== null && outputOf(stage)['report'] === version.evaluation);
  const judged = evaluate === undefined ? null : EvaluateInputSchema.parse(evaluate.input);
  const [input = null] = inputs;
  const report = version.evaluation === null ? null : EvaluationReportSchema.parse(await artifacts.getJson(version.evaluation));
  // the rows judged are named by the report itself: what of them is personal is known even where a stage is not
  const personal = await personalColumns([...inputs.map(({ train }) => train.id), report?.on], deps);
  const tuning = trained === null ? null : await tuningOf(trained.predictor, stages, deps);
  const purpose = model?.purpose ?? run.purpose;
  return ModelCardSchema.parse({
    format: 'millrace-card/1',
    model: version.model,
    version: version.version,
    description: version.description,
    owner: version.owner ?? model?.owner ?? null,
    purpose: (purpose ?? null) as ModelCard['purpose'],
    createdAt: new Date(version.createdAt).toISOString(),
    predictor: id,
    onnxSizeBytes: predictor.onnxSizeBytes,
    run: { id: run.id, pipeline: run.pipeline, commit: run.gitCommit, clean: run.gitClean, build: run.buildId },
    task: publicTask(signature.task, personal),
    threshold: signature.task.kind === 'binary' ? signature.threshold : null,
    trainer: predictor.trainer,
    training:
      trained === null || input === null
        ? null
        : {
            seed: input.seed,
            rows: trained.rows,
            ofRows: input.train.rows,
            device: trained.stage.device,
            cpuSeconds: trained.stage.cpuSeconds,
            peakMib: trained.stage.peakMib,
            from: predictor.from ?? null,
            features: Object.entries(input.features).map(([name, feature]) => ({ name, kind: feature.kind, columns: [...columnsOfFeature(name, feature)] })),
          },
    data: await dataOf({ training: input?.train, validation: input?.validation, test: judged?.on }, deps),
    columns: await columnsOf(predictor, personal, deps),
    importance: publicImportance(
      predictor.importance,
      inputs.map(({ features }) => features),
      personal,
    ),
    selection: selectionOf(id, stages),
    evaluation: report === null ? null : publicReport(report, signature.task, personal),
    hiddenSlices: report === null ? [] : report.slices.filter(({ column }) => isPersonalSlice(column, personal)).map(({ column }) => column),
    rules: report === null || judged === null ? [] : cardRules(judged.accept, report),
    tuning,
    environment: environment(),
    page: null,
  } satisfies ModelCard);
}

/** Predictors that an ensemble is made of; none for any other. */
function membersOf({ trainer }: Predictor): readonly string[] {
  return trainer.name === 'ensemble' ? (trainer.parameters as EnsembleParameters).members.map(({ predictor }) => predictor) : [];
}

interface Training {
  readonly stage: StageRecord;
  readonly predictor: string;
  readonly rows: number;
}

function trainingsIn(stages: readonly StageRecord[]): readonly Training[] {
  return stages.flatMap((stage) => {
    const output =
      stage.kind === 'train' ? outputOf(stage) : stage.kind === 'trial' ? ((outputOf(stage)['candidate'] ?? {}) as Readonly<Record<string, unknown>>) : {};
    const made = candidateOf(output);
    return made === undefined ? [] : [{ stage, predictor: made, rows: Number(output['rows']) }];
  });
}

/** The stage that trained the predictor, and what it was before its threshold was moved. */
async function trainingOf(id: string, predictor: Predictor, trainings: readonly Training[], { artifacts }: Deps): Promise<Training | null> {
  const same = trainings.find((training) => training.predictor === id);
  if (same !== undefined) return same;
  for (const training of trainings) {
    const other = PredictorSchema.parse(await artifacts.getJson(training.predictor));
    if (other.onnx === predictor.onnx) return training;
  }
  return null;
}

async function tuningOf(trained: string, stages: readonly StageRecord[], { artifacts }: Deps): Promise<ModelCard['tuning']> {
  const stage = stages.find((one) => one.kind === 'tune' && candidateOf(outputOf(one)['best']) === trained);
  const history = stage === undefined ? undefined : outputOf(stage)['history'];
  if (typeof history !== 'string') return null;
  const { metric, direction, seed, parameters, best, search, trials } = TuningHistorySchema.parse(await artifacts.getJson(history));
  return {
    metric,
    direction,
    seed,
    parameters,
    best,
    search: search.method,
    trials: trials.map(({ trial, state, values, value, seconds }) => ({ trial, state, values, value, seconds })),
  };
}

function selectionOf(id: string, stages: readonly StageRecord[]): ModelCard['selection'] {
  const stage = stages.find((one) => one.kind === 'select' && candidateOf(outputOf(one)['candidate']) === id);
  if (stage === undefined) return null;
  const { metric } = SelectInputSchema.parse(stage.input);
  const scores = (outputOf(stage)['scores'] ?? []) as readonly {
    readonly trainer: string;
    readonly value: number | null;
    readonly metrics?: Readonly<Record<string, number>>;
  }[];
  const sign = METRIC_TABLE[metric].better === 'higher' ? -1 : 1;
  const compared = scores
    .flatMap(({ trainer, value, metrics }) =>
      value === null || !Number.isFinite(value) ? [] : [{ trainer, value, ...(metrics === undefined ? {} : { metrics }) }],
    )
    .sort((a, b) => sign * (a.value - b.value));
  // of equal ones the first was taken, as it stands here: sorting keeps their order
  return compared.length === 0 ? null : { metric, scores: compared.map((score, place) => ({ ...score, chosen: place === 0 })) };
}

/** Columns of which no value may be shown: declared at ingest, or found to look personal by a validation on the way. */
async function personalColumns(ids: readonly (string | undefined)[], { store, artifacts }: Deps): Promise<Personal> {
  const found = new Map<string, NonNullable<CardColumn['personal']>>();
  const declared: [string, 'hash' | 'mask'][] = [];
  for (const id of new Set(ids)) {
    if (id === undefined) continue;
    declared.push(...Object.entries(DatasetManifestSchema.parse(await artifacts.getJson(id)).sensitive));
    for (const ancestor of (await store.datasets.lineage(id)).ancestors) {
      if (ancestor.kind !== 'validate') continue;
      const { report } = await store.datasets.get(ancestor.id);
      if (report === null) continue;
      for (const { column } of ValidationResultSchema.parse(await artifacts.getJson(report)).personal ?? []) found.set(column, 'undeclared');
    }
  }
  for (const [column, how] of declared) found.set(column, how);
  return found;
}

const isPersonalSlice = (column: string, personal: Personal): boolean => personal.has(column) || column.split(' × ').some((part) => personal.has(part));

/** Classes are values of the target: they are numbered where it is personal. */
const numbered = (classes: readonly string[]): string[] => classes.map((_, place) => `class ${String(place + 1)}`);
const hasPersonalClasses = (task: ModelCard['task'], personal: Personal): boolean => 'classes' in task && personal.has(task.target);
const publicTask = (task: ModelCard['task'], personal: Personal): ModelCard['task'] =>
  'classes' in task && hasPersonalClasses(task, personal) ? { ...task, classes: numbered(task.classes) } : task;

/** Parts of a feature bear values in their names (`origin=SEA`): those of personal columns stand together, under the feature's name. */
function publicImportance(importance: Predictor['importance'], recipes: readonly Features[], personal: Personal): ModelCard['importance'] {
  const hidden = recipes
    .flatMap((features) => Object.entries(features))
    .flatMap(([name, feature]) => (columnsOfFeature(name, feature).some((column) => personal.has(column)) ? [name] : []));
  const shares = new Map<string, number>();
  for (const { feature, share } of importance) {
    const name = hidden.find((prefix) => feature.startsWith(prefix)) ?? feature;
    shares.set(name, (shares.get(name) ?? 0) + share);
  }
  return [...shares].map(([feature, share]) => ({ feature, share })).sort((a, b) => b.share - a.share);
}

/** The evaluation without rows and values of rows. */
function publicReport(report: EvaluationReport, task: ModelCard['task'], personal: Personal): EvaluationReport {
  const { confusion, ...curves } = report.curves;
  const hidden = hasPersonalClasses(task, personal);
  return {
    ...report,
    classes: hidden ? numbered(report.classes) : report.classes,
    curves: {
      ...curves,
      ...(confusion === undefined ? {} : { confusion: hidden ? { ...confusion, classes: numbered(confusion.classes) } : confusion }),
    },
    slices: report.slices.filter(({ column }) => !isPersonalSlice(column, personal)),
    tests: report.tests.map((test) => ({ ...test, examples: [] })),
    explanations: [],
    problems: [],
    warnings: [],
  };
}

async function dataOf(
  refs: Readonly<Partial<Record<'training' | 'validation' | 'test', DatasetRef | undefined>>>,
  { store }: Deps,
): Promise<ModelCard['data']> {
  const { training } = refs;
  const ancestors = training === undefined ? [] : (await store.datasets.lineage(training.id)).ancestors;
  const snapshots = ancestors
    .filter(({ kind }) => kind === 'ingest')
    .map(({ id, name, rows }) => ({ role: 'snapshot' as const, id, name: name ?? '', rows: rows ?? 0 }));
  const parts = (['training', 'validation', 'test'] as const).flatMap((role) => {
    const ref = refs[role];
    return ref === undefined ? [] : [{ role, id: ref.id, name: ref.name, rows: ref.rows }];
  });
  return [...snapshots, ...parts];
}

async function columnsOf(predictor: Predictor, personal: Personal, { artifacts }: Deps): Promise<CardColumn[]> {
  const profile = predictor.trainingProfile === null ? null : ProfileSchema.parse(await artifacts.getJson(predictor.trainingProfile));
  const views = new Map(predictor.lookups.flatMap(({ view, features }) => Object.keys(features).map((column) => [column, view] as const)));
  return predictor.signature.columns.map(({ name, type }) => {
    const found = profile?.columns.find((column) => column.name === name);
    return {
      name,
      type,
      personal: personal.get(name) ?? null,
      unserved: Object.hasOwn(predictor.unserved, name) ? (predictor.unserved[name] ?? null) : null,
      view: views.get(name) ?? null,
      training:
        found === undefined || profile === null
          ? null
          : { rows: profile.rows, nulls: found.nulls, distinct: found.distinct, range: personal.has(name) ? null : rangeOf(found) },
    };
  });
}

function rangeOf({ type, values }: ColumnProfile): NonNullable<CardColumn['training']>['range'] {
  if (values.kind === 'string' || type === 'boolean' || values.min === null || values.max === null) return null;
  return [values.min, values.kind === 'number' ? (values.quantiles.find(({ q }) => q === 0.5)?.value ?? null) : null, values.max];
}

function environment(): Record<string, string> {
  const require = createRequire(import.meta.url);
  const packages = PACKAGES.map((name) => [name, (require(`${name}/package.json`) as { version: string }).version] as const);
  return { millrace: packageVersion, 'Node.js': process.versions.node, platform: `${process.platform} ${process.arch}`, ...Object.fromEntries(packages) };
}
