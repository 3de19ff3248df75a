import { MillraceError } from '../contracts/errors.ts';
import { ProfileSchema, type ColumnProfile, type Profile } from '../contracts/profile.ts';
import type { DatasetManifest } from '../contracts/references.ts';
import type { ComparedDataset, DatasetDifference } from '../data/compare-datasets.ts';
import type { Cell, RowTable } from '../data/query-dataset.ts';
import { refuseReserved } from '../data/reserved.ts';
import type { Artifacts } from '../store/artifacts.ts';
import type { DatasetRecord, Lineage, Relative } from '../store/datasets.ts';
import { type Clients, withClients } from './clients.ts';
import { addCommand, addGroup, invocationOf, print, type Program } from './command.ts';
import { parseCount, parseDurationMs } from './duration.ts';
import { oneLine, renderFields, renderTable, showBytes, showFigure } from './table.ts';

interface Common {
  readonly json?: boolean;
}
interface Rows extends Common {
  readonly csv?: boolean;
  readonly golden?: boolean;
}

const LIMIT = ['--limit <count>', 'at most so many', '20'] as const;
const GOLDEN = ['--golden', 'look at a golden set or a test part all the same'] as const;
const SHORT = 12;

async function openArtifactsOf(clients: Clients): Promise<Artifacts> {
  const { createArtifacts } = await import('../store/artifacts.ts');
  return createArtifacts({ root: clients.config.artifacts.folder });
}

/** @throws ARTIFACT_MISSING where its files were collected */
export function requireThere(dataset: DatasetRecord): void {
  if (dataset.collectedAt !== null)
    throw new MillraceError('ARTIFACT_MISSING', `The files of ${dataset.name} ${dataset.id.slice(0, SHORT)} were collected at ${dataset.collectedAt}.`, {
      fix: 'Run its pipeline again: what is gone is made anew.',
    });
}

async function manifestOf(artifacts: Artifacts, dataset: DatasetRecord): Promise<DatasetManifest> {
  requireThere(dataset);
  const { loadManifest } = await import('../data/dataset.ts');
  return loadManifest(artifacts, dataset);
}

/** Its files, to look into. @throws INVALID_REQUEST where it is kept from sight and the person did not insist; ARTIFACT_MISSING */
async function filesToSee(artifacts: Artifacts, dataset: DatasetRecord, options: Rows) {
  const manifest = await manifestOf(artifacts, dataset);
  if (options.golden !== true) refuseReserved(manifest, 'Give --golden to look on purpose.');
  const { datasetFiles } = await import('../data/dataset.ts');
  return datasetFiles(artifacts, manifest);
}

/** The stored profile; null where there is none, or the dataset is kept from sight. */
async function profileOf(artifacts: Artifacts, { profile, reserved }: DatasetManifest): Promise<Profile | null> {
  return reserved !== null || profile === null ? null : ProfileSchema.parse(await artifacts.getJson(profile));
}

/** A dataset as it is compared: without a stored profile it is profiled now, unless it is kept from sight. */
async function comparedOf(artifacts: Artifacts, dataset: DatasetRecord): Promise<ComparedDataset> {
  const manifest = await manifestOf(artifacts, dataset);
  let profile = await profileOf(artifacts, manifest);
  if (profile === null && manifest.reserved === null) {
    const [{ datasetFiles }, { profileDataset }] = await Promise.all([import('../data/dataset.ts'), import('../data/profile.ts')]);
    profile = await profileDataset(await datasetFiles(artifacts, manifest), manifest.columns);
  }
  return { columns: dataset.columns, rows: dataset.rows, sizeBytes: dataset.sizeBytes, profile };
}

const count = (value: number): string => value.toLocaleString('en-US');
const percent = (share: number): string => `${(share * 100).toFixed(share > 0 && share < 0.1 ? 2 : 1)} %`;
const figure = (value: number | null): string => (value === null ? '' : showFigure(Number(value.toFixed(4))));

function describeValues({ values }: ColumnProfile): string {
  if (values.kind === 'number')
    return values.min === null
      ? ''
      : `${showFigure(values.min)} … ${showFigure(values.max ?? values.min)}, mean ${showFigure(values.mean ?? 0)}, median ${showFigure(values.quantiles.find(({ q }) => q === 0.5)?.value ?? 0)}`;
  if (values.kind === 'timestamp') return values.min === null ? '' : `${values.min} … ${values.max ?? ''}`;
  return values.top
    .slice(0, 3)
    .map(({ value, count: n }) => `${oneLine(value, 20)} (${count(n)})`)
    .join(', ');
}

