import { z } from 'zod';
import { NameSchema } from './ids.ts';
import { DatasetRefSchema } from './references.ts';
import { type Expression, ExpressionSchema } from './row-transforms.ts';

/**
 * Feature views: features of an entity over time, defined once as plain data over a snapshot.
 *
 * Semantics, for an entity at an instant t:
 * 1. A column or an expression is that of the entity's last row at or before t. Of rows of the same instant, the last in
 *    the snapshot's order counts. A null in that row is the value: an older one is not looked for.
 * 2. With `ttlMs`, a row older than that (t − at > ttlMs) gives null.
 * 3. An aggregate is over the entity's rows in (t − windowMs, t], nulls left out. No row: `count` is 0, others are null.
 * 4. Rows without an entity or an event time belong to nobody. Asked without one, every feature is null.
 */
export const AGGREGATES = ['count', 'sum', 'mean', 'min', 'max', 'last'] as const;
export type Aggregate = (typeof AGGREGATES)[number];

export const ViewFeatureSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('value'), of: ExpressionSchema }),
  z.object({
    kind: z.literal('aggregate'),
    fn: z.enum(AGGREGATES),
    /** What is aggregated; null only for `count`, which then counts rows. */
    of: ExpressionSchema.nullable(),
    windowMs: z.number().int().min(1).max(Number.MAX_SAFE_INTEGER),
  }),
]);
export type ViewFeature = z.infer<typeof ViewFeatureSchema>;

export const FeatureViewSchema = z.object({
  name: NameSchema,
  /** Columns that together name the entity. */
  entity: z.array(z.string().min(1)).min(1).max(10),
  eventTime: z.string().min(1),
  features: z.record(z.string().min(1).max(200), ViewFeatureSchema),
  ttlMs: z.number().int().min(1).max(Number.MAX_SAFE_INTEGER).nullable().default(null),
  owner: z.string().min(1).max(200).optional(),
  description: z.string().max(5000).optional(),
});
export type FeatureView = z.infer<typeof FeatureViewSchema>;

/** A view and the snapshot that its features are taken from. */
export const ViewSourceSchema = z.object({ view: FeatureViewSchema, from: DatasetRefSchema });
export type ViewSource = z.infer<typeof ViewSourceSchema>;

export const TrainingSetInputSchema = z.object({
  labels: DatasetRefSchema,
  /** Column of the labels: the instant as of which features are taken. */
  eventTime: z.string().min(1),
  views: z.array(ViewSourceSchema).min(1).max(50),
  /** Features to add, in this order. Default: all of all views. */
  features: z.array(z.string().min(1)).min(1).optional(),
});
export type TrainingSetInput = z.infer<typeof TrainingSetInputSchema>;

export const MaterializeInputSchema = z.object({
  view: FeatureViewSchema,
  from: DatasetRefSchema,
  /** The instant of the values. Default: the newest event time of the snapshot, but not later than now. */
  asOf: z.iso.datetime({ offset: true }).optional(),
});
export type MaterializeInput = z.infer<typeof MaterializeInputSchema>;

export const valueOf = (of: string | Expression): ViewFeature => ({ kind: 'value', of: typeof of === 'string' ? { op: 'column', name: of } : of });
