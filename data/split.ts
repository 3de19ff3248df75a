/**
 * Training, validation and test parts of a dataset, and folds.
 *
 * Invariants:
 * 1. Every row is in exactly one part, and rows keep their order within it. Of folds, every row that is not for testing
 *    is in the validation part of one; going forward in time, all but the rows of the first block are.
 * 2. The same data, options and seed give the same parts, byte for byte.
 * 3. By time, every instant of a part is later than every instant of the part before it. By group, no group is in two parts.
 * 4. Only training parts have a profile: no statistic sees the others.
 * 5. A fold's training part is a list of the files of other folds: folds take the room of the dataset once.
 */
import { MillraceError } from '../contracts/errors.ts';
import type { DatasetManifest, DatasetRef, Reserved } from '../contracts/references.ts';
import type { FoldOptions, LeakOptions, LeakReport, SplitOptions } from '../contracts/split.ts';
import type { ArtifactPort } from './artifact-port.ts';
import { createColumnScan } from './column-scan.ts';
import { datasetFiles, loadManifest, type StoredDataset, storeManifest, type WrittenFile, writeSnapshot } from './dataset.ts';
import { type DuckDb, type DuckDbOptions, withDuckDb } from './duckdb.ts';
import { goldenRows } from './golden.ts';
import { findLeaks, type LeakPart } from './leaks.ts';
import { impossible, type Partition, type PartitionPlan, partitionRows } from './partition.ts';
import { finishProfile, planProfile } from './profile.ts';
import { bindHashKey } from './row-transforms-sql.ts';
import { identifier, parquetRelation } from './sql-text.ts';

interface SplitInput<Options> extends DuckDbOptions {
  readonly manifest: DatasetManifest;
  /** The manifest's own SHA-256: the parts' parent. */
  readonly id: string;
  readonly options: Options;
  readonly artifacts: ArtifactPort;
  /** Needed where the dataset has hashed columns since its golden set was reserved. */
  readonly hashKey?: string;
}
export type SplitDatasetOptions = SplitInput<SplitOptions>;
export type FoldDatasetOptions = SplitInput<FoldOptions>;

export interface SplitDatasets {
  readonly train: StoredDataset;
  readonly validation: StoredDataset;
  readonly test: StoredDataset;
  /** What the leak checks found (artifact and content); null where none was made. */
  readonly leaks: StoredLeakReport | null;
}

export interface FoldDatasets {
  readonly folds: readonly { readonly train: StoredDataset; readonly validation: StoredDataset }[];
  readonly test: StoredDataset | null;
  readonly leaks: StoredLeakReport | null;
}

export interface StoredLeakReport {
  readonly sha256: string;
  readonly report: LeakReport;
}

/**
 * Splits a dataset into snapshots of its own.
 * @throws MillraceError SPLIT_IMPOSSIBLE where a part would have no row, SPLIT_LEAKS, COLUMN_MISSING, COLUMN_TYPE
 */
export async function splitDataset(input: SplitDatasetOptions): Promise<SplitDatasets> {
  const { manifest, options } = input;
  return withDuckDb(input, async (db) => {
    const { plan, shares } = planOf(options);
    const files = await datasetFiles(input.artifacts, manifest);
    const fixed = options.by === 'fixed' ? await fixedTest(db, input, options.test) : undefined;
    const partition = await partitionRows(db, files, manifest, plan, shares);
    const write = (at: number, part: string): Promise<WrittenFile> => writePart(db, input, partition, at, part);
    const train = await storePart(db, input, 'train', [await write(shares.length - 1, 'train')], null);
    const validation = await storePart(db, input, 'validation', [await write(shares.length - 2, 'validation')], 'validation');
    const test = fixed ?? (await storePart(db, input, 'test', [await write(0, 'test')], 'test'));
    const leaks = await checkLeaks(db, input, options.leaks, plan, [
      await leakPart(input.artifacts, 'training', train),
      await leakPart(input.artifacts, 'validation', validation),
      await leakPart(input.artifacts, 'test', test),
    ]);
    return { train, validation, test, leaks };
  });
}