function renderColumns(dataset: DatasetRecord, profile: Profile | null): string {
  if (profile === null)
    return renderTable(
      ['column', 'type'],
      dataset.columns.map((c) => [c.name, c.type]),
    );
  const of = new Map(profile.columns.map((c) => [c.name, c]));
  return renderTable(
    ['column', 'type', 'missing', 'different', 'values'],
    dataset.columns.map(({ name, type }) => {
      const found = of.get(name);
      return found === undefined
        ? [name, type]
        : [name, type, found.nulls === 0 ? '' : percent(found.nulls / Math.max(profile.rows, 1)), count(found.distinct), describeValues(found)];
    }),
  );
}

/** Where the rows came from; null for what was made from other datasets: the lineage shows those. */
function sourceText({ source }: DatasetRecord): string | null {
  if (source === null || typeof source !== 'object' || 'dataset' in source || 'labels' in source) return null;
  return oneLine(JSON.stringify(source));
}

const lineOf = ({ id, name, kind, rows, collectedAt }: Relative): string =>
  `${id.slice(0, SHORT)}  ${name ?? '(no record)'}${kind === null ? '' : `, ${kind}`}${rows === null ? '' : `, ${count(rows)} rows`}${collectedAt === null ? '' : ', collected'}`;

/** What it was made from above, what was made of it below; each a step further in. */
function renderLineage(dataset: DatasetRecord, { ancestors, descendants }: Lineage): string {
  const above = [...ancestors].reverse();
  const depth = ancestors.at(-1)?.distance ?? 0;
  const line = (indent: number, text: string): string => `${'  '.repeat(indent)}${indent === 0 ? '' : '└ '}${text}\n`;
  const below = (of: string, indent: number): string =>
    descendants
      .filter(({ by }) => by === of)
      .map((d) => line(indent, lineOf(d)) + below(d.id, indent + 1))
      .join('');
  return [
    ...above.map((a) => line(depth - a.distance, lineOf(a))),
    line(depth, `${dataset.id.slice(0, SHORT)}  ${dataset.name} (this one)`),
    below(dataset.id, depth + 1),
  ].join('');
}

function renderDifference(a: DatasetRecord, b: DatasetRecord, d: DatasetDifference): string {
  const share = d.rows[0] === 0 || d.rows[0] === d.rows[1] ? '' : ` (${d.rows[1] >= d.rows[0] ? '+' : ''}${((d.rows[1] / d.rows[0] - 1) * 100).toFixed(1)} %)`;
  const names = (columns: readonly { name: string; type: string }[]): string => columns.map(({ name, type }) => `${name} (${type})`).join(', ');
  const schema = [
    ['added', names(d.added)],
    ['removed', names(d.removed)],
    ['retyped', d.retyped.map(({ column, from, to }) => `${column}: ${from} → ${to}`).join(', ')],
    ['order', d.reordered ? 'the columns stand in another order' : ''],
  ] as const;
  const changed = schema.some(([, text]) => text !== '');
  return [
    renderFields([
      ['from', `${a.name} ${a.id.slice(0, SHORT)}, ${a.createdAt}`],
      ['to', `${b.name} ${b.id.slice(0, SHORT)}, ${b.createdAt}`],
      ['rows', `${count(d.rows[0])} → ${count(d.rows[1])}${share}`],
      ['size', `${showBytes(d.sizeBytes[0])} → ${showBytes(d.sizeBytes[1])}`],
      ['schema', changed ? '' : 'the same'],
      ...schema,
    ]),
    '\n',
    d.columns === null
      ? 'Distributions are not compared: no statistic may see a golden set, or a validation or test part.\n'
      : renderTable(
          ['column', 'ks', 'psi', 'js', 'missing', 'different', 'values'],
          d.columns.map((c) => [
            c.column,
            figure(c.ks),
            figure(c.psi),
            figure(c.js),
            c.nullShare[0] === c.nullShare[1] ? '' : `${percent(c.nullShare[0])} → ${percent(c.nullShare[1])}`,
            c.distinct[0] === c.distinct[1] ? '' : `${count(c.distinct[0])} → ${count(c.distinct[1])}`,
            [
              c.range === null || c.range[0] === c.range[1] ? '' : `${c.range[0]} → ${c.range[1]}`,
              c.appeared.length === 0 ? '' : `new: ${c.appeared.join(', ')}`,
              c.vanished.length === 0 ? '' : `gone: ${c.vanished.join(', ')}`,
            ]
              .filter(Boolean)
              .join('; '),
          ]),
        ),
  ].join('');
}

