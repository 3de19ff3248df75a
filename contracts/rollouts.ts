import { z } from 'zod';
import { GuardsSchema } from './guards.ts';
import { StickyKeySchema } from './routes.ts';

/** Where a canary waits for a person: an entry between its shares. */
export const HOLD = 'hold';

const durationMs = z.number().int().min(0);
const watched = {
  /** What takes the version back while both are in service. */
  guards: GuardsSchema.prefault({}),
  /** For so long after the end late labels and outcomes can still take it back. A new rollout ends it. */
  soakMs: durationMs.default(0),
};

const ReplaceSchema = z.object({ kind: z.literal('replace'), ...watched });

const BlueGreenSchema = z.object({
  kind: z.literal('blueGreen'),
  /** For so long the version before stays loaded, without traffic, after the switch. */
  keepMs: durationMs,
  /** Whether a person lets the switch happen, once the new version is loaded everywhere. */
  hold: z.boolean().default(false),
  ...watched,
});

const CanarySchema = z.object({
  kind: z.literal('canary'),
  /** Shares of traffic in percent, rising; 100 at the end is implied. `hold` waits for a person at the share before it; as the first entry, loaded without traffic. */
  percent: z
    .array(z.union([z.number().gt(0).max(100), z.literal(HOLD)]))
    .min(1)
    .max(40)
    .refine((steps) => {
      const shares = steps.filter((step) => step !== HOLD);
      return shares.every((share, i) => i === 0 || share > (shares[i - 1] ?? 0));
    }, 'the shares must rise')
    .refine((steps) => steps.every((step, i) => step !== 100 || i === steps.length - 1), '100 can only be the last step'),
  /** How long each share is watched. */
  bakeMs: durationMs,
  /** Who stays with the new version. Left out: by request id. */
  stickyBy: StickyKeySchema.optional(),
  ...watched,
});

export const TestDecisionSchema = z.union([
  /** Waits for `promote` or `abort`. */
  z.literal('person'),
  z.strictObject({
    /** Of labels: `correct`, `absoluteError`, `squaredError`, `logLoss`; of outcomes: the name that they are sent under. */
    metric: z.string().min(1).max(200),
    /** Which side is good. Default: `lower` for errors and `logLoss`, else `higher`. */
    better: z.enum(['higher', 'lower']).optional(),
    /** Chance, 0–1, of taking a version for better that is not. */
    alpha: z.number().gt(0).lt(0.5).default(0.05),
    /** Who serves when neither is shown to be better. */
    otherwise: z.enum(['champion', 'challenger', 'person']).default('champion'),
  }),
]);
export type TestDecision = z.infer<typeof TestDecisionSchema>;

const ABTestSchema = z.object({
  kind: z.literal('abTest'),
  /** Share of the keys that get the new version. */
  percent: z.number().gt(0).lt(100),
  stickyBy: StickyKeySchema,
  forMs: durationMs.min(1),
  decideBy: TestDecisionSchema,
  ...watched,
});

/** What may follow a shadow. */
const OnwardSchema = z.discriminatedUnion('kind', [ReplaceSchema, BlueGreenSchema, CanarySchema, ABTestSchema]);

const ShadowSchema = z.object({
  kind: z.literal('shadow'),
  /** Share of requests that are mirrored. */
  percent: z.number().gt(0).max(100).default(100),
  forMs: durationMs,
  /** Whether a person lets it go on when its time is over. */
  hold: z.boolean().default(false),
  /** What comes after; `nothing` ends the rollout with the champion as it was. */
  next: z.union([z.literal('nothing'), OnwardSchema]),
  guards: GuardsSchema.prefault({}),
});

/** How a version comes into service. */
export const RolloutStrategySchema = z.discriminatedUnion('kind', [ReplaceSchema, BlueGreenSchema, CanarySchema, ABTestSchema, ShadowSchema]);
export type RolloutStrategy = z.infer<typeof RolloutStrategySchema>;
/** As pipelines write it: what has a default may be left out. */
export type RolloutStrategyInput = z.input<typeof RolloutStrategySchema>;
export type OnwardStrategyInput = z.input<typeof OnwardSchema>;