/** The parts from the last that is used to the first: test, validation, training; a fixed test is not among them. */
function planOf(options: SplitOptions): { readonly plan: PartitionPlan; readonly shares: readonly number[] } {
  const { validationFraction } = options;
  if (options.by === 'fixed') {
    const { seed, group } = options;
    return { plan: group === undefined ? { by: 'random', seed } : { by: 'group', column: group, seed }, shares: [validationFraction, 1 - validationFraction] };
  }
  return { plan: options, shares: [options.testFraction, validationFraction, 1 - options.testFraction - validationFraction] };
}

/**
 * Makes k pairs of training and validation parts.
 * @throws MillraceError SPLIT_IMPOSSIBLE where a part would have no row, SPLIT_LEAKS, COLUMN_MISSING, COLUMN_TYPE
 */
export async function foldDataset(input: FoldDatasetOptions): Promise<FoldDatasets> {
  const { manifest, options } = input;
  const { k, test: tested } = options;
  return withDuckDb(input, async (db) => {
    const files = await datasetFiles(input.artifacts, manifest);
    const golden = tested === 'golden' ? await fixedTest(db, input, undefined) : undefined;
    const testShare = typeof tested === 'number' ? [tested] : [];
    const blocks = options.by === 'time' ? k + 1 : k;
    const each = (1 - (testShare[0] ?? 0)) / blocks;
    const partition = await partitionRows(db, files, manifest, options, [...testShare, ...Array<number>(blocks).fill(each)]);
    const written: WrittenFile[] = [];
    for (let at = testShare.length; at < partition.where.length; at++)
      written.push(await writePart(db, input, partition, at, `fold ${at - testShare.length + 1}`));
    // By time the latest block comes first: folds are counted forward.
    if (options.by === 'time') written.reverse();
    const test = golden ?? (testShare.length === 0 ? null : await storePart(db, input, 'test', [await writePart(db, input, partition, 0, 'test')], 'test'));
    const folds: { train: StoredDataset; validation: StoredDataset }[] = [];
    const first = options.by === 'time' ? 1 : 0;
    for (let fold = 1; fold <= k; fold++) {
      const held = written[fold - 1 + first];
      if (held === undefined) continue;
      const others = options.by === 'time' ? written.slice(0, fold) : written.filter((file) => file !== held);
      folds.push({
        train: await storePart(db, input, `fold${fold}-train`, others, null),
        validation: await storePart(db, input, `fold${fold}-validation`, [held], 'validation'),
      });
    }
    const parts: LeakPart[] = await Promise.all(
      written.map(async (file, at) => ({ name: `fold ${at + 1}`, fold: true, files: [{ path: await input.artifacts.pathOf(file.sha256), rows: file.rows }] })),
    );
    if (test !== null) parts.push(await leakPart(input.artifacts, 'test', test));
    return { folds, test, leaks: await checkLeaks(db, input, options.leaks, options, parts) };
  });
}

const leakPart = async (artifacts: ArtifactPort, name: string, { manifest }: StoredDataset): Promise<LeakPart> => ({
  name,
  files: await datasetFiles(artifacts, manifest),
});

async function checkLeaks(
  db: DuckDb,
  { manifest, artifacts }: SplitInput<unknown>,
  options: LeakOptions,
  plan: PartitionPlan,
  parts: readonly LeakPart[],
): Promise<StoredLeakReport | null> {
  const report = await findLeaks(db, {
    parts,
    columns: manifest.columns,
    options,
    ...(plan.by === 'group' ? { groups: plan.column } : {}),
    ...(plan.by === 'time' ? { time: plan.column } : {}),
  });
  return report === null ? null : { sha256: (await artifacts.putJson(report)).sha256, report };
}

