import { InferenceSession } from 'onnxruntime-node';
import { nativeCode, throwIfEnding } from '../config/module-worker.ts';
import type { RawTable } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { Signature } from '../contracts/signature.ts';
import { packRows } from './pack-rows.ts';
import type { PredictorGraph } from './predictor.ts';

export interface Scores {
  readonly rows: number;
  /** K: the number of classes, or 1. */
  readonly outputs: number;
  /** Row-major [rows × K]. */
  readonly values: Float32Array;
}

export interface ScoreOptions {
  /** Most rows in one run of the graph; fewer are taken where texts are long. Default 8,192. */
  readonly batchRows?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (doneRows: number) => void;
}

export interface Scorer {
  /** Runs all rows of a table, which carries the columns as they are after the row transforms. */
  score(table: RawTable, options?: ScoreOptions): Promise<Scores>;
  /** Where the graph is run. */
  readonly device: 'cpu' | 'gpu';
  /** Frees the session. */
  close(): Promise<void>;
}

const DEFAULT_BATCH_ROWS = 8_192;
/** The tokeniser pads a batch's texts to the longest one, so rows × longest text is what memory is spent on. */
const MOST_PADDED_CHARACTERS = 8_000_000;

/**
 * Loads an ONNX predictor (its bytes, or its file's path) for batch scoring. onnxruntime-node keeps the event loop busy
 * while it computes: use it in a worker thread.
 * @throws MODEL_INVALID when onnxruntime does not load the file, or it has no `output`.
 */
export async function createScorer(onnx: Uint8Array | string, graph: PredictorGraph, options: ScorerOptions = {}): Promise<Scorer> {
  const { session, device } = await nativeCode(() => openOn(onnx, options));
  return {
    score: (table, scoreOptions = {}) => nativeCode(() => scoreTable(session, graph, table, scoreOptions)),
    close: () => nativeCode(() => session.release()),
    device,
  };
}

export interface ScorerOptions {
  /** Default 1. */
  readonly threads?: number;
  /** Number of the GPU to run on, where onnxruntime finds the libraries of CUDA; else it is the CPU. Default null: the CPU. */
  readonly gpu?: number | null;
}

async function openOn(
  onnx: Uint8Array | string,
  { threads = 1, gpu = null }: ScorerOptions,
): Promise<{ readonly session: InferenceSession; readonly device: 'cpu' | 'gpu' }> {
  if (gpu !== null) {
    const session = await openSession(onnx, { intraOpNumThreads: threads, executionProviders: [{ name: 'cuda', deviceId: gpu }, 'cpu'] }).catch(
      () => undefined,
    );
    if (session !== undefined) return { session, device: 'gpu' };
  }
  return { session: await openSession(onnx, { intraOpNumThreads: threads }), device: 'cpu' };
}

async function openSession(onnx: Uint8Array | string, options: InferenceSession.SessionOptions): Promise<InferenceSession> {
  const sessionOptions: InferenceSession.SessionOptions = { ...options, interOpNumThreads: 1, logSeverityLevel: 3 };
  try {
    const session = await (typeof onnx === 'string' ? InferenceSession.create(onnx, sessionOptions) : InferenceSession.create(onnx, sessionOptions));
    if (session.outputNames.includes('output')) return session;
    await session.release();
  } catch (cause) {
    throw new MillraceError('MODEL_INVALID', 'The ONNX file cannot be loaded.', { cause });
  }
  throw new MillraceError('MODEL_INVALID', 'The ONNX file has no output of the name output.');
}

async function scoreTable(session: InferenceSession, graph: PredictorGraph, table: RawTable, options: ScoreOptions): Promise<Scores> {
  const { batchRows = DEFAULT_BATCH_ROWS, signal, onProgress } = options;
  let outputs = 1;
  let values = new Float32Array(0);
  for (let from = 0; from < table.rows; ) {
    signal?.throwIfAborted();
    throwIfEnding();
    const to = batchEnd(graph, table, from, Math.min(table.rows, from + batchRows));
    const data = await runBatch(session, packRows(graph, table, from, to), to - from);
    if (from === 0) {
      outputs = data.length / (to - from);
      values = new Float32Array(table.rows * outputs);
    }
    values.set(data, from * outputs);
    from = to;
    onProgress?.(from);
  }
  return { rows: table.rows, outputs, values };
}

