import { readFile } from 'node:fs/promises';
import type { RawColumn, RawTable } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';
import { readColumns } from '../data/read-columns.ts';
import { compileRowTransforms } from '../data/row-transforms.ts';
import { joinPredictors } from '../ml/ensemble/join-predictors.ts';
import { fitMetaModel, metaMatrix } from '../ml/ensemble/meta-model.ts';
import { optimalWeights } from '../ml/ensemble/weights.ts';
import type { PredictorGraph } from '../ml/predictor.ts';
import { createScorer } from '../ml/score.ts';
import type { BuiltEnsemble, EnsembleJob, EnsembleMember } from './ensemble-job.ts';
import { targetsOf } from './judge-rows.ts';

/** Of the answer; of a regression of its size too. */
const TOLERANCE = 1e-5;
const MOST_CHECKED_ROWS = 256;
const INPUTS = ['numbers', 'dates', 'strings'] as const;

type Progress = (fraction: number | null, message: string) => void;
/** What the ensemble has to answer, given its members' answers to some rows. */
type Expected = (answers: readonly Float32Array[], rows: number) => ArrayLike<number>;

/**
 * Fits what is to be fitted, joins the graphs, and holds the file against its members row by row.
 * @throws INVALID_PARAMETERS for weights that fit no member, MODEL_INVALID where the file answers otherwise than its members
 */
export async function buildEnsemble(job: EnsembleJob, progress: Progress): Promise<BuiltEnsemble> {
  const { signature, members } = job;
  if (signature.task.kind === 'raw') throw new MillraceError('MODEL_INVALID', 'A bare ONNX file cannot be a member of an ensemble.');
  const classes = signature.task.kind === 'regression' ? undefined : signature.task.classes;
  const outputs = classes?.length ?? 1;
  const fitted = await answerFitRows(job, progress);
  const { shares, combine, expected, metaParameters } = await fitCombination(job, fitted, outputs);
  progress(null, 'joining the graphs');
  const onnx = joinPredictors({
    members: await Promise.all(members.map(async ({ onnx: path, graph }) => ({ onnx: await readFile(path), graph }))),
    graph: signature.graph,
    outputs,
    ...(classes === undefined ? {} : { classes }),
    combine,
  });
  const rows = sampleRows(members, signature.columns);
  const tables = [...rows.map((row) => tableOf(job, [row])), ...fitted.tables.map((table) => someRows(table, MOST_CHECKED_ROWS))];
  if (tables.length === 0) tables.push(tableOf(job, [{}]));
  const answered = await checkAgainstMembers({ onnx, job, tables, outputs, expected });
  return {
    onnx,
    shares,
    ...(metaParameters === undefined ? {} : { metaParameters }),
    sample: { rows: [...rows], output: answered.slice(0, rows.length).map((values) => [...values]) },
    fitRows: fitted.tables.map((table) => table.rows),
    checkedRows: tables.reduce((sum, table) => sum + table.rows, 0),
  };
}

interface FittedRows {
  readonly tables: readonly RawTable[];
  /** Of each member, over all tables one after the other. */
  readonly answers: readonly Float32Array[];
  readonly y: Float64Array;
}

async function answerFitRows({ fit, signature, targetType, members }: EnsembleJob, progress: Progress): Promise<FittedRows> {
  const target = signature.task.kind === 'raw' ? '' : signature.task.target;
  const tables: RawTable[] = [];
  const answers: Float32Array[][] = members.map(() => []);
  const targets: Float64Array[] = [];
  for (const [index, part] of fit.entries()) {
    const columns = new Set(part.members.flatMap(({ graph }) => INPUTS.flatMap((input) => graph[input])));
    for (const input of INPUTS) for (const name of signature.graph[input]) columns.add(name);
    const table = await readColumns(part.files, [...columns, target]);
    targets.push(targetsOf(signature, targetType, table).y);
    tables.push(table);
    for (const [m, member] of part.members.entries()) {
      progress((index + m / part.members.length) / fit.length, 'scoring the members');
      answers[m]?.push(await answersOf(member.onnx, member.graph, table));
    }
  }
  return { tables, answers: answers.map((parts) => joined(parts, Float32Array)), y: joined(targets, Float64Array) };
}