const csvCell = (cell: Cell): string => {
  const text = cell === null ? '' : String(cell);
  return /[",\r\n]/.test(text) || (cell !== null && text === '') ? `"${text.replaceAll('"', '""')}"` : text;
};

/** Rows for a terminal; columns that do not fit are left out, and named. */
function renderRows(table: RowTable, width: number): string {
  const texts = table.rows.map((row) => row.map((cell) => (cell === null ? '' : oneLine(String(cell), 40))));
  let used = -2;
  let shown = 0;
  for (const [index, { name }] of table.columns.entries()) {
    used += 2 + Math.max(name.length, ...texts.map((row) => row[index]?.length ?? 0));
    if (shown > 0 && used > width) break;
    shown = index + 1;
  }
  const left = table.columns.slice(shown).map(({ name }) => name);
  return [
    renderTable(
      table.columns.slice(0, shown).map(({ name }) => name),
      texts.map((row) => row.slice(0, shown)),
    ),
    left.length === 0 ? '' : `Not shown, for want of width: ${left.join(', ')}.\n`,
  ].join('');
}

function printRows(program: Program, options: Rows, table: RowTable, note: string): void {
  if (options.csv === true && options.json !== true) {
    const lines = [table.columns.map(({ name }) => csvCell(name)), ...table.rows.map((row) => row.map(csvCell))];
    program.terminal.write(lines.map((line) => `${line.join(',')}\n`).join(''));
    return;
  }
  print(invocationOf(program, options), table, () => renderRows(table, program.terminal.columns) + note);
}

/** `90 days`; also `0`, for all. */
const parseAge = (option: string, text: string): number => (/^0(?:\s*[a-z]+)?$/i.test(text.trim()) ? 0 : parseDurationMs(option, text));

export function addDatasetsCommands(program: Program): void {
  const datasets = addGroup(program, 'datasets', 'the snapshots that runs have made');
  addCommand(program, datasets, 'list', 'the datasets, newest first')
    .option('--name <name>', 'of this name only')
    .option(...LIMIT)
    .action(async (options: Common & { name?: string; limit: string }) => {
      const limit = parseCount('--limit', options.limit);
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const store = await clients.store();
        const found = await store.datasets.list({ limit, projects: await clients.projects(), ...(options.name === undefined ? {} : { name: options.name }) });
        print(invocation, found, () =>
          found.length === 0
            ? 'There are no datasets yet.\n'
            : renderTable(
                ['dataset', 'name', 'kind', 'rows', 'columns', 'size', 'made by', 'made at', ''],
                found.map((d) => [
                  d.id.slice(0, SHORT),
                  d.name,
                  d.kind ?? '',
                  String(d.rows),
                  String(d.columns.length),
                  showBytes(d.sizeBytes),
                  `${d.runId?.slice(0, SHORT) ?? ''} ${d.stage ?? ''}`,
                  d.createdAt,
                  d.collectedAt === null ? '' : 'collected',
                ]),
              ),
        );
      });
    });
  addCommand(program, datasets, 'show <dataset>', 'a dataset: its columns, where it came from and what came of it').action(
    async (text: string, options: Common) => {
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const store = await clients.store();
        const dataset = await store.datasets.find(text);
        const artifacts = await openArtifactsOf(clients);
        const [lineage, owner, manifest] = await Promise.all([
          store.datasets.lineage(dataset.id),
          store.datasets.owner(dataset.id),
          // a record is shown whatever became of the files
          manifestOf(artifacts, dataset).catch(() => null),
        ]);
        const profile = manifest === null ? null : await profileOf(artifacts, manifest).catch(() => null);
        const { reserved, sensitive } = manifest ?? { reserved: null, sensitive: {} };
        print(invocation, { ...dataset, owner, reserved, sensitive, lineage, statistics: profile }, () =>
          [
            renderFields([
              ['dataset', dataset.id],
              ['name', dataset.name],
              ['kind', dataset.kind],
              ['owner', owner],
              ['rows', count(dataset.rows)],
              ['size', showBytes(dataset.sizeBytes)],
              ['source', sourceText(dataset)],
              ['made by', dataset.runId === null ? null : `run ${dataset.runId}, stage ${dataset.stage ?? ''}`],
              ['made at', dataset.createdAt],
              ['collected', dataset.collectedAt === null ? null : `${dataset.collectedAt}: its files are gone, this record stays`],
              ['trained', lineage.versions.map((v) => `${v.model} ${v.version} (${v.status})`).join(', ')],
              [
                'reserved',
                reserved === null
                  ? null
                  : `${reserved === 'golden' ? 'a golden set' : `for ${reserved === 'test' ? 'tests' : reserved}`}: kept from sight, so that what is judged on it stays a judgement`,
              ],
              [
                'personal',
                Object.entries(sensitive)
                  .map(([name, rule]) => `${name} (${rule === 'hash' ? 'hashed' : 'masked'})`)
                  .join(', '),
              ],
            ]),
            '\n',
            renderColumns(dataset, profile),
            '\n',
            renderLineage(dataset, lineage),
          ].join(''),
        );
      });
    },
  );
  addCommand(program, datasets, 'diff <from> <to>', 'how two datasets differ: columns, volume, distributions').action(
    async (from: string, to: string, options: Common) => {
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const { compareDatasets } = await import('../data/compare-datasets.ts');
        const store = await clients.store();
        const artifacts = await openArtifactsOf(clients);
        const [a, b] = await Promise.all([store.datasets.find(from), store.datasets.find(to)]);
        const difference = compareDatasets(await comparedOf(artifacts, a), await comparedOf(artifacts, b));
        print(invocation, { from: a.id, to: b.id, ...difference }, () => renderDifference(a, b, difference));
      });
    },
  );
  addCommand(program, datasets, 'sample <dataset>', 'some of its rows, drawn at random')
    .option('--rows <count>', 'so many', '20')
    .option('--seed <number>', 'another draw', '1')
    .option('--csv', 'as CSV')
    .option(...GOLDEN)
    .action(async (text: string, options: Rows & { rows: string; seed: string }) => {
      const rows = Math.min(parseCount('--rows', options.rows), 10_000);
      const seed = parseCount('--seed', options.seed);
      await withClients(async (clients) => {
        const { sampleDataset } = await import('../data/query-dataset.ts');
        const dataset = await (await clients.store()).datasets.find(text);
        const table = await sampleDataset(await filesToSee(await openArtifactsOf(clients), dataset, options), { rows, seed });
        printRows(program, options, table, `${count(table.rows.length)} of ${count(dataset.rows)} rows.\n`);
      });
    });
  addCommand(program, datasets, 'sql <dataset> <query>', 'a query over a dataset, which is the table `dataset`')
    .option('--limit <count>', 'at most so many rows', '100')
    .option('--timeout <duration>', 'how long it may take', '60s')
    .option('--csv', 'as CSV')
    .option(...GOLDEN)
    .action(async (text: string, query: string, options: Rows & { limit: string; timeout: string }) => {
      const limit = Math.min(parseCount('--limit', options.limit), 100_000);
      const timeoutMs = parseDurationMs('--timeout', options.timeout);
      await withClients(async (clients) => {
        const { queryDataset } = await import('../data/query-dataset.ts');
        const dataset = await (await clients.store()).datasets.find(text);
        const table = await queryDataset(await filesToSee(await openArtifactsOf(clients), dataset, options), query, { limit, timeoutMs });
        printRows(program, options, table, table.cut ? `The first ${count(limit)} rows; --limit shows more.\n` : '');
      });
    });
  addCommand(program, datasets, 'gc', 'takes the files of old datasets away; never what a model version points to')
    .option('--older-than <age>', 'neither made nor used for so long; default: what millrace.config.ts says, or 90 days')
    .option('--keep-last <count>', 'the newest of each name stay; default: what millrace.config.ts says, or 3')
    .option('--grace <duration>', 'nothing younger is touched', '24h')
    .option('--dry-run', 'say what would go, and change nothing')
    .action(async (options: Common & { olderThan?: string; keepLast?: string; grace: string; dryRun?: boolean }) => {
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const { collectDatasets } = await import('../store/retention.ts');
        const policy = clients.config.retention.datasets;
        const collection = await collectDatasets(
          { store: await clients.store(), artifacts: await openArtifactsOf(clients) },
          {
            olderThanMs: parseAge('--older-than', options.olderThan ?? policy.olderThan),
            keepLast: options.keepLast === undefined ? policy.keepLast : parseCount('--keep-last', options.keepLast),
            graceMs: parseAge('--grace', options.grace),
            dryRun: options.dryRun === true,
          },
        );
        print(invocation, { ...collection, dryRun: options.dryRun === true }, () =>
          [
            collection.datasets.length === 0
              ? ''
              : `${renderTable(
                  ['dataset', 'name', 'kind', 'rows', 'size', 'made at'],
                  collection.datasets.map((d) => [d.id.slice(0, SHORT), d.name, d.kind ?? '', String(d.rows), showBytes(d.sizeBytes), d.createdAt]),
                )}\n`,
            `${collection.datasets.length} datasets and ${collection.files} files ${options.dryRun === true ? 'would go' : 'went'}: ${showBytes(collection.sizeBytes)}.\n`,
          ].join(''),
        );
      });
    });
}