async function runBatch(session: InferenceSession, feeds: Record<string, InferenceSession.OnnxValueMapType[string]>, rows: number): Promise<Float32Array> {
  let data: unknown;
  try {
    const results = await session.run(feeds, ['output']);
    data = results['output']?.data;
  } catch (cause) {
    throw new MillraceError('MODEL_INVALID', 'The model could not compute these rows.', { cause });
  }
  if (!(data instanceof Float32Array) || data.length % rows !== 0) throw new MillraceError('MODEL_INVALID', 'The output of the model is not FLOAT [rows, K].');
  return data;
}

/** Where a batch ends that begins at `from`, `to` at most, so that padding stays within memory. */
function batchEnd(graph: PredictorGraph, table: RawTable, from: number, to: number): number {
  let end = to;
  for (const name of graph.strings) {
    const column = table.columns.get(name);
    if (column?.kind !== 'string') continue;
    let longest = 0;
    for (let row = from; row < end; row++) {
      longest = Math.max(longest, column.dictionary[column.codes[row] ?? -1]?.length ?? 0);
      if (longest * (row - from + 1) > MOST_PADDED_CHARACTERS) end = Math.max(from + 1, row);
    }
  }
  return end;
}

export interface SampleInput {
  readonly onnx: Uint8Array;
  readonly signature: Pick<Signature, 'columns' | 'graph'>;
  /** Rows after the row transforms, as the graph takes them. */
  readonly table: RawTable;
  /** The same rows before the row transforms, as a request carries them. Default: `table`, for no transforms. */
  readonly rawTable?: RawTable;
  /** Default 5. */
  readonly count?: number;
}

/** `Predictor.sample`: some rows, evenly spread over the table, as a request would carry them, with their outputs. */
export async function samplePredictions(input: SampleInput): Promise<{ rows: Record<string, unknown>[]; output: number[][] }> {
  const { onnx, signature, table, rawTable = table, count = 5 } = input;
  const taken = Math.min(count, table.rows);
  const rowNumbers = Array.from({ length: taken }, (_, i) => Math.floor((i * table.rows) / taken));
  const scorer = await createScorer(onnx, signature.graph);
  try {
    const output: number[][] = [];
    // Row by row: a graph's answer for a row may differ in the last bits by the size of its batch.
    for (const row of rowNumbers) output.push([...(await scorer.score(oneRow(table, row))).values]);
    return { rows: rowNumbers.map((row) => requestRow(signature.columns, rawTable, row)), output };
  } finally {
    await scorer.close();
  }
}

function oneRow(table: RawTable, row: number): RawTable {
  const columns = [...table.columns].map(
    ([name, column]) =>
      [
        name,
        column.kind === 'string' ? { ...column, codes: column.codes.slice(row, row + 1) } : { kind: column.kind, values: column.values.slice(row, row + 1) },
      ] as const,
  );
  return { rows: 1, columns: new Map(columns) };
}

/** A row as JSON carries it: null for missing values, ISO times, booleans where the column is one. */
export function requestRow(columns: Signature['columns'], table: RawTable, row: number): Record<string, unknown> {
  const cell = ({ name, type }: Signature['columns'][number]): unknown => {
    const column = table.columns.get(name);
    if (column === undefined) return null;
    if (column.kind === 'string') return column.dictionary[column.codes[row] ?? -1] ?? null;
    const value = column.values[row] ?? Number.NaN;
    if (Number.isNaN(value)) return null;
    if (column.kind === 'timestamp') return type === 'date' ? new Date(value).toISOString().slice(0, 10) : new Date(value).toISOString();
    return type === 'boolean' ? value !== 0 : value;
  };
  return Object.fromEntries(columns.map((column) => [column.name, cell(column)]));
}
