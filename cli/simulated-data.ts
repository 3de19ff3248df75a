import { mkdtemp, rm } from 'node:fs/promises';
import { existsSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { extname, join, resolve } from 'node:path';
import type { Column, RawColumn, RawTable } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';
import { featureColumns, FeaturesSchema } from '../contracts/features.ts';
import type { Simulation } from '../contracts/policy.ts';
import type { DatasetManifest, DatasetRef } from '../contracts/references.ts';
import { SourceSchema } from '../contracts/source.ts';
import { FoldInputSchema, SplitInputSchema, type TrainInput, TrainInputSchema } from '../contracts/stages.ts';
import type { ArtifactPort } from '../data/artifact-port.ts';
import { datasetFiles, loadManifest } from '../data/dataset.ts';
import { ingestSource } from '../data/ingest.ts';
import { readColumns } from '../data/read-columns.ts';
import { refuseReserved } from '../data/reserved.ts';
import type { SimulatePoliciesInput } from '../ml/backtest/simulate-policies.ts';
import { createArtifacts } from '../store/artifacts.ts';
import type { Clients } from './clients.ts';
import { requireThere } from './datasets-commands.ts';
import { requirePipeline } from './pipelines.ts';

/** Rows × columns that a replay holds in memory: about 400 MB. */
const MOST_CELLS = 50_000_000;
const RUNS_LOOKED_AT = 20;
const FORMATS: Readonly<Record<string, string>> = {
  '.csv': 'csv',
  '.tsv': 'tsv',
  '.parquet': 'parquet',
  '.json': 'json',
  '.jsonl': 'jsonl',
  '.ndjson': 'jsonl',
};

export interface SimulatedDataOptions {
  readonly pipeline: string;
  /** A file, or a dataset's name or id. */
  readonly data?: string;
  /** In place of data: what this endpoint was asked, with the labels that came since. */
  readonly endpoint?: string;
  readonly from?: Date;
  readonly to?: Date;
  readonly simulation: Simulation;
}

export interface SimulatedData {
  readonly table: RawTable;
  readonly simulation: SimulatePoliciesInput['simulation'];
  /** What was read, for people. */
  readonly told: string;
  /** Rows without a label, which are left out. */
  readonly unlabelled: number;
}

/**
 * The rows that are replayed, and the model that is trained on them. What neither files nor options say is that of the
 * pipeline's last run that trained: its target, features and trainer, and the dataset that it was split from.
 * @throws NOT_FOUND, UNKNOWN_PIPELINE, INVALID_PARAMETERS, COLUMN_MISSING, OUT_OF_MEMORY, SOURCE_EMPTY
 */
export async function simulatedData(clients: Clients, options: SimulatedDataOptions): Promise<SimulatedData> {
  const { data, endpoint, simulation } = options;
  const file = data !== undefined && endpoint === undefined ? fileOf(data) : undefined;
  const isComplete = simulation.target !== undefined && simulation.trainer !== undefined;
  // a file and a policy that say all need no stack
  const trained = file !== undefined && isComplete ? undefined : await lastTraining(clients, options.pipeline, (data ?? endpoint) !== undefined);
  const folder = file === undefined && endpoint === undefined ? undefined : await mkdtemp(join(tmpdir(), 'millrace-simulate-'));
  try {
    const opened = await openData(clients, options, { file, folder, trained });
    const { manifest } = opened;
    const isThere = (name: string | undefined): name is string => manifest.columns.some((column) => column.name === name);
    // in a log the target is what came as label
    const target =
      endpoint === undefined ? (simulation.target ?? trained?.input.target) : isThere(simulation.target) ? simulation.target : ownOfLog(manifest, 'label');
    if (target === undefined) throw missing('target', 'names the column that is predicted');
    const time = endpoint === undefined ? simulation.time : isThere(simulation.time) ? simulation.time : ownOfLog(manifest, 'at');
    const features =
      simulation.features ??
      (trained === undefined
        ? allFeatures(endpoint === undefined ? manifest.columns : manifest.columns.filter(({ name }) => !OF_LOG.test(name)), [target, time ?? ''])
        : trained.input.features);
    const trainer = simulation.trainer ?? trained?.input.trainer ?? { name: 'gbdt' as const, parameters: {} };
    const names = [...new Set([...featureColumns(features), target, ...(time === undefined ? [] : [time])])];
    if (manifest.rows * names.length > MOST_CELLS) {
      throw new MillraceError(
        'OUT_OF_MEMORY',
        `${manifest.name} has ${String(manifest.rows)} rows of ${String(names.length)} columns: more than a replay holds in memory.`,
        {
          fix: 'Narrow it down with --from and --to, or ingest a part of the data.',
        },
      );
    }
    const files = await datasetFiles(opened.artifacts, manifest);
    const read = await readColumns(
      files.map(({ path }) => path),
      names,
    );
    const { table, unlabelled } = keptRows(read, { target, time, from: options.from, to: options.to });
    if (table.rows === 0)
      throw new MillraceError('SOURCE_EMPTY', `${opened.told} has no row with a label to replay.`, { fix: 'Give other data, or another window.' });
    const task = simulation.task ?? (trained === undefined || trained.input.task === 'ranking' ? 'auto' : trained.input.task);
    return {
      table,
      simulation: { ...simulation, target, features, trainer, task, ...(time === undefined ? {} : { time }) },
      told: opened.told,
      unlabelled,
    };
  } finally {
    if (folder !== undefined) await rm(folder, { recursive: true, force: true });
  }
}

const missing = (what: string, why: string): MillraceError =>
  new MillraceError('INVALID_PARAMETERS', `Nothing says what the ${what} is.`, {
    problems: [{ path: `simulation.${what}`, message: `is missing: it ${why}`, fix: `Give --${what}, or say it in the policy file under simulation.` }],
  });

function fileOf(data: string): string | undefined {
  const path = resolve(data);
  if (existsSync(path) && statSync(path).isFile()) return path;
  if (FORMATS[extname(data)] === undefined) return undefined;
  throw new MillraceError('NOT_FOUND', `There is no file ${data}.`, { fix: 'Give the path of a file, or the name or id of a dataset: --data.' });
}

interface LastTraining {
  readonly input: TrainInput;
  /** The dataset that was split, else the one that was trained on. */
  readonly dataset: DatasetRef;
}

/** What the newest run that trained was given; undefined where there is none and it need not be. */
async function lastTraining(clients: Clients, pipeline: string, isOptional: boolean): Promise<LastTraining | undefined> {
  const store = await clients.store();
  for (const run of await store.runs.list({ pipeline, status: 'completed', limit: RUNS_LOOKED_AT })) {
    const stages = await store.stages.list(run.id);
    const input = stages.filter(({ kind }) => kind === 'train').flatMap((stage) => TrainInputSchema.safeParse(stage.input).data ?? [])[0];
    if (input === undefined) continue;
    const split = stages.flatMap((stage) =>
      stage.kind === 'split' || stage.kind === 'fold' ? ((stage.kind === 'split' ? SplitInputSchema : FoldInputSchema).safeParse(stage.input).data ?? []) : [],
    )[0];
    return { input, dataset: split?.dataset ?? input.train };
  }
  if (isOptional) return undefined;
  await requirePipeline(store, pipeline);
  throw new MillraceError('NOT_FOUND', `No run of ${pipeline} has trained a model yet.`, {
    fix: 'Run the pipeline, or say all of it: --data, and target and trainer in the policy file under simulation.',
  });
}

interface OpenedData {
  readonly artifacts: ArtifactPort;
  readonly manifest: DatasetManifest;
  readonly told: string;
}

async function openData(
  clients: Clients,
  { data, endpoint, from, to }: SimulatedDataOptions,
  { file, folder, trained }: { readonly file: string | undefined; readonly folder: string | undefined; readonly trained: LastTraining | undefined },
): Promise<OpenedData> {
  const { config } = clients;
  if (folder !== undefined) {
    const artifacts = createArtifacts({ root: folder });
    const source = SourceSchema.parse(
      endpoint === undefined
        ? { format: FORMATS[extname(file ?? '')] ?? 'csv', path: file }
        : {
            format: 'predictions',
            endpoint,
            labelled: true,
            ...(from === undefined ? {} : { from: from.toISOString() }),
            ...(to === undefined ? {} : { to: to.toISOString() }),
          },
    );
    const { manifest } = await ingestSource({ source, name: 'replayed', artifacts, projectFolder: config.projectFolder, home: config.home });
    return { artifacts, manifest, told: endpoint === undefined ? (data ?? '') : `what the endpoint ${endpoint} was asked` };
  }
  const artifacts = createArtifacts({ root: config.artifacts.folder });
  const store = await clients.store();
  const text = data ?? trained?.dataset.id;
  if (text === undefined) throw missing('data', 'is what is replayed');
  const dataset = await store.datasets.find(text);
  requireThere(dataset);
  const manifest = await loadManifest(artifacts, dataset);
  refuseReserved(manifest, 'Give the data that was split, or a file.');
  return { artifacts, manifest, told: `the dataset ${manifest.name} ${dataset.id.slice(0, 12)}` };
}

/** A column that the log adds to what was asked; its name is another where an input has it. */
const ownOfLog = ({ columns }: DatasetManifest, name: string): string =>
  columns.some((column) => column.name === `millrace_${name}`) ? `millrace_${name}` : name;

/** What a log adds to what was asked: nobody knows it when a prediction is made. */
const OF_LOG = /^(?:millrace_)?(?:prediction(?:_\d+)?|label|requestId|row|at|model|version|labelledAt|action|propensity|explored|outcome_.*)$/;

/** Every column that can be one: numbers and truths as numbers, texts as categories. */
const allFeatures = (columns: readonly Column[], without: readonly string[]) =>
  FeaturesSchema.parse(
    Object.fromEntries(
      columns
        .filter(({ name, type }) => !without.includes(name) && type !== 'timestamp' && type !== 'date')
        .map(({ name, type }) => [name, { kind: type === 'string' ? 'categorical' : 'numeric' }]),
    ),
  );

interface Kept {
  readonly target: string;
  readonly time: string | undefined;
  readonly from: Date | undefined;
  readonly to: Date | undefined;
}

/** Rows with a label within the window. @throws USAGE where there is a window and no time */
function keptRows(table: RawTable, { target, time, from, to }: Kept): { readonly table: RawTable; readonly unlabelled: number } {
  const at = time === undefined ? undefined : table.columns.get(time);
  if ((from !== undefined || to !== undefined) && at?.kind !== 'timestamp')
    throw new MillraceError('USAGE', 'A window of time needs a column of times.', { fix: 'Name it: --time COLUMN.' });
  const isWithin = (row: number): boolean => {
    if (at?.kind !== 'timestamp') return true;
    const ms = at.values[row] ?? Number.NaN;
    return !(from !== undefined && ms < from.getTime()) && !(to !== undefined && ms >= to.getTime());
  };
  const labels = table.columns.get(target);
  const isLabelled = (row: number): boolean => (labels?.kind === 'string' ? (labels.codes[row] ?? -1) >= 0 : Number.isFinite(labels?.values[row]));
  const within = Uint32Array.from({ length: table.rows }, (_, row) => row).filter(isWithin);
  const rows = within.filter(isLabelled);
  if (rows.length === table.rows) return { table, unlabelled: 0 };
  const taken = (column: RawColumn): RawColumn =>
    column.kind === 'string'
      ? { ...column, codes: Int32Array.from(rows, (row) => column.codes[row] ?? -1) }
      : { ...column, values: Float64Array.from(rows, (row) => column.values[row] ?? Number.NaN) };
  return {
    table: { rows: rows.length, columns: new Map([...table.columns].map(([name, column]) => [name, taken(column)])) },
    unlabelled: within.length - rows.length,
  };
}
