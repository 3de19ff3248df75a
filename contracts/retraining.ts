import { z } from 'zod';
import { VoucherSchema } from './identity.ts';
import { isTimeZone } from './local-time.ts';

/**
 * The argument of the signal `retrain` on `retraining/<pipeline>`; all of it may be left out, and a bare text is the reason.
 */
export const RetrainRequestSchema = z.object({
  reason: z.string().max(2000).default('asked by signal'),
  /** Who or what asks: a person, a schedule, a monitor. */
  source: z.string().max(200).default('signal'),
  evidence: z.unknown().optional(),
  /** Names this one trigger: it counts once, however often it is sent. */
  key: z.string().min(1).max(300).optional(),
  /**
   * What is the matter, when that is a state that lasts: `drift of distance`. The same of one source fires again only after it
   * has recovered, or after a stated time. Left out for what merely happens: a person asks, a schedule strikes, data came.
   */
  condition: z.string().min(1).max(300).optional(),
  /** Not a request: the source says that the condition, or with none given all its conditions, are over. */
  recovered: z.boolean().optional(),
  /** When the reason arose, UTC ISO, where that was before it is sent: a run that began later has answered it. */
  at: z.iso.datetime({ offset: true }).optional(),
});
export type RetrainRequest = z.infer<typeof RetrainRequestSchema>;

const YEAR_MS = 366 * 86_400_000;
const durationMs = z.int().min(0).max(YEAR_MS);
const timeZone = z.string().refine(isTimeZone, 'must be a time zone of the IANA list, as Europe/Berlin').default('UTC');
const timeOfDay = z.string().regex(/^([01]\d|2[0-3]):[0-5]\d$/, 'must be a time of day from 00:00 to 23:59');

/** The first is Sunday. */
export const WEEKDAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const;

export const QuietHoursSchema = z.strictObject({
  from: timeOfDay,
  /** At or before `from`: of the day after. The same: a whole day. */
  to: timeOfDay,
  /** Days on which it begins. Default: all. */
  days: z
    .array(z.enum(WEEKDAYS))
    .min(1)
    .default([...WEEKDAYS]),
  timeZone,
});
export type QuietHours = z.output<typeof QuietHoursSchema>;

export const BudgetSchema = z.strictObject({
  /** Runs that begin on one day at most; null: no limit. */
  runs: z.int().min(0).max(10_000).nullable().default(null),
  /** Minutes of training of the runs that began on one day; a run that is expected to exceed them (as long as the last one) waits. */
  minutes: z.number().min(0).max(1_000_000).nullable().default(null),
  /** Where days begin. */
  timeZone,
});

export const BackOffSchema = z
  .strictObject({
    /** After the first failure. */
    firstMs: durationMs.default(600_000),
    /** By so much longer after each further one in a row. */
    factor: z.number().min(1).max(10).default(2),
    mostMs: durationMs.default(86_400_000),
  })
  .refine(({ firstMs, mostMs }) => firstMs <= mostMs, { path: ['mostMs'], message: 'must not be less than firstMs' });

const fields = {
  /** No run begins within this time after the last one began. Default a minute. */
  coolDownMs: durationMs,
  /** A condition that goes on asks again after so long. Default a day. */
  refireAfterMs: durationMs,
  budget: BudgetSchema,
  /** No run begins then; one that is under way goes on. */
  quietHours: z.array(QuietHoursSchema).max(20),
  backOff: BackOffSchema,
  /** So many retrainings in a row that failed or were rejected open an experiment request; null: none. Default 3. */
  experimentAfter: z.int().min(1).max(1_000).nullable(),
};

/** When a pipeline may be retrained; every field has a default. */
export const RetrainingPolicySchema = z.strictObject({
  coolDownMs: fields.coolDownMs.default(60_000),
  refireAfterMs: fields.refireAfterMs.default(86_400_000),
  budget: fields.budget.prefault({}),
  quietHours: fields.quietHours.default([]),
  backOff: fields.backOff.prefault({}),
  experimentAfter: fields.experimentAfter.default(3),
});
export type RetrainingPolicy = z.output<typeof RetrainingPolicySchema>;

/** What a pipeline's definition sets: the rest keeps its default. */
export const RetrainingSettingsSchema = z.strictObject(fields).partial();
export type RetrainingSettings = z.output<typeof RetrainingSettingsSchema>;
export type RetrainingSettingsInput = z.input<typeof RetrainingSettingsSchema>;

/** The argument of the update `configure`: it wins over the definition; of `reset`, what the definition or the default says stands again. */
export const ConfigureRetrainingSchema = z.strictObject({
  ...RetrainingSettingsSchema.shape,
  reset: z.array(z.enum(['coolDownMs', 'refireAfterMs', 'budget', 'quietHours', 'backOff', 'experimentAfter'])).optional(),
  by: z.string().min(1).max(200).optional(),
  /** Where tokens are configured. */
  voucher: VoucherSchema.optional(),
});
export type ConfigureRetraining = z.input<typeof ConfigureRetrainingSchema>;