function writePart(db: DuckDb, { manifest, artifacts }: SplitInput<unknown>, partition: Partition, at: number, part: string): Promise<WrittenFile> {
  const list = manifest.columns.map(({ name }) => identifier(name)).join(', ');
  return writeSnapshot(db, artifacts, `SELECT ${list} FROM ${partition.relation} WHERE ${partition.where[at] ?? 'false'}`, {
    filtered: true,
    whenEmpty: () => impossible(`No row falls to the ${part} part of the ${manifest.rows} rows.`),
  });
}

async function storePart(
  db: DuckDb,
  { manifest, id, artifacts, options }: SplitInput<{ readonly leaks: LeakOptions }>,
  part: string,
  files: readonly WrittenFile[],
  keptFor: Reserved | null,
): Promise<StoredDataset> {
  const rows = files.reduce((sum, file) => sum + file.rows, 0);
  const reserved = keptFor ?? manifest.reserved;
  const profile =
    reserved === null ? await profileOf(db, artifacts, files, manifest, typeof options.leaks === 'object' ? options.leaks.target : undefined) : null;
  return storeManifest(artifacts, { ...manifest, name: `${manifest.name}-${part}`, rows, files: [...files], profile, parents: [id], reserved });
}

async function profileOf(
  db: DuckDb,
  artifacts: ArtifactPort,
  written: readonly WrittenFile[],
  { columns, sensitive }: DatasetManifest,
  target: string | undefined,
): Promise<string> {
  const files = await Promise.all(written.map(async ({ sha256, rows }) => ({ path: await artifacts.pathOf(sha256), rows })));
  const scan = createColumnScan(parquetRelation(files.map(({ path }) => path)));
  const plan = planProfile(scan, columns);
  const seen = { masked: new Set(Object.keys(sensitive)), ...(target === undefined ? {} : { target }) };
  return (await artifacts.putJson(await finishProfile(db, files, plan, await scan.run(db), seen))).sha256;
}

/** The test part that is the same in every run: the dataset that is given, or the golden set with what the dataset went through since. */
async function fixedTest(db: DuckDb, input: SplitInput<unknown>, given: DatasetRef | undefined): Promise<StoredDataset> {
  const { manifest, id, artifacts, hashKey } = input;
  if (given !== undefined) {
    const test = await loadManifest(artifacts, given);
    const unlike = manifest.columns.filter(({ name, type }) => !test.columns.some((there) => there.name === name && there.type === type));
    if (unlike.length > 0) {
      throw new MillraceError('COLUMN_MISSING', `The test dataset ${test.name} does not have the columns of ${manifest.name}.`, {
        problems: unlike.map(({ name, type }) => ({
          path: 'split.test',
          column: name,
          message: `The test dataset has no column ${name} of type ${type}.`,
          fix: 'Bring both datasets through the same steps before the split.',
        })),
      });
    }
    return { ref: given, manifest: test };
  }
  if (manifest.golden === null) {
    throw impossible(
      `The dataset ${manifest.name} has no golden set, and no test dataset is given.`,
      'Reserve one at ingest: ingest({ golden: { fraction: 0.1 } }), or name a dataset: test.',
    );
  }
  const golden = await loadManifest(artifacts, { id: manifest.golden });
  const { sql, transforms } = await goldenRows(artifacts, golden, manifest);
  if (hashKey !== undefined) await bindHashKey(db, hashKey);
  const list = manifest.columns.map(({ name }) => identifier(name)).join(', ');
  const files =
    transforms.length === 0
      ? golden.files
      : [
          await writeSnapshot(db, artifacts, `SELECT ${list} FROM ${sql}`, {
            filtered: transforms.some(({ kind }) => kind === 'keep'),
            whenEmpty: () => impossible('No golden row is kept by the transforms that the dataset went through.'),
          }),
        ];
  const rows = files.reduce((sum, file) => sum + file.rows, 0);
  return storeManifest(artifacts, {
    ...manifest,
    name: `${manifest.name}-test`,
    rows,
    files: [...files],
    profile: null,
    parents: [manifest.golden, id],
    reserved: 'test',
  });
}
