import { z } from 'zod';
import { NameSchema } from './ids.ts';
import { isTimeZone } from './local-time.ts';
import { isFileSource, SourceSchema } from './source.ts';

/**
 * What asks for a pipeline's retraining by itself, as `definePipeline({ retrainOn: [...] })` declares it. The builders of
 * `workflows/retrain-on.ts` make these. Drift and quality are asked for by `monitor`, and everything else by the signal
 * `retrain`.
 */
const common = {
  /** One a pipeline: what was seen is remembered under it. */
  name: z.string().min(1).max(200),
  /** Stands in the ledger, before what was found. */
  reason: z.string().min(1).max(500).optional(),
};
/** How often it is looked for. */
const everyMs = z
  .number()
  .int()
  .min(100)
  .max(7 * 86_400_000);
const atLeast = z.number().int().min(1);
const SecretNameSchema = z.string().regex(/^SOURCE_[A-Z0-9_]{1,100}$/, 'must be the name of an environment variable that begins with SOURCE_');
/** Channels are names of Postgres: at most 63 bytes. */
const ChannelSchema = z
  .string()
  .min(1)
  .refine((channel) => new TextEncoder().encode(channel).length <= 63, 'must have at most 63 bytes, as names of Postgres have');

const ScheduleTimesShape = {
  /** As Temporal reads them: five to seven fields, or `@daily` and the like. */
  cron: z.array(z.string().min(1).max(200)).min(1).max(50).optional(),
  everyMs: z.number().int().min(1000).optional(),
  /** The zone in which cron expressions are read. Default: the project's, else UTC. */
  timeZone: z.string().refine(isTimeZone, 'must be a time zone of the IANA list, as Europe/Berlin').optional(),
  /** Each start is put off by up to so much, drawn anew each time. */
  jitterMs: z.number().int().min(0).optional(),
  /** How late a missed start is still made up for. Default: the project's, else one interval. */
  catchUpMs: z.number().int().min(10_000).optional(),
};

export const RetrainTriggerSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('schedule'), ...common, ...ScheduleTimesShape }),
  /** Files that were not there, or have other content now. One that still grows is waited for. */
  z.object({ kind: z.literal('files'), ...common, source: SourceSchema.refine(isFileSource, 'must be a source of files'), everyMs }),
  /** Rows above the greatest value of a column that was seen. */
  z.object({
    kind: z.literal('rows'),
    ...common,
    source: SourceSchema,
    column: z.string().min(1),
    atLeast,
    everyMs,
    /** A channel of the source's Postgres: looked at once when it is notified, beside the regular looks. */
    channel: ChannelSchema.optional(),
  }),
  /** A notification of Postgres. What is notified while nobody listens is lost, as Postgres has it. */
  z.object({ kind: z.literal('notify'), ...common, channel: ChannelSchema, connection: SecretNameSchema.default('SOURCE_DATABASE_URL') }),
  /** Labels since the last training: feedback that found its prediction, or answers of people in a queue. */
  z.object({ kind: z.literal('labels'), ...common, endpoint: NameSchema.optional(), queue: NameSchema.optional(), atLeast, everyMs }),
  /** A snapshot of this name by a run of another pipeline that completed. */
  z.object({ kind: z.literal('snapshot'), ...common, dataset: NameSchema, everyMs }),
]);
export type RetrainTriggerInput = z.input<typeof RetrainTriggerSchema>;
export type RetrainTrigger = z.infer<typeof RetrainTriggerSchema>;

/** What no schema of one field can say of a trigger; empty when all is well. */
export function contradictions(trigger: RetrainTrigger): readonly string[] {
  switch (trigger.kind) {
    case 'schedule':
      return (trigger.cron === undefined) === (trigger.everyMs === undefined) ? ['needs either cron or every'] : [];
    case 'labels':
      return (trigger.endpoint === undefined) === (trigger.queue === undefined) ? ['needs either an endpoint or a queue'] : [];
    case 'rows':
      return [
        ...(trigger.source.format === 'rows' ? ['cannot watch what a step yields: nobody could run it outside a run'] : []),
        ...(trigger.channel !== undefined && trigger.source.format !== 'postgres' ? ['has a channel, which only a source of Postgres can notify'] : []),
      ];
    default:
      return [];
  }
}
