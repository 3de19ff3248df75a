import { z } from 'zod';

/** What people are told: what, since when, where to look, what to type. */
export interface AlertMessage {
  readonly kind: 'approval' | 'labels' | 'rollout';
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
}

const name = z.string().regex(/^[a-z][a-z0-9-]{0,62}$/, 'must be lower case letters, digits and hyphens, starting with a letter');
const variable = z.string().regex(/^[A-Z][A-Z0-9_]{0,99}$/, 'must be the name of an environment variable');
const timeoutMs = z.int().min(100).max(60_000).default(10_000);
const address = z.url({ protocol: /^https?$/, error: 'must be an address like https://host/path' });

/**
 * Where alerts go. Secrets are named by their environment variable, which the orchestrator reads. `name` tells channels
 * apart in the records.
 */
export const AlertChannelSchema = z.discriminatedUnion('kind', [
  /** A POST of JSON; with a secret signed by HMAC-SHA256 of `timestamp.body`. */
  z.strictObject({ kind: z.literal('webhook'), name: name.default('webhook'), url: address, secretVariable: variable.optional(), timeoutMs }),
  /** Slack's incoming webhook, and what takes the same: the address itself is the secret. */
  z.strictObject({ kind: z.literal('slack'), name: name.default('slack'), urlVariable: variable, timeoutMs }),
  z.strictObject({
    kind: z.literal('email'),
    name: name.default('email'),
    /** `smtp://host:25` or `smtps://host:465`. */
    smtp: z.url({ protocol: /^smtps?$/, error: 'must be an address like smtp://host:587' }),
    from: z.email(),
    to: z.array(z.email()).min(1).max(50),
    user: z.string().min(1).optional(),
    passwordVariable: variable.optional(),
    timeoutMs,
  }),
]);
export type AlertChannel = z.output<typeof AlertChannelSchema>;
export type AlertChannelSettings = z.input<typeof AlertChannelSchema>;

export const AlertsSettingsSchema = z.strictObject({
  channels: z
    .array(AlertChannelSchema)
    .max(20)
    .refine((channels) => new Set(channels.map((channel) => channel.name)).size === channels.length, 'two channels have the same name; give each one its own'),
});
