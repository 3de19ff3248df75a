import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { MillraceError } from '../contracts/errors.ts';
import type { StickyKey } from '../contracts/routes.ts';
import type { Decision } from '../data/row-decisions.ts';
import { type AnswerWriter, compileAnswerWriter } from './answer-text.ts';
import type { EndpointTable, ServingVersion } from './endpoint-table.ts';
import { sendError, toMillraceError } from './http-errors.ts';
import type { LoadedPredictor } from './loaded-predictor.ts';
import type { OnlineFeatures } from './online-features.ts';
import { countAnswered, type Predictor, timedOut } from './prediction.ts';
import type { FoundAnswers, Precomputed } from './precomputed.ts';
import { decideAnswers } from './precomputed-actions.ts';
import { isPlainObject } from './prediction-log.ts';
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
  /** Answers by key; undefined: there are none. */
  readonly precomputed?: Precomputed | undefined;
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

/** The body of `/predict`: `{"rows": [{column: value, …}]}`, `{"keys": […]}`, or both. */
function readRows(text: string): { readonly rows: readonly unknown[] | undefined; readonly keys: readonly unknown[] | undefined; readonly only: boolean } {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    throw new MillraceError('INVALID_REQUEST', undefined, {
      problems: [{ path: 'body', message: 'is not JSON', fix: 'Send {"rows": [{"column": value, …}]}.' }],
    });
  }
  const list = (name: 'rows' | 'keys'): readonly unknown[] | undefined => {
    const value = typeof body === 'object' && body !== null && Object.hasOwn(body, name) ? (body as Readonly<Record<string, unknown>>)[name] : undefined;
    return Array.isArray(value) ? value : undefined;
  };
  const [rows, keys] = [list('rows'), list('keys')];
  if (rows !== undefined && keys !== undefined && rows.length !== keys.length) {
    throw new MillraceError('INVALID_REQUEST', undefined, {
      problems: [{ path: 'keys', message: `has to have one key for each of the ${rows.length} rows`, found: `${keys.length} keys` }],
    });
  }
  if (rows === undefined && keys === undefined) {
    throw new MillraceError('INVALID_REQUEST', undefined, {
      problems: [{ path: 'rows', message: 'is missing: a list of rows is expected', fix: 'Send {"rows": [{"column": value, …}]}.' }],
    });
  }
  return { rows, keys, only: keys === undefined && Object.keys(body as object).length === 1 };
}

/** What the answers of a version begin with: headers, name and value in turn, and the text behind the request's id. */
interface AnswerHead {
  readonly headers: readonly string[];
  readonly text: string;
}

/** The only row as the client wrote it, when it may stand in the log as it is. The row was read: it has every column. */
function rowText(body: Buffer, version: ServingVersion): string | undefined {
  const [from, to] = [body.indexOf('[') + 1, body.lastIndexOf(']')];
  return isPlainObject(body, from, to, version.predictor.signature.columns.length) ? body.toString('latin1', from, to) : undefined;
}

const withAction = (answer: string, decision: Decision | undefined): string =>
  decision === undefined ? answer : `${answer.slice(0, -1)},"action":${decision.text}}`;

