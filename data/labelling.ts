/**
 * Labels of a dataset's rows: first by functions that vote, then by people, then written into the column.
 *
 * Invariants:
 * 1. A label that a row has is never changed.
 * 2. The same rows, functions and answers give the same bytes: rows keep their order, no time enters them unless
 *    the columns that hold it are asked for.
 * 3. People are shown only columns that were asked for, as the snapshot has them; hashed columns only where named.
 */
import { rm } from 'node:fs/promises';
import type { Column, ColumnType } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';
import {
  type FunctionFigures,
  type FunctionLabels,
  type FunctionsReport,
  type LabelFunctionsInput,
  type LabelItemDraft,
  type LabelValue,
  MAX_ASKED,
  type PeoplesAnswers,
} from '../contracts/labels.ts';
import type { DatasetManifest } from '../contracts/references.ts';
import { call, type RowTransform } from '../contracts/row-transforms.ts';
import type { ArtifactPort } from './artifact-port.ts';
import { datasetFiles, pickColumns, type StoredDataset, storeManifest, writeSnapshot } from './dataset.ts';
import { type DuckDb, type DuckDbOptions, type SqlRow, toCount, toText, withDuckDb } from './duckdb.ts';
import { dawidSkene, majority, type VotePattern } from './label-model.ts';
import { profileDataset } from './profile.ts';
import { numberedRelation, ROW_NUMBER } from './row-rank.ts';
import { bindHashKey, transformedRelation } from './row-transforms-sql.ts';
import { DUCKDB_TYPE, identifier, listLiteral, parquetRelation, textLiteral } from './sql-text.ts';

/** Longest text of a cell that a person is shown. */
const SHOWN_CHARACTERS = 20_000;
/** More different combinations of votes than this cannot be weighed one by one. */
const MAX_PATTERNS = 200_000;
const VOTES = 'millrace_votes';
const MODEL = 'millrace_label_model';

interface LabellingOptions extends DuckDbOptions {
  readonly manifest: DatasetManifest;
  readonly artifacts: ArtifactPort;
  readonly hashKey: string;
}

export interface FunctionsOutcome {
  readonly output: FunctionLabels;
  readonly report: FunctionsReport;
}

/** The type of a column whose values are these classes. */
export function labelType(classes: readonly LabelValue[]): ColumnType {
  if (classes.every((value) => typeof value === 'string')) return 'string';
  if (classes.every((value) => typeof value === 'boolean')) return 'boolean';
  return classes.every((value) => Number.isSafeInteger(value)) ? 'integer' : 'number';
}

/** The column that is labelled, with the type that it has or gets. @throws COLUMN_TYPE */
function labelColumn(manifest: DatasetManifest, name: string, classes: readonly LabelValue[]): Column & { readonly isNew: boolean } {
  const wanted = labelType(classes);
  const there = manifest.columns.find((column) => column.name === name);
  if (there === undefined) {
    const other = manifest.columns.find((column) => column.name.toLowerCase() === name.toLowerCase());
    if (other !== undefined)
      throw new MillraceError('COLUMN_TYPE', `The column ${name} would differ from ${other.name} in case only.`, { fix: `Write it as ${other.name}.` });
    return { name, type: wanted, isNew: true };
  }
  const fits = there.type === wanted || (there.type === 'number' && wanted === 'integer');
  if (!fits)
    throw new MillraceError('COLUMN_TYPE', `The column ${name} holds ${there.type}s; the classes are ${wanted}s.`, {
      problems: [
        { path: 'classes', column: name, message: `are ${wanted}s, the column holds ${there.type}s`, fix: 'Give the classes as the column has them.' },
      ],
    });
  return { ...there, isNew: false };
}

/** The index of the class that a column's value is; null for none. */
const classIndex = (sql: string, classes: readonly LabelValue[]): string =>
  `CASE CAST(${sql} AS VARCHAR) ${classes.map((value, index) => `WHEN ${textLiteral(String(value))} THEN ${index}`).join(' ')} END`;

