import { z } from 'zod';

/** Something waits for a person (`approval`, `labels`, `rollout`), or was noticed. */
export const ALERT_KINDS = ['approval', 'labels', 'rollout', 'drift', 'quality', 'skew', 'data', 'system', 'retraining', 'experiment'] as const;
export type AlertKind = (typeof ALERT_KINDS)[number];
/** Of these kinds an `info` waits for a person's answer: it is told at once. */
export const WAITING_KINDS: readonly AlertKind[] = ['approval', 'labels', 'rollout'];

/** From the least to the most pressing. */
export const ALERT_SEVERITIES = ['info', 'warning', 'critical'] as const;
export type AlertSeverity = (typeof ALERT_SEVERITIES)[number];

export const ALERT_STATUSES = ['open', 'acknowledged', 'resolved'] as const;
export type AlertStatus = (typeof ALERT_STATUSES)[number];

/** What an alert is of: while one of these stands, the same again is the same alert. */
export interface AlertSubject {
  readonly kind: AlertKind;
  readonly endpoint?: string;
  readonly pipeline?: string;
  /** A column, a metric, a gate: the same words as long as it is the same trouble, without figures. */
  readonly subject: string;
}

export interface AlertToRaise extends AlertSubject {
  /** Default `warning`. */
  readonly severity?: AlertSeverity;
  /** One sentence, with the figures. */
  readonly what: string;
  /** From when on it is so, UTC ISO. */
  readonly since: string;
  /** Until when it waits, UTC ISO; default for ever. */
  readonly until?: string;
  /** What it was compared with; null where nothing is compared. */
  readonly against: string | null;
  /** How sure it is: a test, its correction, so many windows in a row; null where it is a fact. */
  readonly sure: string | null;
  /** Path of the API that shows it. */
  readonly look: string;
  /** The command to look closer, or the one that answers it. */
  readonly command: string;
  /** Alerts of one group become one message. Default: the endpoint, else the pipeline, else the kind. */
  readonly group?: string;
  /** Something that happened and is over: told once, without a recovery. Default: it lasts until it is resolved. */
  readonly event?: boolean;
}

/** One alert as a message tells it. */
export interface AlertLine {
  /** For `millrace alerts show` and `ack`. */
  readonly id: number;
  readonly state: 'firing' | 'recovered';
  readonly kind: AlertKind;
  readonly severity: AlertSeverity;
  readonly endpoint: string | null;
  readonly pipeline: string | null;
  readonly subject: string;
  readonly what: string;
  /** UTC ISO. */
  readonly since: string;
  readonly until: string | null;
  /** When it recovered, UTC ISO. */
  readonly ended: string | null;
  /** Why it was closed without having recovered, as that nothing watches the endpoint any more; else null. Messages of before lack it. */
  readonly because?: string | null;
  readonly against: string | null;
  readonly sure: string | null;
  readonly look: string;
  readonly command: string;
}

/** What people are told: what, since when, where to look, what to type; and each alert of the group by itself. */
export interface AlertMessage {
  /** Of the most pressing alert; `test` for a message that only tries a channel. */
  readonly kind: AlertKind | 'test';
  /** One sentence. */
  readonly what: string;
  /** UTC ISO. */
  readonly since: string;
  /** Until when it waits, UTC ISO; null for ever. */
  readonly until: string | null;
  /** Path of the API that shows it. */
  readonly look: string;
  /** The command that answers it. */
  readonly command: string;
  /** The most pressing first, at most 20. Messages written before alerts had a state lack them. */
  readonly alerts?: readonly AlertLine[];
  /** How many of the group are left out of `alerts`. */
  readonly more?: number;
}

const name = z.string().regex(/^[a-z][a-z0-9-]{0,62}$/, 'must be lower case letters, digits and hyphens, starting with a letter');
const variable = z.string().regex(/^[A-Z][A-Z0-9_]{0,99}$/, 'must be the name of an environment variable');
const timeoutMs = z.int().min(100).max(60_000).default(10_000);
const withoutCredentials = (url: string): boolean => {
  try {
    const { username, password } = new URL(url);
    return username === '' && password === '';
  } catch {
    return true; // said by the check before
  }
};
const NO_CREDENTIALS = 'must hold no user and password: a secret is named by its variable';
const address = z.url({ protocol: /^https?$/, error: 'must be an address like https://host/path' }).refine(withoutCredentials, NO_CREDENTIALS);
const hours = z.number().min(0).max(8_760);

/** What a channel takes; left out: everything. An alert has to fit all that is given. */
const only = z
  .strictObject({
    kinds: z.array(z.enum(ALERT_KINDS)).min(1).optional(),
    endpoints: z.array(z.string().min(1).max(100)).min(1).optional(),
    pipelines: z.array(z.string().min(1).max(100)).min(1).optional(),
    /** This one, and what is more pressing. */
    severity: z.enum(ALERT_SEVERITIES).optional(),
  })
  .optional();

/**
 * Where alerts go. Secrets are named by their environment variable, which the orchestrator reads. `name` tells channels
 * apart in the records.
 */
export const AlertChannelSchema = z.discriminatedUnion('kind', [
  /** A POST of JSON; with a secret signed by HMAC-SHA256 of `timestamp.body`. */
  z.strictObject({ kind: z.literal('webhook'), name: name.default('webhook'), only, url: address, secretVariable: variable.optional(), timeoutMs }),
  /** Slack's incoming webhook, and what takes the same: the address itself is the secret. */
  z.strictObject({ kind: z.literal('slack'), name: name.default('slack'), only, urlVariable: variable, timeoutMs }),
  z.strictObject({
    kind: z.literal('email'),
    name: name.default('email'),
    only,
    /** `smtp://host:25` or `smtps://host:465`. */
    smtp: z.url({ protocol: /^smtps?$/, error: 'must be an address like smtp://host:587' }).refine(withoutCredentials, NO_CREDENTIALS),
    from: z.email(),
    to: z.array(z.email()).min(1).max(50),
    user: z.string().min(1).optional(),
    passwordVariable: variable.optional(),
    timeoutMs,
  }),
]);
export type AlertChannel = z.output<typeof AlertChannelSchema>;

export const AlertsSettingsSchema = z.strictObject({
  channels: z
    .array(AlertChannelSchema)
    .max(20)
    .refine((channels) => new Set(channels.map((channel) => channel.name)).size === channels.length, 'two channels have the same name; give each one its own')
    .default([]),
  /** How long alerts of a group are waited for, to be told in one message. What waits for a person is told at once. */
  groupWaitSeconds: z.number().min(0).max(3_600).default(10),
  /** How long an alert that goes on is not told again. */
  coolDownHours: hours.default(24),
  /** The same for single kinds. */
  coolDownHoursOf: z.partialRecord(z.enum(ALERT_KINDS), hours).default({}),
});
export type AlertsConfig = z.output<typeof AlertsSettingsSchema>;
export type AlertsSettings = z.input<typeof AlertsSettingsSchema>;
