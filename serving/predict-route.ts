import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { MillraceError } from '../contracts/errors.ts';
import { type AnswerWriter, compileAnswerWriter } from './answer-text.ts';
import type { EndpointTable, ServingVersion } from './endpoint-table.ts';
import { markReply, sendError, toMillraceError } from './http-errors.ts';
import type { LoadedPredictor } from './loaded-predictor.ts';
import type { OnlineFeatures } from './online-features.ts';
import type { Predictor } from './prediction.ts';
import { isPlainObjectText } from './prediction-log.ts';
import type { ServingFigures } from './serving-figures.ts';

export interface PredictionRoutesDeps {
  readonly table: EndpointTable;
  readonly predictor: Predictor;
  readonly figures: ServingFigures;
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
  sendError(request, reply, error, version);
  if (version === undefined) deps.figures.countUnserved(reply.statusCode);
  else version.figures.count(reply.statusCode, rows, performance.now() - startedMs);
}

/** Hands the rows on, at once when they bring all columns, else when the others were looked up. */
export function completeRows(
  deps: PredictionRoutesDeps,
  version: ServingVersion,
  rows: readonly unknown[],
  then: (complete: readonly unknown[]) => void,
  failed: (error: unknown) => void,
): void {
  const { completer } = version.predictor;
  if (deps.online === undefined || completer?.lacks(rows) !== true) {
    then(rows);
    return;
  }
  const leave = deps.predictor.enter(rows.length);
  const release = version.predictor.hold();
  completer.complete(rows, deps.online, Date.now()).finally(leave).then(then).catch(failed).finally(release);
}

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
    const requestId = request.id;
    let version: ServingVersion | undefined;
    let count = 0;
    try {
      const chosen = deps.table.pick(request.params.endpoint, requestId);
      version = chosen;
      const text = Buffer.isBuffer(request.body) ? request.body.toString('utf8') : '';
      const { rows, only } = readRows(text);
      count = rows.length;
      const { row: reader } = chosen.predictor;
      const predict = (complete: readonly unknown[]): void => {
        deps.predictor.predict(
          {
            requestId,
            version: chosen,
            rows: count,
            startedMs,
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
            chosen.figures.count(200, count, performance.now() - startedMs);
          },
        );
      };
      completeRows(deps, chosen, rows, predict, (error) => {
        failPrediction(deps, request, reply, error, chosen, count, startedMs);
      });
    } catch (error) {
      failPrediction(deps, request, reply, error, version, count, startedMs);
    }
  });
}