/**
 * Lets the functions vote on rows without a label, combines the votes, and chooses what people are asked.
 * @throws MillraceError COLUMN_MISSING, COLUMN_TYPE, INVALID_PARAMETERS with every problem
 */
export async function labelByFunctions(options: LabellingOptions & { readonly input: LabelFunctionsInput }): Promise<FunctionsOutcome> {
  const { manifest, input, artifacts } = options;
  const target = labelColumn(manifest, input.column, input.classes);
  const shown = shownColumns(manifest, input);
  const columnVotes = input.by.flatMap((by) => (by.kind === 'votes' ? [by.column] : []));
  pickColumns(manifest.columns, columnVotes);
  checkVotes(input);
  const files = await datasetFiles(artifacts, manifest);
  return withDuckDb(options, async (db) => {
    await bindHashKey(db, options.hashKey);
    await makeVotes(db, options, target, files);
    const counted = await db.row(`SELECT count(*) AS rows, count(*) FILTER (WHERE given IS NOT NULL) AS given FROM ${VOTES}`);
    const patterns = await votePatterns(db, input.by.length);
    const combined =
      input.combine === 'dawidSkene' && input.by.length > 0
        ? dawidSkene(patterns, input.classes.length, { abstentions: 'response' })
        : majority(patterns, input.classes.length);
    const decided = patterns.map((pattern, p) => decide(pattern, combined.posteriors[p] ?? [], input.confidence));
    await storeModel(db, patterns, decided, input.by.length);
    const labels = await writeLabels(db, artifacts, options, files);
    const items = input.people === null ? [] : await itemsToAsk(db, input.people, shown, files);
    const report: FunctionsReport = {
      rows: toCount(counted['rows']),
      given: toCount(counted['given']),
      functions: await figures(db, input, combined.accuracies),
      ...(await totals(db, input.by.length)),
      asked: items.length,
    };
    const stored = items.length === 0 ? null : (await artifacts.putJson(items)).sha256;
    return { report, output: { labels, items: stored, report: (await artifacts.putJson(report)).sha256, asked: items.length } };
  });
}

function checkVotes({ by, classes }: LabelFunctionsInput): void {
  const problems = by.flatMap((labels, index) =>
    labels.kind === 'rule' && !classes.includes(labels.label)
      ? [
          {
            path: `by.${String(index)}.label`,
            message: `${labels.name} votes for what is no class`,
            found: String(labels.label),
            fix: `Use one of ${classes.map(String).join(', ')}.`,
          },
        ]
      : [],
  );
  if (problems.length > 0) throw new MillraceError('INVALID_PARAMETERS', 'Labelling functions vote for what is no class.', { problems });
}

/** What people see: what was named, or all but the label and what was hashed. */
function shownColumns(manifest: DatasetManifest, { column, people }: LabelFunctionsInput): readonly string[] {
  if (people?.show !== undefined) return pickColumns(manifest.columns, people.show).map(({ name }) => name);
  return manifest.columns.map(({ name }) => name).filter((name) => name !== column && manifest.sensitive[name] !== 'hash');
}

/** A table of each row's number, its known label and each function's vote, as indices of classes. */
async function makeVotes(
  db: DuckDb,
  { manifest, input }: { readonly manifest: DatasetManifest; readonly input: LabelFunctionsInput },
  target: { readonly name: string; readonly isNew: boolean },
  files: Awaited<ReturnType<typeof datasetFiles>>,
): Promise<void> {
  const names = manifest.columns.map(({ name }) => name);
  const rules = input.by.flatMap((by, index): RowTransform[] =>
    by.kind === 'rule' ? [{ kind: 'set', column: voteColumn(index), to: call('if', by.when, input.classes.indexOf(by.label), null) }] : [],
  );
  const { sql } = transformedRelation(numberedRelation(files, names), rules, [...manifest.columns, { name: ROW_NUMBER, type: 'integer' }]);
  const known = target.isNew ? 'NULL' : identifier(target.name);
  const votes = input.by.map(
    (by, index) =>
      `CAST(${by.kind === 'rule' ? identifier(voteColumn(index)) : classIndex(identifier(by.column), input.classes)} AS INTEGER) AS v${String(index)}`,
  );
  const list = [`${ROW_NUMBER} AS n`, `CAST(${known} AS VARCHAR) AS given`, `${classIndex(known, input.classes)} AS known`, ...votes];
  await db.run(`CREATE TEMPORARY TABLE ${VOTES} AS SELECT ${list.join(', ')} FROM ${sql}`);
}

