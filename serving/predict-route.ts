import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { MillraceError } from '../contracts/errors.ts';
import type { StickyKey } from '../contracts/routes.ts';
import { type AnswerWriter, compileAnswerWriter } from './answer-text.ts';
import type { EndpointTable, ServingVersion } from './endpoint-table.ts';
import { markReply, sendError, toMillraceError } from './http-errors.ts';
import type { LoadedPredictor } from './loaded-predictor.ts';
import type { OnlineFeatures } from './online-features.ts';
import { countAnswered, type Predictor, timedOut } from './prediction.ts';
import { isPlainObjectText } from './prediction-log.ts';
import type { ServingFigures } from './serving-figures.ts';
import type { Shadow } from './shadow.ts';

export interface PredictionRoutesDeps {
  readonly table: EndpointTable;
  readonly predictor: Predictor;
  readonly figures: ServingFigures;
  /** Shows challengers what the champion answered. */
  readonly shadow: Shadow;
  /** Where the features of rows that leave them out are found; undefined: they have to bring them. */
  readonly online?: OnlineFeatures | undefined;
  /** Told of failures that are the server's own. */
  readonly onInternal: (error: MillraceError, requestId: string) => void;
}

/** Answers a failed prediction and counts it. */
export function failPrediction(
  deps: PredictionRoutesDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  cause: unknown,
  version: ServingVersion | undefined,
  rows: number,
  startedMs: number,
): void {
  const error = toMillraceError(cause);
  if (error.code === 'INTERNAL') deps.onInternal(error, request.id);
  if (reply.sent) return;
  sendError(request, reply, error, version);
  if (version === undefined) deps.figures.countUnserved(reply.statusCode);
  else countAnswered(version, reply.statusCode, rows, startedMs);
}

/** Goes on at once when the endpoint's model is in memory, else when it was brought there. */
export function whenAwake(
  deps: PredictionRoutesDeps,
  endpoint: string,
  request: FastifyRequest,
  reply: FastifyReply,
  startedMs: number,
  then: () => void,
): void {
  const waking = deps.table.wake(endpoint);
  if (waking === undefined) {
    then();
    return;
  }
  const fail = (error: unknown): void => {
    failPrediction(deps, request, reply, error, undefined, 0, startedMs);
  };
  try {
    const leave = deps.predictor.enter({ rows: 1, load: waking.load, startedMs }, () => {
      fail(timedOut());
    });
    const go = (): void => {
      if (leave()) then();
    };
    waking.done.then(go, go).catch(fail);
  } catch (error) {
    fail(error);
  }
}

/** Hands the rows on, at once when they bring all columns, else when the others were looked up. */
export function completeRows(
  deps: Pick<PredictionRoutesDeps, 'predictor' | 'online'>,
  version: ServingVersion,
  rows: readonly unknown[],
  startedMs: number,
  then: (complete: readonly unknown[]) => void,
  failed: (error: unknown) => void,
): void {
  const { completer } = version.predictor;
  if (deps.online === undefined || completer?.lacks(rows) !== true) {
    then(rows);
    return;
  }
  const leave = deps.predictor.enter({ rows: rows.length, load: version.load, startedMs }, () => {
    failed(timedOut());
  });
  const release = version.predictor.hold();
  completer
    .complete(rows, deps.online, Date.now())
    .then(
      (complete) => {
        if (leave()) then(complete);
      },
      (error: unknown) => {
        if (leave()) failed(error);
      },
    )
    .catch(failed)
    .finally(release);
}

const MAX_KEY_LENGTH = 200;

/** What a client's requests stick by: the header, or a column of the first row. Undefined when the request has none. */
export function keyOf(by: StickyKey, request: FastifyRequest, column: (name: string) => unknown): string | undefined {
  const value = by.kind === 'header' ? request.headers['x-millrace-key'] : column(by.column);
  if (typeof value === 'number' || typeof value === 'boolean' || typeof value === 'bigint') return String(value);
  return typeof value === 'string' && value !== '' ? value.slice(0, MAX_KEY_LENGTH) : undefined;
}

const valueOf = (row: unknown, column: string): unknown =>
  typeof row === 'object' && row !== null && Object.hasOwn(row, column) ? (row as Readonly<Record<string, unknown>>)[column] : undefined;