function joined<A extends Float32Array | Float64Array>(parts: readonly A[], Kind: new (length: number) => A): A {
  const whole = new Kind(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

async function answersOf(onnx: string | Uint8Array, graph: PredictorGraph, table: RawTable): Promise<Float32Array> {
  const scorer = await createScorer(onnx, graph);
  try {
    return (await scorer.score(table)).values;
  } finally {
    await scorer.close();
  }
}

async function fitCombination(
  { how, members, signature }: EnsembleJob,
  { answers, y }: FittedRows,
  outputs: number,
): Promise<{
  readonly shares: readonly number[];
  readonly combine: Parameters<typeof joinPredictors>[0]['combine'];
  readonly expected: Expected;
  readonly metaParameters?: unknown;
}> {
  if (how.kind === 'stacking') {
    const { task } = signature;
    if (task.kind === 'raw') throw new MillraceError('MODEL_INVALID');
    const meta = await fitMetaModel({
      task: task.kind === 'multiclass' ? { kind: 'multiclass', classes: outputs } : { kind: task.kind },
      ...(task.kind === 'regression' ? {} : { classes: task.classes }),
      parameters: how.meta.parameters,
      answers,
      y,
      outputs,
      members: members.map(({ trainer }, index) => `${String(index + 1)} ${trainer}`),
    });
    return {
      shares: meta.shares,
      combine: { kind: 'meta', toOnnx: (input, prefix) => meta.trained.toOnnx(input, prefix) },
      expected: (given, rows) => meta.trained.predict(metaMatrix(given, rows, outputs)),
      metaParameters: meta.parameters,
    };
  }
  const { weights } = how;
  const raw = weights === 'equal' ? members.map(() => 1) : weights === 'optimise' ? optimalWeights({ answers, y, outputs }) : weights;
  const total = raw.reduce((sum, weight) => sum + weight, 0);
  const shares = raw.map((weight) => weight / total);
  return {
    shares,
    combine: { kind: 'mean', weights: shares },
    expected: (given, rows) =>
      Float64Array.from({ length: rows * outputs }, (_, i) => shares.reduce((sum, share, m) => (share === 0 ? sum : sum + share * (given[m]?.[i] ?? 0)), 0)),
  };
}

/** Rows that have what every member's own sample rows have. */
function sampleRows(members: readonly EnsembleMember[], columns: EnsembleJob['signature']['columns']): readonly Record<string, unknown>[] {
  const count = Math.min(...members.map(({ sample }) => sample.length));
  return Array.from({ length: count }, (_, row) => {
    const known = Object.assign({}, ...members.toReversed().map(({ sample }) => sample[row])) as Record<string, unknown>;
    return Object.fromEntries(columns.map(({ name }) => [name, known[name] ?? null]));
  });
}

/** Requests' rows as the graph takes them: after the row transforms. */
function tableOf({ signature, hashKey }: EnsembleJob, rows: readonly Readonly<Record<string, unknown>>[]): RawTable {
  const apply = compileRowTransforms(signature.transforms, signature.columns, hashKey);
  const after = rows.map(apply);
  const columns = new Map<string, RawColumn>();
  const numbers = (name: string): Float64Array =>
    Float64Array.from(after, (row) => {
      const value = row[name];
      return typeof value === 'number' || typeof value === 'boolean' ? Number(value) : Number.NaN;
    });
  for (const name of signature.graph.numbers) columns.set(name, { kind: 'number', values: numbers(name) });
  for (const name of signature.graph.dates) columns.set(name, { kind: 'timestamp', values: numbers(name) });
  for (const name of signature.graph.strings) {
    const texts = after.map((row) => row[name]);
    columns.set(name, {
      kind: 'string',
      dictionary: texts.map((text) => (text === null || text === undefined ? '' : String(text))),
      codes: Int32Array.from(texts, (text, row) => (text === null || text === undefined ? -1 : row)),
    });
  }
  return { rows: rows.length, columns };
}

/** At most so many rows, evenly spread. */
function someRows(table: RawTable, most: number): RawTable {
  const taken = Math.min(most, table.rows);
  const pick = Array.from({ length: taken }, (_, i) => Math.floor((i * table.rows) / taken));
  const columns = [...table.columns].map(([name, column]): [string, RawColumn] => [
    name,
    column.kind === 'string'
      ? { ...column, codes: Int32Array.from(pick, (row) => column.codes[row] ?? -1) }
      : { kind: column.kind, values: Float64Array.from(pick, (row) => column.values[row] ?? Number.NaN) },
  ]);
  return { rows: taken, columns: new Map(columns) };
}

/** The joined file's answers to the tables, each of which is what its members' answers say. @throws MODEL_INVALID */
async function checkAgainstMembers(input: {
  readonly onnx: Uint8Array;
  readonly job: EnsembleJob;
  readonly tables: readonly RawTable[];
  readonly outputs: number;
  readonly expected: Expected;
}): Promise<readonly Float32Array[]> {
  const { onnx, job, tables, outputs, expected } = input;
  const answers: Float32Array[][] = [];
  for (const { onnx: file, graph } of [{ onnx, graph: job.signature.graph }, ...job.members]) {
    const scorer = await createScorer(file, graph);
    try {
      const own: Float32Array[] = [];
      for (const table of tables) own.push((await scorer.score(table)).values);
      answers.push(own);
    } finally {
      await scorer.close();
    }
  }
  const [mine = [], ...members] = answers;
  tables.forEach((table, at) => {
    const wanted = expected(
      members.map((own) => own[at] ?? new Float32Array(0)),
      table.rows,
    );
    (mine[at] ?? new Float32Array(0)).forEach((value, i) => {
      const should = wanted[i] ?? Number.NaN;
      if (Number.isNaN(should) && Number.isNaN(value)) return;
      if (Math.abs(value - should) <= TOLERANCE * Math.max(1, Math.abs(should))) return;
      throw new MillraceError('MODEL_INVALID', 'The joined graph answers otherwise than its members.', {
        problems: [
          {
            path: `row ${String(Math.floor(i / outputs))}`,
            message: `must be ${should.toPrecision(8)}, as the members say`,
            found: value.toPrecision(8),
          },
        ],
      });
    });
  });
  return mine;
}