const voteColumn = (index: number): string => `__millrace_vote_${String(index)}`;
const voteNames = (functions: number): readonly string[] => Array.from({ length: functions }, (_, index) => `v${String(index)}`);

async function votePatterns(db: DuckDb, functions: number): Promise<readonly VotePattern[]> {
  const names = voteNames(functions);
  const by = names.length === 0 ? '' : ` GROUP BY ${names.join(', ')} ORDER BY ${names.map((name) => `${name} NULLS LAST`).join(', ')}`;
  const rows = await db.rows(`SELECT ${[...names, 'count(*) AS c'].join(', ')} FROM ${VOTES} WHERE given IS NULL${by} LIMIT ${MAX_PATTERNS + 1}`);
  if (rows.length > MAX_PATTERNS)
    throw new MillraceError('INVALID_PARAMETERS', `The labelling functions vote in more than ${MAX_PATTERNS.toLocaleString('en')} ways.`, {
      fix: 'Use fewer functions.',
    });
  return rows.map((row) => ({
    votes: names.map((name) => (row[name] === null || row[name] === undefined ? null : toCount(row[name]))),
    rows: toCount(row['c']),
  }));
}

interface Decided {
  /** Index of the class; null where the functions are not sure. */
  readonly label: number | null;
  readonly confidence: number;
}

function decide({ votes }: VotePattern, posterior: readonly number[], least: number): Decided {
  const confidence = Math.max(0, ...posterior);
  const sure = votes.some((vote) => vote !== null) && confidence >= least && posterior.filter((p) => p === confidence).length === 1;
  return { label: sure ? posterior.indexOf(confidence) : null, confidence };
}

/** The patterns' labels as a table, so that rows are joined to theirs. */
async function storeModel(db: DuckDb, patterns: readonly VotePattern[], decided: readonly Decided[], functions: number): Promise<void> {
  const names = voteNames(functions);
  await db.run(`CREATE TEMPORARY TABLE ${MODEL} (${[...names.map((name) => `${name} INTEGER`), 'label INTEGER', 'confidence DOUBLE'].join(', ')})`);
  const appender = await db.connection.createAppender(MODEL);
  patterns.forEach(({ votes }, p) => {
    for (const vote of [...votes, decided[p]?.label ?? null]) {
      if (vote === null) appender.appendNull();
      else appender.appendInteger(vote);
    }
    appender.appendDouble(decided[p]?.confidence ?? 0);
    appender.endRow();
  });
  appender.closeSync();
}

const sameVotes = (functions: number): string => ['true', ...voteNames(functions).map((name) => `v.${name} IS NOT DISTINCT FROM m.${name}`)].join(' AND ');

