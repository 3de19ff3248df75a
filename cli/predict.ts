import { existsSync, readFileSync } from 'node:fs';
import type { MillraceConfig } from '../config/config.ts';
import { servingUrl } from '../config/service-addresses.ts';
import { isErrorCode, MillraceError, type Problem } from '../contracts/errors.ts';

export type Row = Readonly<Record<string, unknown>>;

/** The prediction server's answer to `POST /predict/{endpoint}`. */
export interface PredictionAnswer {
  readonly requestId: string;
  readonly model: string;
  readonly version: number;
  readonly predictions: readonly unknown[];
}

const REQUEST_TIMEOUT_MS = 60_000;

function parseRows(text: string, from: string): readonly Row[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    // One row a line, as tools that write JSON lines do.
    const lines = text.split(/\r?\n/).filter((line) => line.trim() !== '');
    try {
      value = lines.map((line) => JSON.parse(line) as unknown);
    } catch {
      throw new MillraceError('INVALID_REQUEST', `${from} is not JSON.`, {
        problems: [{ path: '--rows', message: error instanceof Error ? error.message : 'cannot be parsed' }],
        fix: `Write --rows '[{"column": 1}]', or name a file with such JSON, or with one row a line.`,
      });
    }
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value) && 'rows' in value && Array.isArray(value.rows)) value = value.rows;
  const rows: readonly unknown[] = Array.isArray(value) ? value : [value];
  const problems = rows.flatMap((row, i): Problem[] =>
    typeof row === 'object' && row !== null && !Array.isArray(row)
      ? []
      : [{ path: `rows[${i}]`, message: 'is not an object of columns', found: JSON.stringify(row) }],
  );
  if (problems.length > 0) throw new MillraceError('INVALID_REQUEST', undefined, { problems });
  return rows as readonly Row[];
}

/** The rows that `--rows` names: JSON itself, or a file with JSON or JSON lines. */
export function readRows(text: string): readonly Row[] {
  const trimmed = text.trim();
  if (trimmed.startsWith('[') || trimmed.startsWith('{')) return parseRows(trimmed, '--rows');
  if (!existsSync(text))
    throw new MillraceError('SOURCE_NOT_FOUND', `There is no file ${text}.`, {
      fix: `Check the path, or write the rows themselves: --rows '[{"column": 1}]'.`,
    });
  return parseRows(readFileSync(text, 'utf8'), text);
}

function refusal(status: number, body: unknown): MillraceError {
  if (typeof body === 'object' && body !== null && 'code' in body && isErrorCode(body.code)) {
    const report = body as { readonly code: typeof body.code; readonly message?: unknown; readonly fix?: unknown; readonly problems?: readonly Problem[] };
    return new MillraceError(report.code, typeof report.message === 'string' ? report.message : undefined, {
      problems: report.problems ?? [],
      ...(typeof report.fix === 'string' ? { fix: report.fix } : {}),
    });
  }
  return new MillraceError('SERVER_UNAVAILABLE', `The prediction server answered with status ${status} and no reason.`);
}

/**
 * Asks the prediction server.
 *
 * @throws SERVER_UNAVAILABLE when it does not answer; else what it refused the rows with.
 */
export async function predict(config: Pick<MillraceConfig, 'urls' | 'token'>, endpoint: string, rows: readonly Row[]): Promise<PredictionAnswer> {
  const url = `${servingUrl(config)}/predict/${encodeURIComponent(endpoint)}`;
  let response: Response;
  try {
    response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...(config.token === undefined ? {} : { authorization: `Bearer ${config.token}` }) },
      body: JSON.stringify({ rows }),
      signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
    });
  } catch (error) {
    throw new MillraceError('SERVER_UNAVAILABLE', `No prediction server answers at ${servingUrl(config)}.`, { cause: error });
  }
  const body: unknown = await response.json().catch(() => null);
  if (!response.ok) throw refusal(response.status, body);
  return body as PredictionAnswer;
}
