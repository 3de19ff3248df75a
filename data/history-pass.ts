/**
 * One pass over the rows and labels of a history, put in order: what counts at each label.
 *
 * A chunk's columns are: entity (INTEGER), instant (BIGINT, microseconds), place (DOUBLE: a row's number, or `LABELS_FROM` + a
 * label's), flags (INTEGER: which operands are there, a bit each), and what windows sum and compare.
 */
import { DOUBLE, type DuckDBAppender, DuckDBDataChunk } from '@duckdb/node-api';
import { MillraceError } from '../contracts/errors.ts';
import { createTrailingWindow, type Ordered, type TrailingWindow, type TrailingWindowOptions } from './trailing-window.ts';

/** Labels' numbers are raised by this: rows stay below it. */
export const LABELS_FROM = 2 ** 52;
export const FLAGS_PER_COLUMN = 30;
/** DuckDB's own size of a chunk. */
const CHUNK_ROWS = 2048;

export interface WindowPlan extends TrailingWindowOptions {
  /** Which operand has to be there for a row to count; null: every row counts. */
  readonly flag: number | null;
  /** Columns of the chunk; null where nothing is summed or compared. */
  readonly numberColumn: number | null;
  readonly orderedColumn: number | null;
  readonly outputs: readonly WindowOutput[];
}
export type WindowOutput = 'count' | 'sum' | 'mean' | 'last' | 'least' | 'greatest';

export interface PassPlan {
  /** The last row's number is given out first. */
  readonly lastRow: boolean;
  /** An older last row is none. */
  readonly ttlUs: bigint | null;
  readonly windows: readonly WindowPlan[];
  /** Chunk's columns of flags. */
  readonly flagColumns: readonly number[];
}

/**
 * Takes chunks in order and appends a row of DOUBLEs for each label: its number, its last row (where asked for), then the
 * outputs of each window. Row numbers are −1 where there is none.
 */
export function createHistoryPass(plan: PassPlan, append: (row: Float64Array) => void): (chunk: DuckDBDataChunk) => void {
  const windows = plan.windows.map((window) => ({ ...openWindow(window), ...window }));
  const outputs = 1 + (plan.lastRow ? 1 : 0) + plan.windows.reduce((sum, window) => sum + window.outputs.length, 0);
  const row = new Float64Array(outputs);
  let entity = -1;
  let lastRow = -1;
  let lastAt = 0n;
  const isStale = (at: bigint): boolean => plan.ttlUs !== null && at - lastAt > plan.ttlUs;
  const answer = (at: bigint, label: number): void => {
    let column = 0;
    row[column++] = label;
    if (plan.lastRow) row[column++] = lastRow < 0 || isStale(at) ? -1 : lastRow;
    for (const { window, readers } of windows) {
      window.moveTo(at);
      for (const read of readers) row[column++] = read();
    }
    append(row);
  };
  return (chunk) => {
    const [entities, instants, places] = [integers(chunk, 0), bigIntegers(chunk, 1), numbers(chunk, 2)];
    const flags = plan.flagColumns.map((column) => integers(chunk, column));
    const inputs = windows.map(({ flag, numberColumn, orderedColumn, window }) => ({
      window,
      flags: flag === null ? undefined : flags[Math.floor(flag / FLAGS_PER_COLUMN)],
      bit: 1 << ((flag ?? 0) % FLAGS_PER_COLUMN),
      numbers: numberColumn === null ? undefined : numbers(chunk, numberColumn),
      ordered: orderedColumn === null ? undefined : ordered(chunk, orderedColumn),
    }));
    const count = chunk.rowCount;
    for (let index = 0; index < count; index++) {
      const [here, at, place] = [entities[index] ?? 0, instants[index] ?? 0n, places[index] ?? 0];
      if (here !== entity) {
        entity = here;
        lastRow = -1;
        for (const { window } of windows) window.clear();
      }
      if (place >= LABELS_FROM) {
        answer(at, place - LABELS_FROM);
        continue;
      }
      lastRow = place;
      lastAt = at;
      for (const input of inputs) {
        if (input.flags !== undefined && ((input.flags[index] ?? 0) & input.bit) === 0) continue;
        input.window.push(at, place, input.numbers?.[index] ?? 0, input.ordered?.[index] ?? 0);
      }
    }
  };
}

function openWindow(plan: WindowPlan): { readonly window: TrailingWindow; readonly readers: readonly (() => number)[] } {
  const window = createTrailingWindow(plan);
  return { window, readers: plan.outputs.map((output) => () => window[output]()) };
}

/** Collects rows of DOUBLEs into chunks for an appender. */
export function createRowSink(appender: DuckDBAppender, columns: number): { readonly append: (row: Float64Array) => void; readonly close: () => void } {
  const types = Array.from({ length: columns }, () => DOUBLE);
  const held = types.map(() => new Float64Array(CHUNK_ROWS));
  let rows = 0;
  const flush = (): void => {
    if (rows === 0) return;
    const chunk = DuckDBDataChunk.create(types, rows);
    held.forEach((values, index) => {
      const vector = chunk.getColumnVector(index);
      itemsOf(vector, Float64Array).set(values.subarray(0, rows));
      vector.flush();
    });
    appender.appendDataChunk(chunk);
    rows = 0;
  };
  return {
    append(row) {
      for (let index = 0; index < columns; index++) (held[index] ?? row)[rows] = row[index] ?? 0;
      rows++;
      if (rows === CHUNK_ROWS) flush();
    },
    close() {
      flush();
      appender.closeSync();
    },
  };
}

/** A vector's own memory: reading item by item looks each one's validity up, which costs more than the whole pass. */
function itemsOf<Items>(vector: object, kind: new (length: number) => Items): Items {
  const { items } = vector as { readonly items?: unknown };
  if (items instanceof kind) return items;
  throw new MillraceError('INTERNAL', 'A vector of DuckDB has not the memory that its type says.');
}

const integers = (chunk: DuckDBDataChunk, column: number): Int32Array => itemsOf(chunk.getColumnVector(column), Int32Array);
const bigIntegers = (chunk: DuckDBDataChunk, column: number): BigInt64Array => itemsOf(chunk.getColumnVector(column), BigInt64Array);
const numbers = (chunk: DuckDBDataChunk, column: number): Float64Array => itemsOf(chunk.getColumnVector(column), Float64Array);

function ordered(chunk: DuckDBDataChunk, column: number): ArrayLike<Ordered> {
  const vector = chunk.getColumnVector(column);
  const { items } = vector as { readonly items?: unknown };
  if (items instanceof Float64Array || items instanceof BigInt64Array) return items;
  return chunk.getColumnValues(column).map((value) => (typeof value === 'string' ? value : ''));
}