/** Row number, key, class and confidence of each row without a label, in row order. */
async function writeLabels(
  db: DuckDb,
  artifacts: ArtifactPort,
  { manifest, input }: { readonly manifest: DatasetManifest; readonly input: LabelFunctionsInput },
  files: Awaited<ReturnType<typeof datasetFiles>>,
): Promise<string> {
  const names = manifest.columns
    .map(({ name }) => name)
    .filter((name) => name !== input.column && !input.by.some((by) => by.kind === 'votes' && by.column === name));
  // the key stands for the row's values without what was guessed of it: an item is the same whatever the functions are
  const key = `sha256(${names.length === 0 ? `'row'` : `CAST(to_json({${names.map((name) => `${textLiteral(name)}: ${identifier(name)}`).join(', ')}}) AS VARCHAR)`} || ${textLiteral(input.column)})`;
  await db.run(
    `CREATE TEMPORARY TABLE millrace_labels AS SELECT v.n, k.key, m.label, m.confidence FROM ${VOTES} v JOIN ${MODEL} m ON ${sameVotes(input.by.length)} JOIN (SELECT ${ROW_NUMBER} AS n, ${key} AS key FROM ${numberedRelation(files, names)}) k ON k.n = v.n WHERE v.given IS NULL ORDER BY v.n`,
  );
  const path = await artifacts.temporaryFile('.parquet');
  try {
    await db.run('SET threads = 1');
    await db.run(`COPY (SELECT * FROM millrace_labels ORDER BY n) TO ${textLiteral(path)} (FORMAT parquet, COMPRESSION zstd)`);
    await db.run('RESET threads');
    return (await artifacts.putFile(path)).sha256;
  } finally {
    await rm(path, { force: true });
  }
}

/** One item for each different row that is to be asked about. */
async function itemsToAsk(
  db: DuckDb,
  people: NonNullable<LabelFunctionsInput['people']>,
  shown: readonly string[],
  files: Awaited<ReturnType<typeof datasetFiles>>,
): Promise<readonly LabelItemDraft[]> {
  await db.run(
    'CREATE TEMPORARY TABLE millrace_ask AS SELECT key, min(n) AS n, max(1 - confidence) AS doubt FROM millrace_labels WHERE label IS NULL GROUP BY key',
  );
  const { asked } = await db.row('SELECT count(*) AS asked FROM millrace_ask');
  const limit = Math.min(people.sample ?? Number.POSITIVE_INFINITY, people.atMost ?? Number.POSITIVE_INFINITY);
  if (toCount(asked) > MAX_ASKED && limit > MAX_ASKED) {
    throw new MillraceError(
      'INVALID_PARAMETERS',
      `${toCount(asked).toLocaleString('en')} rows have no label: people can be asked about ${MAX_ASKED.toLocaleString('en')} at most.`,
      {
        fix: 'Ask about some: people: { atMost: 500 } or { sample: 500 }; or give more labelling functions.',
      },
    );
  }
  const order = people.order === 'uncertain' ? 'doubt DESC, n' : 'n';
  const drawn =
    people.sample === undefined
      ? 'millrace_ask'
      : `(SELECT * FROM millrace_ask ORDER BY sha256(key || ${textLiteral(String(people.seed))}) LIMIT ${people.sample})`;
  const chosen = `SELECT *, row_number() OVER (ORDER BY ${order}) AS place FROM ${drawn} ORDER BY place${people.atMost === undefined ? '' : ` LIMIT ${people.atMost}`}`;
  const values = shown.map((name, index) => `to_json(r.${identifier(name)}) AS c${String(index)}`);
  const rows = await db.rows(
    `SELECT a.key, a.doubt, ${['a.place', ...values].join(', ')} FROM (${chosen}) a JOIN ${numberedRelation(files, shown)} r ON r.${ROW_NUMBER} = a.n ORDER BY a.place`,
  );
  const count = rows.length;
  return rows.map((row, place) => ({
    key: toText(row['key']) ?? '',
    shown: Object.fromEntries(shown.map((name, index) => [name, cell(row, `c${String(index)}`)])),
    // the place alone decides, so that rows of the same doubt keep their order
    priority: (count - place) / count,
  }));
}

function cell(row: SqlRow, name: string): LabelValue | null {
  const text = toText(row[name]);
  if (text === null) return null;
  const value = JSON.parse(text) as LabelValue | null;
  return typeof value === 'string' && value.length > SHOWN_CHARACTERS
    ? `${value.slice(0, SHOWN_CHARACTERS)} … (${value.length.toLocaleString('en')} characters)`
    : value;
}