/** `POST /predict/{endpoint}`: rows by column name in, one prediction a row out, in order. */
export function addPredictRoute(app: FastifyInstance, deps: PredictionRoutesDeps): void {
  const writers = new WeakMap<LoadedPredictor, AnswerWriter>();
  const heads = new WeakMap<ServingVersion, AnswerHead>();

  /** Sends what nearly every request gets, past the framework: no hook looks at it, and most of its headers are known before. */
  function sendAnswer(reply: FastifyReply, requestId: string, version: ServingVersion, answers: string): void {
    let head = heads.get(version);
    if (head === undefined) {
      const { model, version: number } = version.served;
      head = {
        headers: ['content-type', 'application/json; charset=utf-8', 'millrace-model', model, 'millrace-version', String(number)],
        text: `","model":${JSON.stringify(model)},"version":${number},"predictions":[`,
      };
      heads.set(version, head);
    }
    const text = `{"requestId":"${requestId}${head.text}${answers}]}`;
    reply.hijack();
    reply.raw.writeHead(200, [...head.headers, 'x-request-id', requestId, 'content-length', String(Buffer.byteLength(text))]);
    reply.raw.end(text);
  }

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

  /** Who answers; undefined for an endpoint that nobody serves, when keys are asked for. */
  function pickUnlessByKey(endpoint: string, requestId: string, text: string): ServingVersion | undefined {
    if (deps.precomputed === undefined || !text.includes('"keys"')) return deps.table.pick(endpoint, requestId);
    return deps.table.versionsOf(endpoint).length === 0 ? undefined : deps.table.pick(endpoint, requestId);
  }

  /** Answers keys that were precomputed, and the rows of those that were not. */
  function answerKeys(
    request: FastifyRequest<{ Params: { endpoint: string } }>,
    reply: FastifyReply,
    startedMs: number,
    keys: readonly unknown[],
    rows: readonly unknown[] | undefined,
    version: ServingVersion | undefined,
  ): void {
    const { endpoint } = request.params;
    const failed = (error: unknown): void => {
      failPrediction(deps, request, reply, error, version, keys.length, startedMs);
    };
    if (deps.precomputed === undefined) throw new MillraceError('NOT_FOUND', 'This server has no predictions by key.', { fix: 'Send rows.' });
    const leave = deps.predictor.enter({ rows: keys.length, load: version?.load, startedMs }, () => {
      failed(timedOut());
    });
    deps.precomputed
      .find(endpoint, keys)
      .then(
        (precomputed) => {
          if (!leave()) return;
          if (rows === undefined || version === undefined)
            sendKeyed(request, reply, startedMs, { ...precomputed, ...decideAnswers(precomputed, version, undefined) }, version);
          else computeMissing(request, reply, startedMs, precomputed, rows, version);
        },
        (error: unknown) => {
          if (!leave()) return;
          // Rows that came along are answered without what was precomputed: also while Postgres is away.
          if (rows === undefined || version === undefined || toMillraceError(error).code === 'INVALID_REQUEST') failed(error);
          else computeMissing(request, reply, startedMs, undefined, rows, version);
        },
      )
      .catch(failed);
  }

  function sendKeyed(
    request: FastifyRequest,
    reply: FastifyReply,
    startedMs: number,
    { model, version: number, answers, undecided }: Pick<FoundAnswers, 'model' | 'version' | 'answers'> & { readonly undecided: string | undefined },
    version: ServingVersion | undefined,
    precomputed = answers.filter((answer) => answer !== null).length,
  ): void {
    void reply
      .header('x-request-id', request.id)
      .header('millrace-model', model)
      .header('millrace-version', String(number))
      .header('content-type', 'application/json; charset=utf-8')
      .send(
        `{"requestId":"${request.id}","model":${JSON.stringify(model)},"version":${number},"precomputed":${precomputed},"predictions":[${answers.map((answer) => answer ?? 'null').join(',')}]${undecided === undefined ? '' : `,"undecided":${JSON.stringify(undecided)}`}}`,
      );
    if (version !== undefined) countAnswered(version, 200, answers.length, startedMs);
  }

  /** Runs the model on the rows whose keys are not there; on all of them where what was precomputed is another version's. */
  function computeMissing(
    request: FastifyRequest,
    reply: FastifyReply,
    startedMs: number,
    found: FoundAnswers | undefined,
    rows: readonly unknown[],
    version: ServingVersion,
  ): void {
    const { model, version: number, predictor } = version.served;
    const own = predictor === found?.predictor ? decideAnswers(found, version, rows) : undefined;
    const undecided = own?.undecided;
    const answers: (string | null)[] = own === undefined ? rows.map(() => null) : [...own.answers];
    const missing = answers.flatMap((answer, row) => (answer === null ? [row] : []));
    const failed = (error: unknown): void => {
      failPrediction(deps, request, reply, error, version, rows.length, startedMs);
    };
    if (missing.length === 0) {
      sendKeyed(request, reply, startedMs, { model, version: number, answers, undecided }, version);
      return;
    }
    const live = missing.map((row) => rows[row]);
    const predict = (complete: readonly unknown[]): void => {
      deps.predictor.predict(
        {
          requestId: request.id,
          version,
          rows: live.length,
          startedMs,
          key: undefined,
          write: (row, packed, at) => version.predictor.row.read(complete[row], missing[row] ?? row, packed, at),
          logged: (row) => ({ values: complete[row] as Readonly<Record<string, unknown>>, text: undefined }),
        },
        (error, prediction) => {
          if (error !== undefined || prediction === undefined) {
            failed(error);
            return;
          }
          const { output, firstRow, texts, decisions } = prediction;
          const write = writerOf(version.predictor);
          missing.forEach((at, row) => {
            answers[at] = withAction(write(texts[row] ?? [], output.values, (firstRow + row) * output.width), decisions?.[row]);
          });
          sendKeyed(request, reply, startedMs, { model, version: number, answers, undecided }, version, answers.length - missing.length);
        },
      );
    };
    completeRows(deps, version, live, startedMs, predict, failed);
  }

  function answer(request: FastifyRequest<{ Params: { endpoint: string } }>, reply: FastifyReply, startedMs: number): void {
    const { endpoint } = request.params;
    const requestId = request.id;
    let version: ServingVersion | undefined;
    let count = 0;
    try {
      const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
      const text = body.toString('utf8');
      // The endpoint is looked up before the body is read: an unknown one is the first thing to be told.
      version = pickUnlessByKey(endpoint, requestId, text);
      const { rows, keys, only } = readRows(text);
      if (keys !== undefined) {
        answerKeys(request, reply, startedMs, keys, rows, version);
        return;
      }
      if (rows === undefined || version === undefined) return;
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
              return { values, text: only && count === 1 && complete === rows ? rowText(body, chosen) : undefined };
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
              answers += (row === 0 ? '' : ',') + withAction(answer, decisions?.[row]);
            }
            sendAnswer(reply, requestId, chosen, answers);
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
