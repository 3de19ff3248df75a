import { pathToFileURL } from 'node:url';
import { parentPort, workerData } from 'node:worker_threads';
import { threadIsUp } from '../config/module-worker.ts';
import type { Column, ColumnType } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';
import { parseTimestamp, wellFormed } from '../data/row-text.ts';
import type { RowsAnswer, RowsCall } from './rows-stream.ts';
import { isStep, type RowsContext, type SourceRow, stepRun } from './steps.ts';
import { usersCode } from './users-code.ts';

/** The thread behind rows-stream.ts: asks a person's iterator for rows, checks them and hands them on by columns. */
if (!parentPort) throw new Error('rows-thread runs as a worker thread only');
const port = parentPort;
const call = workerData as RowsCall;
const BATCH_ROWS = 5_000;
const BATCH_CHARACTERS = 4 * 1024 * 1024;
/** A batch of rows that come slowly is handed on with what there is. */
const BATCH_MS = 2_000;

const stop = new AbortController();
const send = (answer: RowsAnswer): void => {
  port.postMessage(answer);
};

let iterator: AsyncIterator<SourceRow> | Iterator<SourceRow> | undefined;
let stated: Readonly<Record<string, ColumnType>> = {};
let columns: readonly Column[] | undefined;
let rowNumber = 0;

let work: Promise<void> = Promise.resolve();
port.on('message', (message: 'next' | 'stop') => {
  if (message === 'next') work = work.then(answer);
  else {
    stop.abort(new Error('The ingest was stopped.'));
    // what the iterator holds (a connection, a file) is let go of by its own `finally`
    void Promise.resolve(iterator?.return?.())
      .catch(() => undefined)
      .then(() => {
        port.close();
        process.exit(0);
      });
  }
});

async function answer(): Promise<void> {
  try {
    iterator ??= await begin();
    const rows = await take(iterator);
    if (rows.length === 0) {
      send({ kind: 'end' });
      return;
    }
    columns ??= columnsOf(rows);
    const taken = columns;
    const values = taken.map((): (string | null)[] => []);
    for (const row of rows) {
      rowNumber++;
      refuseUnknown(row, taken);
      taken.forEach((column, index) => values[index]?.push(textOf(row[column.name], column)));
    }
    send({ kind: 'batch', columns: taken, values });
  } catch (error) {
    const known = error instanceof MillraceError ? error : new MillraceError('INTERNAL');
    const cause = error instanceof MillraceError ? error.cause : error;
    send({ kind: 'failed', report: known.report(), log: cause instanceof Error ? (cause.stack ?? cause.message) : '' });
  }
}

async function begin(): Promise<AsyncIterator<SourceRow> | Iterator<SourceRow>> {
  const found = ((await import(pathToFileURL(call.module).href)) as Record<string, unknown>)[call.step];
  if (!isStep(found)) throw new MillraceError('NOT_FOUND', `The pipeline ${call.pipeline} has no step ${call.step}.`);
  const user = stepRun(found);
  if (user.kind !== 'rows') throw new MillraceError('USAGE', `The step ${call.step} yields no rows.`, { fix: 'Make it a rowsStep.' });
  stated = user.types;
  const context: RowsContext = {
    runId: call.runId,
    pipeline: call.pipeline,
    above: call.above,
    signal: stop.signal,
    progress: (_fraction, message) => {
      send({ kind: 'progress', message });
    },
  };
  return usersCode(call.step, () => {
    // the types of a step's parameters are the pipeline author's, checked where the source is named
    const rows = user.run(call.parameters as never, context);
    return Symbol.asyncIterator in rows ? rows[Symbol.asyncIterator]() : rows[Symbol.iterator]();
  });
}

async function take(from: AsyncIterator<SourceRow> | Iterator<SourceRow>): Promise<readonly SourceRow[]> {
  const rows: SourceRow[] = [];
  const begun = Date.now();
  let characters = 0;
  while (rows.length < BATCH_ROWS && characters < BATCH_CHARACTERS && (rows.length === 0 || Date.now() - begun < BATCH_MS)) {
    const next = await usersCode(call.step, async () => from.next());
    if (next.done === true) break;
    const row: SourceRow = next.value;
    if (!isRow(row))
      throw new MillraceError('SOURCE_MALFORMED', `Row ${rowNumber + rows.length + 1} of the step ${call.step} is not an object.`, {
        fix: 'Yield one object a row, its keys the columns.',
      });
    rows.push(row);
    for (const cell of Object.values(row)) characters += typeof cell === 'string' ? cell.length : 8;
  }
  return rows;
}

const isRow = (value: unknown): boolean => value !== null && typeof value === 'object' && !Array.isArray(value);
const isMissing = (value: unknown): boolean => value === null || value === undefined || (typeof value === 'number' && !Number.isFinite(value));

function columnsOf(rows: readonly SourceRow[]): readonly Column[] {
  const types = new Map<string, ColumnType | undefined>(Object.entries(stated));
  for (const row of rows) {
    for (const [name, value] of Object.entries(row)) {
      if (types.get(name) === undefined) types.set(name, isMissing(value) ? undefined : typeOf(value));
    }
  }
  return [...types].map(([name, type]) => ({ name, type: type ?? 'string' }));
}

function typeOf(value: unknown): ColumnType | undefined {
  switch (typeof value) {
    case 'string':
      return 'string';
    case 'number':
      return 'number';
    case 'bigint':
      return 'integer';
    case 'boolean':
      return 'boolean';
    default:
      return value instanceof Date ? 'timestamp' : undefined;
  }
}

function refuseUnknown(row: SourceRow, known: readonly Column[]): void {
  for (const name of Object.keys(row)) {
    if (!known.some((column) => column.name === name))
      refuse(name, 'The first rows did not have this column', typeof row[name], `State it: rowsStep(…, { types: { ${name}: '…' } }).`);
  }
}

function refuse(column: string, message: string, found: string, fix: string): never {
  throw new MillraceError('SOURCE_MALFORMED', `${message} (step ${call.step}, row ${rowNumber}, column ${column}).`, {
    problems: [{ path: 'source', row: rowNumber, column, message, found, fix }],
    fix,
  });
}

const INT64 = 2n ** 63n;

/** The value as a text of the column's type; null where it is missing. */
function textOf(value: SourceRow[string], { name, type }: Column): string | null {
  if (value === null || value === undefined || isMissing(value)) return null;
  const found = value instanceof Date ? 'Date' : typeof value;
  const wrong = (): never =>
    refuse(
      name,
      `A value is not of the type ${type} that the column has`,
      found,
      `Yield ${type} values, or state another type: rowsStep(…, { types: { ${name}: 'string' } }).`,
    );
  switch (type) {
    case 'string':
      if (typeof value !== 'string') return wrong();
      if (value.includes('\0')) refuse(name, 'The text holds a NUL', 'string', 'Remove it.');
      return wellFormed(value);
    case 'boolean':
      return typeof value === 'boolean' ? String(value) : wrong();
    case 'number':
      return typeof value === 'number' || typeof value === 'bigint' ? String(value) : wrong();
    case 'integer':
      if (typeof value === 'number') return Number.isSafeInteger(value) ? String(value) : wrong();
      return typeof value === 'bigint' && value < INT64 && value >= -INT64 ? String(value) : wrong();
    case 'timestamp':
    case 'date': {
      const ms = value instanceof Date ? value.getTime() : typeof value === 'string' ? parseTimestamp(value) : null;
      if (ms === null || Number.isNaN(ms)) return wrong();
      const text = new Date(ms).toISOString();
      return type === 'date' ? text.slice(0, 10) : text;
    }
  }
}

threadIsUp();
