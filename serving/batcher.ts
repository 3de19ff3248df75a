/**
 * Runs requests that meet on one turn of the event loop together.
 *
 * Invariants:
 * 1. A request waits for no timer. One that comes when nobody else is being answered runs at once; those that come
 *    while others are run on the next turn of the loop, together.
 * 2. A request's rows stand in one batch, in order; it is answered once, whatever happens to the batch.
 * 3. A batch that fails is run again request by request: nobody fails because of a neighbour.
 * 4. A batch's arrays are written again only after its run has settled.
 */
import { MillraceError, type Problem } from '../contracts/errors.ts';
import type { PackedRows } from '../data/request-row.ts';
import type { ModelOutput, ModelRunner } from './model-runner.ts';

/** Called once a request. `output` holds the batch's rows; the request's start at `firstRow`. */
export type BatchDone = (error: MillraceError | undefined, output: ModelOutput | undefined, packed: PackedRows, firstRow: number) => void;

/** Writes one request's row number `row` at row `at` of the packed arrays, or says what is wrong with it. */
export type WriteRow = (row: number, packed: PackedRows, at: number) => readonly Problem[] | undefined;

interface Ticket {
  readonly firstRow: number;
  readonly rows: number;
  readonly done: BatchDone;
}

interface Batch {
  readonly packed: PackedRows;
  readonly capacity: number;
  rows: number;
  tickets: Ticket[];
}

export interface Batcher {
  /** Takes a request of `rows` ≥ 1 rows. Problems come back at once, and then `done` is not called. */
  add(rows: number, write: WriteRow, done: BatchDone): readonly Problem[] | undefined;
  /** Settles when every request taken so far is answered. */
  drained(): Promise<void>;
}

export interface BatcherOptions {
  readonly widths: { readonly numbers: number; readonly dates: number; readonly strings: number };
  /** Rows run together, unless one request has more. Default 256. */
  readonly maxRows?: number;
  /** Told when a `done` throws, which it should not. */
  readonly onUnexpected?: (cause: unknown) => void;
}

/** Problems reported for one request; a thousand bad rows need not be listed one by one. */
const MAX_PROBLEMS = 100;
const SPARE_BATCHES = 4;

export function createBatcher(runner: ModelRunner, options: BatcherOptions): Batcher {
  const maxRows = options.maxRows ?? 256;
  const { widths } = options;
  const spare: Batch[] = [];
  const waiting: (() => void)[] = [];
  let open: Batch | undefined;
  let unanswered = 0;

  const allocate = (capacity: number): Batch => ({
    packed: {
      numbers: new Float32Array(capacity * widths.numbers),
      dates: new BigInt64Array(capacity * widths.dates),
      strings: new Array<string>(capacity * widths.strings).fill(''),
    },
    capacity,
    rows: 0,
    tickets: [],
  });

  function answer(ticket: Ticket, error: MillraceError | undefined, output: ModelOutput | undefined, packed: PackedRows, firstRow: number): void {
    unanswered -= 1;
    try {
      ticket.done(error, output, packed, firstRow);
    } catch (cause) {
      options.onUnexpected?.(cause);
    }
    if (unanswered === 0) for (const resolve of waiting.splice(0)) resolve();
  }

  function failed(cause: unknown): MillraceError {
    return cause instanceof MillraceError ? cause : new MillraceError('INTERNAL', 'The model failed on this request.', { cause });
  }

  async function run(batch: Batch): Promise<void> {
    let output: ModelOutput | undefined;
    let failure: unknown;
    try {
      output = await runner.run(batch.packed, 0, batch.rows);
    } catch (error) {
      failure = error;
    }
    for (const ticket of batch.tickets) {
      if (output !== undefined) answer(ticket, undefined, output, batch.packed, ticket.firstRow);
      else if (batch.tickets.length === 1) answer(ticket, failed(failure), undefined, batch.packed, ticket.firstRow);
      else {
        try {
          const alone = await runner.run(batch.packed, ticket.firstRow, ticket.rows);
          // The output holds this request's rows only, so a view of the arrays that starts with them goes with it.
          answer(ticket, undefined, alone, shifted(batch.packed, ticket.firstRow), 0);
        } catch (error) {
          answer(ticket, failed(error), undefined, batch.packed, ticket.firstRow);
        }
      }
    }
    if (batch.capacity === maxRows && spare.length < SPARE_BATCHES) {
      batch.rows = 0;
      batch.tickets = [];
      spare.push(batch);
    }
  }

  function shifted(packed: PackedRows, rows: number): PackedRows {
    return {
      numbers: packed.numbers.subarray(rows * widths.numbers),
      dates: packed.dates.subarray(rows * widths.dates),
      strings: packed.strings.slice(rows * widths.strings),
    };
  }

  function dispatch(): void {
    const batch = open;
    open = undefined;
    if (batch !== undefined && batch.rows > 0) void run(batch);
  }

  return {
    add(rows, write, done) {
      if (open !== undefined && open.rows + rows > open.capacity) dispatch();
      const fresh = open === undefined;
      const batch = (open ??= rows > maxRows ? allocate(rows) : (spare.pop() ?? allocate(maxRows)));
      let problems: Problem[] | undefined;
      for (let row = 0; row < rows; row += 1) {
        const found = write(row, batch.packed, batch.rows + row);
        if (found === undefined || found.length === 0) continue;
        problems ??= [];
        problems.push(...found);
        if (problems.length >= MAX_PROBLEMS) break;
      }
      if (problems !== undefined) {
        // No turn of the loop was asked for yet, so a batch that would stay empty is not left open.
        if (fresh) {
          open = undefined;
          if (batch.capacity === maxRows) spare.push(batch);
        }
        return problems.slice(0, MAX_PROBLEMS);
      }
      batch.tickets.push({ firstRow: batch.rows, rows, done });
      batch.rows += rows;
      unanswered += 1;
      if (unanswered === 1) dispatch();
      else if (fresh) {
        setImmediate(() => {
          if (open === batch) dispatch();
        });
      }
      return undefined;
    },
    drained: () => (unanswered === 0 ? Promise.resolve() : new Promise<void>((resolve) => waiting.push(resolve))),
  };
}
