import { createHash } from 'node:crypto';
import type { Profile } from '../contracts/profile.ts';
import type { ExpectationResult } from '../contracts/expectations.ts';
import type { DatasetRecord } from '../store/datasets.ts';
import type { VersionRecord } from '../store/models.ts';
import type { RunRecord } from '../store/runs.ts';
import type { StageRecord } from '../store/stages.ts';

/**
 * A run as OpenLineage tells it (https://openlineage.io/spec/2-0-2/OpenLineage.json): the run as a job's run, and each of
 * its stages as one of a job below it.
 *
 * Names: a pipeline is a job, a stage the job `PIPELINE.STAGE`; a dataset goes by its name, its version is its hash; a model
 * is the dataset `models/NAME`, an endpoint `endpoints/NAME`. What is read from outside has the names of OpenLineage's naming
 * convention: files by `file` and their path, objects by `s3://bucket` and their key.
 */
export interface RunFacts {
  readonly run: RunRecord;
  /** In their order. */
  readonly stages: readonly StageRecord[];
  /** Of all hashes that the stages name. */
  readonly datasets: readonly DatasetFacts[];
  readonly versions: readonly VersionRecord[];
  /** What the run was to roll out where. */
  readonly rollouts: readonly { readonly endpoint: string; readonly model: string; readonly version: number; readonly stage: string | null }[];
}

export interface DatasetFacts {
  readonly record: DatasetRecord;
  /** Null where no statistic may see the rows, or the files are gone. */
  readonly profile: Profile | null;
  /** What expectations found; none where it was not validated. */
  readonly expectations: readonly ExpectationResult[];
  /** Columns with personal values: their figures are not told. */
  readonly personal: ReadonlySet<string>;
  readonly files: number;
}

export interface Emitter {
  readonly namespace: string;
  /** Of the package. */
  readonly version: string;
}

type Facets = Readonly<Record<string, Readonly<Record<string, unknown>>>>;
interface EventDataset {
  readonly namespace: string;
  readonly name: string;
  readonly facets?: Facets;
  readonly inputFacets?: Facets;
  readonly outputFacets?: Facets;
}
export interface OpenLineageEvent {
  readonly eventType: 'START' | 'COMPLETE' | 'FAIL' | 'ABORT';
  readonly eventTime: string;
  readonly producer: string;
  readonly schemaURL: string;
  readonly run: { readonly runId: string; readonly facets: Facets };
  readonly job: { readonly namespace: string; readonly name: string; readonly facets: Facets };
  readonly inputs: readonly EventDataset[];
  readonly outputs: readonly EventDataset[];
}

const SPEC = 'https://openlineage.io/spec';
const SCHEMAS = {
  schema: `${SPEC}/facets/1-2-0/SchemaDatasetFacet.json#/$defs/SchemaDatasetFacet`,
  version: `${SPEC}/facets/1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet`,
  ownership: `${SPEC}/facets/1-0-1/OwnershipDatasetFacet.json#/$defs/OwnershipDatasetFacet`,
  dataQualityMetrics: `${SPEC}/facets/1-0-3/DataQualityMetricsInputDatasetFacet.json#/$defs/DataQualityMetricsInputDatasetFacet`,
  dataQualityAssertions: `${SPEC}/facets/1-1-0/DataQualityAssertionsDatasetFacet.json#/$defs/DataQualityAssertionsDatasetFacet`,
  outputStatistics: `${SPEC}/facets/1-0-2/OutputStatisticsOutputDatasetFacet.json#/$defs/OutputStatisticsOutputDatasetFacet`,
  parent: `${SPEC}/facets/1-2-0/ParentRunFacet.json#/$defs/ParentRunFacet`,
  errorMessage: `${SPEC}/facets/1-0-1/ErrorMessageRunFacet.json#/$defs/ErrorMessageRunFacet`,
  processing_engine: `${SPEC}/facets/1-1-1/ProcessingEngineRunFacet.json#/$defs/ProcessingEngineRunFacet`,
  executionParameters: `${SPEC}/facets/1-0-0/ExecutionParametersRunFacet.json#/$defs/ExecutionParametersRunFacet`,
  sourceCodeLocation: `${SPEC}/facets/1-1-0/SourceCodeLocationJobFacet.json#/$defs/SourceCodeLocationJobFacet`,
  jobType: `${SPEC}/facets/2-0-4/JobTypeJobFacet.json#/$defs/JobTypeJobFacet`,
  documentation: `${SPEC}/facets/1-1-0/DocumentationJobFacet.json#/$defs/DocumentationJobFacet`,
} as const;
const HASHES = /(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])/g;
/** Paths of one source that are told one by one. */
const MOST_PATHS = 1_000;
const ENDED = { completed: 'COMPLETE', failed: 'FAIL', cancelled: 'ABORT', terminated: 'ABORT' } as const;