async function figures(db: DuckDb, { by, classes, combine }: LabelFunctionsInput, accuracies: readonly number[]): Promise<readonly FunctionFigures[]> {
  if (by.length === 0) return [];
  const names = voteNames(by.length);
  const list = listLiteral(names);
  const parts = names.flatMap((name, index) => [
    `count(${name}) FILTER (WHERE given IS NULL) AS n${index}`,
    `count(*) FILTER (WHERE given IS NULL AND ${name} IS NOT NULL AND len(list_filter(${list}, x -> x IS NOT NULL)) > 1) AS o${index}`,
    `count(*) FILTER (WHERE given IS NULL AND ${name} IS NOT NULL AND len(list_filter(${list}, x -> x <> ${name})) > 0) AS x${index}`,
    `count(*) FILTER (WHERE known IS NOT NULL AND ${name} IS NOT NULL) AS k${index}`,
    `count(*) FILTER (WHERE known = ${name}) AS r${index}`,
    ...classes.map((_, c) => `count(*) FILTER (WHERE given IS NULL AND ${name} = ${c}) AS c${index}_${c}`),
  ]);
  const row = await db.row(`SELECT count(*) FILTER (WHERE given IS NULL) AS rows, ${parts.join(', ')} FROM ${VOTES}`);
  const at = (name: string): number => toCount(row[name]);
  const share = (part: number, whole: number): number => (whole === 0 ? 0 : part / whole);
  return by.map(({ name }, index) => ({
    name,
    coverage: share(at(`n${index}`), at('rows')),
    votes: Object.fromEntries(classes.flatMap((value, c) => (at(`c${index}_${c}`) === 0 ? [] : [[String(value), at(`c${index}_${c}`)]]))),
    overlaps: share(at(`o${index}`), at(`n${index}`)),
    conflicts: share(at(`x${index}`), at(`n${index}`)),
    accuracy: at(`k${index}`) === 0 ? null : at(`r${index}`) / at(`k${index}`),
    estimated: combine === 'dawidSkene' && Number.isFinite(accuracies[index]) ? (accuracies[index] ?? null) : null,
  }));
}

async function totals(db: DuckDb, functions: number): Promise<Pick<FunctionsReport, 'covered' | 'conflicting' | 'labelled'>> {
  const list = functions === 0 ? '[]::INTEGER[]' : `list_filter(${listLiteral(voteNames(functions))}, x -> x IS NOT NULL)`;
  const row = await db.row(
    `SELECT count(*) FILTER (WHERE len(${list}) > 0) AS covered, count(*) FILTER (WHERE len(list_distinct(${list})) > 1) AS conflicting FROM ${VOTES} WHERE given IS NULL`,
  );
  const { labelled } = await db.row('SELECT count(label) AS labelled FROM millrace_labels');
  return { covered: toCount(row['covered']), conflicting: toCount(row['conflicting']), labelled: toCount(labelled) };
}

export interface LabelDatasetOptions extends LabellingOptions {
  /** The manifest's own SHA-256. */
  readonly id: string;
  readonly column: string;
  readonly classes: readonly LabelValue[];
  /** The artifact that `labelByFunctions` wrote. */
  readonly labels: string;
  readonly answers: PeoplesAnswers | null;
  readonly authors: boolean;
}

export interface LabelledDataset extends StoredDataset {
  /** Rows by who labelled them: `given`, `functions`, `people`, `none`. */
  readonly counts: Readonly<Record<string, number>>;
}