/**
 * What became of a trigger. `waiting` and `running` are on the way; all others are final: `serving` (a version of its run took
 * over), `completed` (its run ended well and brought nothing into service), `rejected` (people, gates or guards refused what its
 * run brought), `failed`, `cancelled`, `refused` (no run for it), `merged` (too many wait: it goes with the one it names).
 */
export const RETRAINING_FATES = ['waiting', 'running', 'serving', 'completed', 'rejected', 'failed', 'cancelled', 'refused', 'merged'] as const;
export type RetrainingFate = (typeof RETRAINING_FATES)[number];

/** From the trigger to the version that serves, or to the run's end where none did; the parts add up to `totalMs`. */
export interface RetrainingTiming {
  readonly totalMs: number;
  /** Before its run's first stage: cool-down, budget, quiet hours, other runs. */
  readonly waitingMs: number;
  /** Stages of the run, but for what waited for people or for traffic. */
  readonly trainingMs: number;
  /** Waiting for people. */
  readonly gatesMs: number;
  readonly rolloutMs: number;
}

/** A trigger's entry in the ledger: the one answer to why the model was retrained for it, or why it was not. */
export interface TriggerEntry {
  /** Counts the triggers of this pipeline from 1. */
  readonly number: number;
  readonly key: string | null;
  readonly source: string;
  readonly reason: string;
  readonly condition: string | null;
  /** When the reason arose, UTC ISO. */
  readonly at: string;
  readonly receivedAt: string;
  /** How often it was sent. */
  readonly times: number;
  readonly fate: RetrainingFate;
  /** One sentence. */
  readonly because: string;
  /** What held it up, the first first; at most the last 8. */
  readonly heldBy: readonly { readonly by: Hold; readonly since: string }[];
  readonly workflowId: string | null;
  readonly runId: string | null;
  /** The trigger whose fate is its own too. */
  readonly mergedInto: number | null;
  readonly settledAt: string | null;
  readonly timing: RetrainingTiming | null;
}

/** Why a trigger waits. */
export type Hold = 'paused' | 'in flight' | 'back-off' | 'cool-down' | 'budget' | 'quiet hours';

/** How a run of a retraining ended, as its records tell it. */
export interface RetrainingOutcome {
  readonly fate: Extract<RetrainingFate, 'serving' | 'completed' | 'rejected' | 'failed' | 'cancelled'>;
  /** One sentence. */
  readonly because: string;
  readonly runId: string | null;
  /** First stage, and the end: the moment a version served, else the run's end. Milliseconds of the epoch. */
  readonly beganMs: number;
  readonly endedMs: number;
  readonly gatesMs: number;
  readonly rolloutMs: number;
}

/** The answer of the query `state`. */
export interface RetrainingStatus {
  readonly pipeline: string;
  readonly paused: boolean;
  readonly policy: RetrainingPolicy;
  readonly inFlight: { readonly workflowId: string; readonly since: string; readonly triggers: number } | null;
  readonly waiting: {
    readonly triggers: number;
    readonly heldBy: Hold | null /** UTC ISO; null: not before something changes. */;
    readonly until: string | null;
  } | null;
  /** Retrainings in a row that failed or were rejected. */
  readonly failures: number;
  /** UTC ISO; no run begins before. */
  readonly backOffUntil: string | null;
  readonly today: { readonly runs: number; readonly minutes: number };
  /** Conditions that have fired and did not recover yet. */
  readonly conditions: readonly { readonly source: string; readonly condition: string; readonly since: string }[];
  /** Whether it asks for an experiment. */
  readonly experimentRequested: boolean;
}

/** What speaks for an experiment: retrainings that did not help, and what is known of the data meanwhile. */
export interface ExperimentEvidence {
  /** Triggers of the last runs, the newest first. */
  readonly triggers: readonly Pick<TriggerEntry, 'number' | 'at' | 'source' | 'reason' | 'fate' | 'because' | 'workflowId' | 'runId'>[];
  /** Metrics of those runs, the newest first. */
  readonly runs: readonly { readonly runId: string; readonly metrics: Readonly<Record<string, number>> }[];
  /** What asked for them found: monitors' evidence, as it was sent. */
  readonly findings: readonly { readonly source: string; readonly at: string; readonly evidence: unknown }[];
}

/** A search over the parameters of the run's own training, on its own data. */
export interface ReadyTune {
  /** The pipeline that runs it, as exported. */
  readonly pipeline: string;
  /** Where its code belongs, from the project's folder. */
  readonly file: string;
  readonly code: string;
  readonly command: string;
}

/** What the controller writes: entries as they are now. */
export interface LedgerWrite {
  readonly pipeline: string;
  /** The controller's first execution: numbers begin anew where one was terminated. */
  readonly controller: string;
  /** Higher in each later write of the same controller. */
  readonly revision: number;
  readonly entries: readonly { readonly entry: TriggerEntry; readonly evidence?: unknown }[];
}
