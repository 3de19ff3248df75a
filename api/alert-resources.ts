import { z } from 'zod';
import { ALERT_KINDS, ALERT_STATUSES } from '../contracts/alerts.ts';
import { projectsOf } from '../contracts/identity.ts';
import { NameSchema } from '../contracts/ids.ts';
import { PersonSchema } from '../contracts/labels.ts';
import { action, afterNumber, limit, page, type Resource, resource } from './resource.ts';

const id = z.coerce.number().int().positive();
const pattern = z.string().min(1).max(300).optional();
const reason = z.string().min(1).max(2_000);
const AcknowledgementSchema = z.strictObject({ by: PersonSchema, comment: reason.optional() });
const SilenceSchema = z.strictObject({
  kind: z.enum(ALERT_KINDS).optional(),
  endpoint: pattern,
  pipeline: pattern,
  subject: pattern,
  from: z.iso.datetime().optional(),
  until: z.iso.datetime(),
  by: PersonSchema,
  reason,
});

/** What is the matter, and what is kept quiet. */
export const ALERT_RESOURCES: readonly Resource[] = [
  resource('/alerts', {
    summary: 'Alerts, newest first; those that are not resolved, or of a status.',
    answers: 'page',
    params: {},
    query: {
      status: z.enum([...ALERT_STATUSES, 'all']).optional(),
      kind: z.enum(ALERT_KINDS).optional(),
      endpoint: NameSchema.optional(),
      pipeline: NameSchema.optional(),
      limit,
      after: afterNumber,
    },
    read: async (store, { status, kind, endpoint, pipeline, limit: size, after }, _artifacts, { identity }) =>
      page(
        await store.alerts.list({
          limit: size + 1,
          projects: projectsOf(identity),
          ...(status === undefined ? {} : { status }),
          ...(kind === undefined ? {} : { kind }),
          ...(endpoint === undefined ? {} : { endpoint }),
          ...(pipeline === undefined ? {} : { pipeline }),
          ...(after === undefined ? {} : { before: after }),
        }),
        size,
        (alert) => alert.id,
      ),
  }),
  resource('/alerts/{alert}', {
    summary: 'An alert with the messages that told of it, each with how its deliveries stand.',
    answers: 'object',
    params: { alert: id },
    query: {},
    read: (store, { alert }) => store.alerts.get(alert),
  }),
  action('/alerts/{alert}/ack', AcknowledgementSchema, {
    role: 'operator',
    summary: 'Acknowledges an alert: it is quiet until it has recovered. The same person again changes nothing but the comment.',
    params: { alert: id },
    read: (store, { alert, body: { by, comment } }) => store.alerts.acknowledge({ id: alert, by, ...(comment === undefined ? {} : { comment }) }),
  }),
  resource('/silences', {
    summary: 'Silences that are in force or will be, newest first; with `all` those that have ended, too.',
    answers: 'page',
    params: {},
    query: { all: z.enum(['true', 'false']).default('false'), limit, after: afterNumber },
    read: async (store, { all, limit: size, after }) =>
      page(
        await store.alerts.silences({ all: all === 'true', limit: size + 1, ...(after === undefined ? {} : { before: after }) }),
        size,
        (silence) => silence.id,
      ),
  }),
  action('/silences', SilenceSchema, {
    role: 'operator',
    summary: 'Tells nobody of what fits between two times. The same again, while it is in force, gives the one that is there.',
    params: {},
    read: (store, { body: { kind, endpoint, pipeline, subject, from, ...silence } }) =>
      store.alerts.silence({
        ...silence,
        ...(kind === undefined ? {} : { kind }),
        ...(endpoint === undefined ? {} : { endpoint }),
        ...(pipeline === undefined ? {} : { pipeline }),
        ...(subject === undefined ? {} : { subject }),
        ...(from === undefined ? {} : { from }),
      }),
  }),
  action('/silences/{silence}/end', z.strictObject({ by: PersonSchema }), {
    role: 'operator',
    summary: 'Ends a silence before its time.',
    params: { silence: id },
    read: (store, { silence, body: { by } }) => store.alerts.endSilence({ id: silence, by }),
  }),
];
