import { z } from 'zod';
import { ColumnTypeSchema } from './columns.ts';
import { NameSchema, Sha256Schema } from './ids.ts';
import { RowTransformSchema } from './row-transforms.ts';

/**
 * Which columns of a training set came from a feature view, and how a request's row finds the same values in the online
 * store. It goes from the training set's manifest to all that is made from it, and into the predictor.
 */
const ColumnsSchema = z.array(z.object({ name: z.string(), type: ColumnTypeSchema }));

export const FeatureLookupSchema = z.object({
  view: NameSchema,
  /** Hash of what the view computes; the online store keeps each definition's values apart. */
  definition: Sha256Schema,
  /** The view's column that says when a row became known. */
  eventTime: z.string(),
  /** Columns that name the entity, in the order of its key. */
  entity: ColumnsSchema,
  /** By column of the training set: what an entity without rows has, and after how long a row's value is none any more. */
  features: z.record(z.string(), z.object({ missing: z.union([z.literal(0), z.null()]), ttlMs: z.number().int().positive().nullable() })),
  /** How a request's raw columns become the entity's. Null: they cannot, so requests have to bring the features themselves. */
  key: z.object({ columns: ColumnsSchema, transforms: z.array(RowTransformSchema) }).nullable(),
});
export type FeatureLookup = z.infer<typeof FeatureLookupSchema>;

/** An entity's values in the online store. */
export interface OnlineRow {
  /** Instant of the entity's last row, milliseconds since 1970 UTC, rounded down. */
  readonly atMs: number;
  /** By feature; instants as ISO text. */
  readonly values: Readonly<Record<string, string | number | boolean | null>>;
}
