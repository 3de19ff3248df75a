import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { MillraceError } from '../contracts/errors.ts';
import type { FeedbackRecord } from '../contracts/routes.ts';
import type { EndpointTable } from './endpoint-table.ts';
import { markReply } from './http-errors.ts';
import { isRequestId } from './request-id.ts';
import type { SegmentLog } from './segment-log.ts';
import { wellFormed } from '../data/row-text.ts';

const FeedbackSchema = z.object({
  labels: z
    .array(
      z.object({
        requestId: z.string().refine(isRequestId, 'must be the request id of a prediction'),
        row: z.int().nonnegative().default(0),
        label: z.union([z.string().max(10_000), z.number(), z.boolean()]),
      }),
    )
    .min(1)
    .max(10_000),
});

/**
 * `POST /feedback/{endpoint}`: what turned out to be true, by request id. Appended to files; answered after they were
 * written. Whether such a prediction was made is found out when labels are joined, because labels come late.
 */
export function addFeedbackRoute(app: FastifyInstance, deps: { readonly table: EndpointTable; readonly segments: SegmentLog }): void {
  app.post<{ Params: { endpoint: string } }>('/feedback/:endpoint', async (request, reply) => {
    const { endpoint } = request.params;
    if (!deps.table.names().includes(endpoint)) throw new MillraceError('ENDPOINT_NOT_FOUND', `There is no endpoint ${JSON.stringify(endpoint)}.`);
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
        problems: parsed.error.issues.map((issue) => ({ path: issue.path.join('.'), message: issue.message })),
      });
    const at = new Date().toISOString();
    const droppedBefore = deps.segments.droppedLines;
    for (const { requestId, row, label } of parsed.data.labels) {
      const record: FeedbackRecord = { requestId, row, label: typeof label === 'string' ? wellFormed(label) : label, at };
      deps.segments.append(endpoint, `${JSON.stringify(record)}\n`);
    }
    await deps.segments.flush();
    if (deps.segments.droppedLines > droppedBefore) throw new MillraceError('DISK_FULL', 'The labels could not be kept.');
    markReply(reply, request.id, undefined);
    return { requestId: request.id, accepted: parsed.data.labels.length };
  });
}