/** Writes the labels into the column; rows that nobody labelled keep their null. */
export async function labelDataset(options: LabelDatasetOptions): Promise<LabelledDataset> {
  const { manifest, id, artifacts, column, classes, answers, authors } = options;
  const target = labelColumn(manifest, column, classes);
  const files = await datasetFiles(artifacts, manifest);
  const labelsFile = await artifacts.pathOf(options.labels);
  const names = manifest.columns.map(({ name }) => name);
  const added: readonly Column[] = [
    ...(target.isNew ? [{ name: column, type: target.type }] : []),
    ...(authors
      ? ([
          { name: `${column}_by`, type: 'string' },
          { name: `${column}_at`, type: 'timestamp' },
        ] as const)
      : []),
  ];
  const taken = added.filter(({ name }) => manifest.columns.some((other) => other.name.toLowerCase() === name.toLowerCase()));
  if (taken.length > 0)
    throw new MillraceError('COLUMN_TYPE', `The columns ${taken.map(({ name }) => name).join(', ')} are there already.`, { fix: 'Drop or rename them first.' });
  return withDuckDb(options, async (db) => {
    await db.run('CREATE TEMPORARY TABLE millrace_people (key VARCHAR, label VARCHAR, people VARCHAR, answered VARCHAR)');
    const appender = await db.connection.createAppender('millrace_people');
    for (const item of answers?.items ?? []) {
      if (item.label === null) continue;
      const agreed = item.answers.filter(({ label }) => label === item.label);
      appender.appendVarchar(item.key);
      appender.appendVarchar(item.label);
      appender.appendVarchar(
        agreed
          .map(({ by }) => by)
          .sort()
          .join(', '),
      );
      appender.appendVarchar(
        (
          agreed
            .map(({ at }) => at)
            .sort()
            .at(-1) ?? ''
        ).replace('Z', ''),
      );
      appender.endRow();
    }
    appender.closeSync();
    const type = DUCKDB_TYPE[target.type];
    const given = target.isNew ? `CAST(NULL AS ${type})` : `r.${identifier(column)}`;
    const byFunctions = `CASE l.label ${classes.map((value, index) => `WHEN ${index} THEN ${textLiteral(String(value))}`).join(' ')} END`;
    const value = `coalesce(${given}, CAST(p.label AS ${type}), CAST(${byFunctions} AS ${type}))`;
    const how = `CASE WHEN ${given} IS NOT NULL THEN 'given' WHEN p.label IS NOT NULL THEN 'people' WHEN l.label IS NOT NULL THEN 'functions' ELSE 'none' END`;
    const kept = names.map((name) => (name === column ? `${value} AS ${identifier(name)}` : `r.${identifier(name)}`));
    const extra = [
      ...(target.isNew ? [`${value} AS ${identifier(column)}`] : []),
      ...(authors
        ? [
            `CASE ${how} WHEN 'people' THEN p.people WHEN 'functions' THEN 'functions' END AS ${identifier(`${column}_by`)}`,
            `CAST(p.answered AS TIMESTAMP) AS ${identifier(`${column}_at`)}`,
          ]
        : []),
    ];
    const from = `FROM ${numberedRelation(files, names)} r LEFT JOIN ${parquetRelation([labelsFile])} l ON l.n = r.${ROW_NUMBER} LEFT JOIN millrace_people p ON p.key = l.key`;
    const written = await writeSnapshot(db, artifacts, `SELECT ${[...kept, ...extra].join(', ')} ${from} ORDER BY r.${ROW_NUMBER}`, {
      // joined rows come in batches of their own: written by one thread they are cut alike everywhere
      filtered: true,
      whenEmpty: () => new MillraceError('SOURCE_EMPTY', `The dataset ${manifest.name} has no rows.`),
    });
    const rows = await db.rows(`SELECT ${how} AS how, count(*) AS n ${from} GROUP BY 1`);
    const columns = [...manifest.columns, ...added];
    const path = await artifacts.pathOf(written.sha256);
    const seen = { ...options, target: column, masked: new Set(Object.keys(manifest.sensitive)) };
    const profile = manifest.profile === null ? null : (await artifacts.putJson(await profileDataset([{ path, rows: written.rows }], columns, seen))).sha256;
    const stored = await storeManifest(artifacts, {
      ...manifest,
      rows: written.rows,
      columns,
      files: [written],
      profile,
      parents: [id],
      unserved: { ...manifest.unserved, ...Object.fromEntries([column, ...added.map(({ name }) => name)].map((name) => [name, 'label'])) },
    });
    return { ...stored, counts: Object.fromEntries(rows.map((row) => [toText(row['how']) ?? '', toCount(row['n'])])) };
  });
}