/** The body of `/predict`: `{"rows": [{column: value, …}]}`. */
function readRows(text: string): { readonly rows: readonly unknown[]; readonly only: boolean } {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    throw new MillraceError('INVALID_REQUEST', undefined, {
      problems: [{ path: 'body', message: 'is not JSON', fix: 'Send {"rows": [{"column": value, …}]}.' }],
    });
  }
  if (typeof body !== 'object' || body === null || !('rows' in body) || !Array.isArray(body.rows)) {
    throw new MillraceError('INVALID_REQUEST', undefined, {
      problems: [{ path: 'rows', message: 'is missing: a list of rows is expected', fix: 'Send {"rows": [{"column": value, …}]}.' }],
    });
  }
  return { rows: body.rows, only: Object.keys(body).length === 1 };
}

/** The only row as the client wrote it, when it may stand in the log as it is. */
function rowText(text: string, row: Readonly<Record<string, unknown>>, version: ServingVersion): string | undefined {
  const { columns } = version.predictor.signature;
  for (const column of columns) if (!Object.hasOwn(row, column.name)) return undefined;
  const written = text.slice(text.indexOf('[') + 1, text.lastIndexOf(']'));
  return isPlainObjectText(written, columns.length) ? written : undefined;
}

/** `POST /predict/{endpoint}`: rows by column name in, one prediction a row out, in order. */
export function addPredictRoute(app: FastifyInstance, deps: PredictionRoutesDeps): void {
  const writers = new WeakMap<LoadedPredictor, AnswerWriter>();

  function writerOf(predictor: LoadedPredictor): AnswerWriter {
    let writer = writers.get(predictor);
    if (writer === undefined) {
      writer = compileAnswerWriter(predictor.signature);
      writers.set(predictor, writer);
    }
    return writer;
  }

  app.post<{ Params: { endpoint: string } }>('/predict/:endpoint', (request, reply) => {
    const startedMs = performance.now();
    whenAwake(deps, request.params.endpoint, request, reply, startedMs, () => {
      answer(request, reply, startedMs);
    });
  });

  function answer(request: FastifyRequest<{ Params: { endpoint: string } }>, reply: FastifyReply, startedMs: number): void {
    const { endpoint } = request.params;
    const requestId = request.id;
    let version: ServingVersion | undefined;
    let count = 0;
    try {
      // The endpoint is looked up before the body is read: an unknown one is the first thing to be told.
      version = deps.table.pick(endpoint, requestId);
      const text = Buffer.isBuffer(request.body) ? request.body.toString('utf8') : '';
      const { rows, only } = readRows(text);
      count = rows.length;
      const by = deps.table.stickyBy(endpoint);
      const key = by === undefined ? undefined : keyOf(by, request, (column) => valueOf(rows[0], column));
      const chosen = key === undefined ? version : deps.table.pick(endpoint, requestId, undefined, key);
      version = chosen;
      const { row: reader } = chosen.predictor;
      const predict = (complete: readonly unknown[]): void => {
        deps.predictor.predict(
          {
            requestId,
            version: chosen,
            rows: count,
            startedMs,
            key,
            write: (row, packed, at) => reader.read(complete[row], row, packed, at),
            logged(row) {
              const values = complete[row] as Readonly<Record<string, unknown>>;
              return { values, text: only && count === 1 && complete === rows ? rowText(text, values, chosen) : undefined };
            },
          },
          (error, prediction) => {
            if (error !== undefined || prediction === undefined) {
              failPrediction(deps, request, reply, error, chosen, count, startedMs);
              return;
            }
            const { output, firstRow, texts, decisions } = prediction;
            const write = writerOf(chosen.predictor);
            let answers = '';
            for (let row = 0; row < count; row += 1) {
              const answer = write(texts[row] ?? [], output.values, (firstRow + row) * output.width);
              const decision = decisions?.[row];
              answers += (row === 0 ? '' : ',') + (decision === undefined ? answer : `${answer.slice(0, -1)},"action":${decision.text}}`);
            }
            markReply(reply, requestId, chosen);
            void reply
              .header('content-type', 'application/json; charset=utf-8')
              .send(
                `{"requestId":"${requestId}","model":${JSON.stringify(chosen.served.model)},"version":${chosen.served.version},"predictions":[${answers}]}`,
              );
            countAnswered(chosen, 200, count, startedMs);
            const shadow = deps.table.shadowOf(chosen, requestId);
            if (shadow !== undefined) deps.shadow.mirror({ requestId, champion: chosen, shadow, rows, prediction });
          },
        );
      };
      completeRows(deps, chosen, rows, startedMs, predict, (error) => {
        failPrediction(deps, request, reply, error, chosen, count, startedMs);
      });
    } catch (error) {
      failPrediction(deps, request, reply, error, version, count, startedMs);
    }
  }
}