/** Hashes that a stage names in what it was given, or in what it gave. */
export const hashesIn = (value: unknown): ReadonlySet<string> => new Set(value === null ? [] : (JSON.stringify(value).match(HASHES) ?? []));

/** A run's own id is 32 hex digits; OpenLineage wants them with hyphens. */
const uuidOf = (hex: string): string => hex.slice(0, 32).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
const stageRunId = ({ runId, name }: StageRecord): string => uuidOf(createHash('sha256').update(`${runId}\n${name}`).digest('hex'));

/** What there is to tell when a run has begun (its start) or ended (its stages, then its end). */
export function eventsOf(event: 'start' | 'end', facts: RunFacts, emitter: Emitter): readonly OpenLineageEvent[] {
  const tell = teller(facts, emitter);
  return event === 'start' ? [tell.runStart()] : [...facts.stages.filter(({ kind }) => kind !== 'trial').flatMap(tell.stage), ...tell.runEnd()];
}

function teller({ run, stages, datasets, versions, rollouts }: RunFacts, { namespace, version: packageVersion }: Emitter) {
  const producer = `https://www.npmjs.com/package/millrace/v/${packageVersion}`;
  const facet = (name: keyof typeof SCHEMAS, content: Readonly<Record<string, unknown>>): Facets => ({
    [name]: { _producer: producer, _schemaURL: SCHEMAS[name], ...content },
  });
  const known = new Map(datasets.map((one) => [one.record.id, one]));
  const pipeline = run.pipeline === '' ? (run.name ?? 'run') : run.pipeline;
  const parent = { run: { runId: uuidOf(run.id) }, job: { namespace, name: pipeline } };

  const datasetFacets = ({ record }: DatasetFacts): Facets => ({
    ...facet('schema', { fields: record.columns.map(({ name, type }, index) => ({ name, type, ordinal_position: index + 1 })) }),
    ...facet('version', { datasetVersion: record.id }),
    ...(record.owner === null ? {} : facet('ownership', { owners: [{ name: record.owner, type: 'OWNER' }] })),
  });
  const input = (one: DatasetFacts): EventDataset => ({
    namespace,
    name: one.record.name,
    facets: datasetFacets(one),
    inputFacets: { ...qualityMetrics(one), ...assertions(one) },
  });
  const output = (one: DatasetFacts): EventDataset => ({
    namespace,
    name: one.record.name,
    facets: datasetFacets(one),
    outputFacets: facet('outputStatistics', { rowCount: one.record.rows, size: one.record.sizeBytes, fileCount: one.files }),
  });
  const qualityMetrics = ({ record, profile, personal, files }: DatasetFacts): Facets =>
    profile === null
      ? {}
      : facet('dataQualityMetrics', {
          rowCount: profile.rows,
          bytes: record.sizeBytes,
          fileCount: files,
          lastUpdated: record.createdAt,
          columnMetrics: Object.fromEntries(
            profile.columns.map(({ name, nulls, distinct, values }) => [
              name,
              {
                nullCount: nulls,
                distinctCount: distinct,
                count: profile.rows - nulls,
                ...(values.kind === 'number' && !personal.has(name)
                  ? {
                      ...(values.min === null ? {} : { min: values.min }),
                      ...(values.max === null ? {} : { max: values.max }),
                      ...(values.mean === null ? {} : { sum: values.mean * (profile.rows - nulls) }),
                      quantiles: Object.fromEntries(values.quantiles.map(({ q, value }) => [String(q), value])),
                    }
                  : {}),
              },
            ]),
          ),
        });
  const assertions = ({ expectations }: DatasetFacts): Facets =>
    expectations.length === 0
      ? {}
      : facet('dataQualityAssertions', {
          assertions: expectations.map(({ expectation, success, column, severity, fraction }) => ({
            assertion: expectation.kind,
            success,
            ...(column === null ? {} : { column }),
            severity: severity === 'fail' ? 'error' : 'warn',
            ...(fraction === null ? {} : { actual: `${String(fraction)} of the values fail` }),
          })),
        });

  /** What lies outside: each path by the naming convention. */
  const sources = ({ record: { source, id } }: DatasetFacts): readonly EventDataset[] => {
    const from = source as Readonly<Record<string, unknown>> | null;
    if (from === null || typeof from['format'] !== 'string') return [];
    const { path } = from;
    const paths = (Array.isArray(path) ? path : [path]).filter((one): one is string => typeof one === 'string').slice(0, MOST_PATHS);
    if (paths.length > 0) return paths.map(placeOf);
    if (from['format'] === 'predictions') return [{ namespace, name: `endpoints/${String(from['endpoint'])}/predictions` }];
    if (from['format'] === 'rows') return [{ namespace, name: `steps/${String(from['pipeline'])}/${String(from['step'])}` }];
    return [{ namespace, name: `queries/${id.slice(0, 16)}` }];
  };
  const model = (record: VersionRecord): EventDataset => ({
    namespace,
    name: `models/${record.model}`,
    facets: facet('version', { datasetVersion: String(record.version) }),
  });
  const endpoint = (name: string): EventDataset => ({ namespace, name: `endpoints/${name}` });

  const inputsOf = (stage: StageRecord): readonly EventDataset[] => [
    ...[...hashesIn(stage.input)].flatMap((hash) => known.get(hash) ?? []).map(input),
    ...(stage.kind === 'ingest' ? madeBy(stage).flatMap(sources) : []),
    ...(stage.kind === 'deploy' || stage.kind === 'batchPredict' ? modelsIn(stage.input) : []),
  ];
  const modelsIn = (value: unknown): readonly EventDataset[] => {
    const { version } = (value ?? {}) as { readonly version?: { readonly model?: unknown; readonly version?: unknown } };
    if (typeof version?.model !== 'string') return [];
    return [{ namespace, name: `models/${version.model}`, facets: facet('version', { datasetVersion: String(version.version) }) }];
  };
  const madeBy = (stage: StageRecord): readonly DatasetFacts[] => {
    const given = hashesIn(stage.input);
    return [...hashesIn(stage.output)].flatMap((hash) => (given.has(hash) ? [] : (known.get(hash) ?? [])));
  };
  const outputsOf = (stage: StageRecord): readonly EventDataset[] => [
    ...madeBy(stage).map(output),
    ...versions.filter((version) => version.stage === stage.name).map(model),
    ...rollouts.filter((rollout) => rollout.stage === stage.name).map((rollout) => endpoint(rollout.endpoint)),
  ];
  /** The same dataset is told once, the first time. */
  const once = (list: readonly EventDataset[]): readonly EventDataset[] => {
    const seen = new Map<string, EventDataset>();
    for (const one of list) {
      const key = JSON.stringify([one.namespace, one.name, one.facets?.['version']?.['datasetVersion']]);
      if (!seen.has(key)) seen.set(key, one);
    }
    return [...seen.values()];
  };

  const engine = facet('processing_engine', { name: 'millrace', version: packageVersion, openlineageAdapterVersion: packageVersion });
  const failure = (error: RunRecord['error']): Facets =>
    error === null ? {} : facet('errorMessage', { message: `${error.code}: ${error.message}`, programmingLanguage: 'TypeScript' });
  const parameters =
    run.params === null || typeof run.params !== 'object'
      ? {}
      : facet('executionParameters', {
          parameters: Object.entries(run.params).map(([key, value]) => ({ key, value: typeof value === 'string' ? value : JSON.stringify(value) })),
        });
  const code: Facets =
    run.gitRemote === null || !URL.canParse(run.gitRemote)
      ? {}
      : facet('sourceCodeLocation', { type: 'git', url: run.gitRemote, repoUrl: run.gitRemote, ...(run.gitCommit === null ? {} : { version: run.gitCommit }) });
  const { task } = (run.purpose ?? {}) as { readonly task?: unknown };
  const jobFacets = (jobType: 'PIPELINE' | 'STAGE'): Facets => ({
    ...facet('jobType', { processingType: 'BATCH', integration: 'MILLRACE', jobType }),
    ...code,
    ...(jobType === 'PIPELINE' && typeof task === 'string' ? facet('documentation', { description: task }) : {}),
  });
  const base = { producer, schemaURL: `${SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent` };
  const runEvent = (
    eventType: OpenLineageEvent['eventType'],
    eventTime: string,
    facets: Facets,
    inputs: readonly EventDataset[],
    outputs: readonly EventDataset[],
  ): OpenLineageEvent => ({
    ...base,
    eventType,
    eventTime,
    run: { runId: uuidOf(run.id), facets: { ...engine, ...parameters, ...facets } },
    job: { namespace, name: pipeline, facets: jobFacets('PIPELINE') },
    inputs,
    outputs,
  });

  return {
    runStart: (): OpenLineageEvent => runEvent('START', run.startedAt ?? run.createdAt, {}, [], []),

    /** A stage's start and end; of one that was left running nothing is known but that it began. */
    stage: (stage: StageRecord): readonly OpenLineageEvent[] => {
      const common = {
        ...base,
        run: { runId: stageRunId(stage), facets: { ...engine, ...facet('parent', parent) } },
        job: { namespace, name: `${pipeline}.${stage.name}`, facets: jobFacets('STAGE') },
        inputs: once(inputsOf(stage)),
      };
      const start: OpenLineageEvent = { ...common, eventType: 'START', eventTime: stage.startedAt, outputs: [] };
      if (stage.endedAt === null || stage.status === 'running') return [start];
      const end: OpenLineageEvent = {
        ...common,
        eventType: ENDED[stage.status],
        eventTime: stage.endedAt,
        run: { ...common.run, facets: { ...common.run.facets, ...failure(stage.error) } },
        outputs: once(outputsOf(stage)),
      };
      return [start, end];
    },

    /** What the run read from outside of itself, and what it left. */
    runEnd: (): readonly OpenLineageEvent[] => {
      if (run.endedAt === null || run.status === 'waiting' || run.status === 'running') return [];
      const made = new Set(stages.flatMap((stage) => madeBy(stage).map(({ record }) => record.id)));
      const given = stages.flatMap((stage) => [...hashesIn(stage.input)].flatMap((hash) => (made.has(hash) ? [] : (known.get(hash) ?? []))));
      const read = stages.filter(({ kind }) => kind === 'ingest').flatMap((stage) => madeBy(stage).flatMap(sources));
      return [runEvent(ENDED[run.status], run.endedAt, failure(run.error), once([...given.map(input), ...read]), once(stages.flatMap(outputsOf)))];
    },
  };
}

/** A path by OpenLineage's naming convention. */
function placeOf(path: string): EventDataset {
  const [, scheme, host, rest] = /^(s3|https?):\/\/([^/]+)\/?(.*)$/s.exec(path) ?? [];
  return scheme === undefined
    ? { namespace: 'file', name: path }
    : { namespace: `${scheme}://${host ?? ''}`, name: rest === undefined || rest === '' ? '/' : rest };
}
