/**
 * An exported model as a function: `export default { fetch }` as platforms with the fetch interface call it, and `handler(event)`
 * as AWS Lambda does (function URLs and both payloads of API Gateway). `POST /predict` with `{"rows": […]}`; `GET` for health.
 */
import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { ERRORS, MillraceError } from '../contracts/errors.ts';
import { loadModel, type Model } from './load-model.ts';

let loading: Promise<Model> | undefined;
/** Loaded with the first request; when that fails, the next one tries again. */
function model(): Promise<Model> {
  loading ??= loadModel(process.env['MODEL_FOLDER'] ?? fileURLToPath(new URL('./model', import.meta.url))).catch((error: unknown) => {
    loading = undefined;
    throw error;
  });
  return loading;
}

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

async function answer(method: string, path: string, body: () => Promise<string>): Promise<Answer> {
  const requestId = randomUUID();
  const reply = (status: number, value: unknown, more: Readonly<Record<string, string>> = {}): Answer => ({
    status,
    headers: { 'content-type': 'application/json; charset=utf-8', 'x-request-id': requestId, ...more },
    body: JSON.stringify(value),
  });
  try {
    const loaded = await model();
    const named = { 'millrace-model': loaded.model, 'millrace-version': String(loaded.version) };
    if (method === 'GET') return reply(200, { ready: true, model: loaded.model, version: loaded.version }, named);
    const asked = /^\/predict(?:\/([^/]+))?$/.exec(path);
    if (method !== 'POST' || asked === null || (asked[1] !== undefined && decodeURIComponent(asked[1]) !== loaded.model))
      throw new MillraceError('NOT_FOUND', `There is no ${method} ${path} here.`, { fix: `POST /predict or /predict/${loaded.model}` });
    const predictions = await loaded.predict(rowsOf(await body()));
    return reply(200, { requestId, model: loaded.model, version: loaded.version, predictions }, named);
  } catch (error) {
    const known = error instanceof MillraceError ? error : new MillraceError('INTERNAL', undefined, { cause: error });
    if (known.code === 'INTERNAL') console.error(error);
    const report = known.report();
    return reply(ERRORS[known.code].http, {
      error: [report.message, ...report.problems.map((p) => `${p.path}: ${p.message}`)].join(' '),
      ...report,
      requestId,
    });
  }
}

function rowsOf(text: string): readonly Readonly<Record<string, unknown>>[] {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    body = undefined;
  }
  if (typeof body === 'object' && body !== null && 'rows' in body && Array.isArray(body.rows) && body.rows.length > 0)
    return body.rows as Readonly<Record<string, unknown>>[];
  throw new MillraceError('INVALID_REQUEST', undefined, {
    problems: [{ path: 'rows', message: 'is missing: a list of at least one row is expected', fix: 'Send {"rows": [{"column": value, …}]}.' }],
  });
}

/** What a function URL, an HTTP API (2.0) or a REST API (1.0) hands over. */
export interface LambdaEvent {
  readonly rawPath?: string;
  readonly path?: string;
  readonly httpMethod?: string;
  readonly requestContext?: { readonly http?: { readonly method?: string } };
  readonly body?: string | null;
  readonly isBase64Encoded?: boolean;
}

export async function handler(
  event: LambdaEvent,
): Promise<{ readonly statusCode: number; readonly headers: Readonly<Record<string, string>>; readonly body: string }> {
  const method = event.requestContext?.http?.method ?? event.httpMethod ?? 'POST';
  const text = event.body ?? '';
  const { status, headers, body } = await answer(method, event.rawPath ?? event.path ?? '/predict', () =>
    Promise.resolve(event.isBase64Encoded === true ? Buffer.from(text, 'base64').toString('utf8') : text),
  );
  return { statusCode: status, headers, body };
}

export default {
  async fetch(request: Request): Promise<Response> {
    const { status, headers, body } = await answer(request.method, new URL(request.url).pathname, () => request.text());
    return new Response(body, { status, headers });
  },
};
