import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { MillraceError } from '../contracts/errors.ts';
import type { FeedbackRecord, OutcomeRecord } from '../contracts/routes.ts';
import type { EndpointTable } from './endpoint-table.ts';
import { markReply } from './http-errors.ts';
import type { FeedbackSource } from './ports.ts';
import { isRequestId } from './request-id.ts';
import type { SegmentLog } from './segment-log.ts';
import { wellFormed } from '../data/row-text.ts';

/** Figures of labels have these names. */
const OWN_METRICS = new Set(['correct', 'logLoss', 'absoluteError', 'squaredError']);
const MOST_VALUES = 10_000;
const MOST_ROW = 1_000_000;

const OfPrediction = {
  requestId: z.string().refine(isRequestId, 'must be the request id of a prediction'),
  row: z.int().nonnegative().max(MOST_ROW).default(0),
};
const FeedbackSchema = z
  .object({
    labels: z
      .array(z.object({ ...OfPrediction, label: z.union([z.string().max(10_000), z.number(), z.boolean()]) }))
      .max(MOST_VALUES)
      .default([]),
    outcomes: z
      .array(
        z.object({
          ...OfPrediction,
          name: z
            .string()
            .regex(/^[A-Za-z]\w{0,62}$/, 'must be a name: a letter, then letters, digits and _')
            .refine((name) => !OWN_METRICS.has(name), 'is the name of a figure of labels'),
          value: z.union([z.number(), z.boolean().transform(Number)]),
          at: z.iso.datetime({ offset: true }).optional(),
        }),
      )
      .max(MOST_VALUES)
      .default([]),
  })
  .refine(({ labels, outcomes }) => labels.length + outcomes.length > 0, 'has neither labels nor outcomes')
  .refine(({ labels, outcomes }) => labels.length + outcomes.length <= MOST_VALUES, `has more than ${MOST_VALUES} values`);

type Feedback = z.output<typeof FeedbackSchema>;

export interface FeedbackRouteDeps {
  readonly table: EndpointTable;
  readonly segments: SegmentLog;
  /** Where it is known what became of feedback; undefined: nobody can tell. */
  readonly source: FeedbackSource | undefined;
}

/** The lines of a request, the last value of a row and name; of values that it gives twice the others are left out. */
function linesOf({ labels, outcomes }: Feedback, at: string): { readonly lines: readonly string[]; readonly duplicates: number } {
  const lines = new Map<string, string>();
  for (const { requestId, row, label } of labels) {
    const record: FeedbackRecord = { requestId, row, label: typeof label === 'string' ? wellFormed(label) : label, at };
    lines.set(`${requestId} ${row}`, `${JSON.stringify(record)}\n`);
  }
  for (const { requestId, row, name, value, at: happened } of outcomes) {
    const record: OutcomeRecord = { requestId, row, outcome: name, value, happenedAt: happened === undefined ? at : new Date(happened).toISOString(), at };
    lines.set(`${requestId} ${row} ${name}`, `${JSON.stringify(record)}\n`);
  }
  return { lines: [...lines.values()], duplicates: labels.length + outcomes.length - lines.size };
}

/**
 * `POST /feedback/{endpoint}`: what turned out to be true, and what it led to, by request id. Appended to files; answered
 * after they were written. Whether such a prediction was made is found out afterwards, off the path of requests, because
 * feedback comes late: `GET /feedback/{endpoint}` tells, and with `?requestId=` of one request.
 */
export function addFeedbackRoute(app: FastifyInstance, deps: FeedbackRouteDeps): void {
  const known = (endpoint: string): void => {
    if (!deps.table.names().includes(endpoint)) throw new MillraceError('ENDPOINT_NOT_FOUND', `There is no endpoint ${JSON.stringify(endpoint)}.`);
  };

  app.post<{ Params: { endpoint: string } }>('/feedback/:endpoint', async (request, reply) => {
    const { endpoint } = request.params;
    known(endpoint);
    // A page in a browser cannot send this type to another origin unasked.
    if (!/^application\/(?:[\w.+-]+\+)?json\b/i.test(request.headers['content-type'] ?? '')) {
      throw new MillraceError('INVALID_REQUEST', undefined, {
        problems: [{ path: 'content-type', message: 'must be application/json', found: request.headers['content-type'] ?? 'none' }],
      });
    }
    let body: unknown;
    try {
      body = JSON.parse(Buffer.isBuffer(request.body) ? request.body.toString('utf8') : '');
    } catch {
      throw new MillraceError('INVALID_REQUEST', undefined, { problems: [{ path: 'body', message: 'is not JSON' }] });
    }
    const parsed = FeedbackSchema.safeParse(body);
    if (!parsed.success)
      throw new MillraceError('INVALID_REQUEST', undefined, {
        problems: parsed.error.issues.map((issue) => ({ path: issue.path.join('.') || 'body', message: issue.message })),
      });
    const { lines, duplicates } = linesOf(parsed.data, new Date().toISOString());
    const droppedBefore = deps.segments.droppedLines;
    for (const line of lines) deps.segments.append(endpoint, line);
    await deps.segments.flush();
    if (deps.segments.droppedLines > droppedBefore) throw new MillraceError('DISK_FULL', 'The feedback could not be kept.');
    markReply(reply, request.id, undefined);
    return { requestId: request.id, accepted: lines.length, duplicates };
  });

  app.get<{ Params: { endpoint: string }; Querystring: { requestId?: string } }>('/feedback/:endpoint', async (request, reply) => {
    const { endpoint } = request.params;
    known(endpoint);
    const { requestId } = request.query;
    if (requestId !== undefined && !isRequestId(requestId))
      throw new MillraceError('INVALID_REQUEST', undefined, { problems: [{ path: 'requestId', message: 'must be the request id of a prediction' }] });
    if (deps.source === undefined) throw new MillraceError('DATABASE_UNAVAILABLE');
    const answer = requestId === undefined ? await deps.source.summary(endpoint) : { requestId, values: await deps.source.ofRequest(endpoint, requestId) };
    markReply(reply, request.id, undefined);
    return answer;
  });
}
