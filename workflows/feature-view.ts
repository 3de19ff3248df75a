import { type Aggregate, type FeatureView, FeatureViewSchema, type ViewFeature, type ViewSource, valueOf } from '../contracts/feature-views.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { DatasetRef, FeatureSetRef } from '../contracts/references.ts';
import type { Expression } from '../contracts/row-transforms.ts';
import { type Duration, durationMs } from './duration.ts';
import { runStage, type StageOptions } from './run.ts';

/**
 * A feature over a trailing window: `over('7 days', 'mean', 'amount')`. Rows in (t − window, t] count, nulls are left out;
 * without any, `count` is 0 and the others are null. `over('7 days', 'count')` counts rows.
 */
export function over(window: Duration, fn: Aggregate, of?: string | Expression): ViewFeature {
  return { kind: 'aggregate', fn, of: typeof of === 'string' ? { op: 'column', name: of } : (of ?? null), windowMs: durationMs(window) };
}

export interface FeatureViewOptions {
  readonly name: string;
  /** The column, or columns, that name the entity. */
  readonly entity: string | readonly string[];
  /** When a row became known. */
  readonly eventTime: string;
  /** Name → a column, a row expression, or an aggregate made by `over`. */
  readonly features: Readonly<Record<string, string | Expression | ViewFeature>>;
  /** Columns and expressions of an older row give null. Default: no row is too old. */
  readonly ttl?: Duration;
  readonly owner?: string;
  readonly description?: string;
}

/**
 * Features of an entity over time, defined once: plain data, to be joined to labels by `trainingSet`.
 *
 * @throws INVALID_PARAMETERS with every problem of the definition.
 */
export function featureView({ entity, features, ttl, ...rest }: FeatureViewOptions): FeatureView {
  const parsed = FeatureViewSchema.safeParse({
    ...rest,
    entity: typeof entity === 'string' ? [entity] : entity,
    features: Object.fromEntries(
      Object.entries(features).map(([name, feature]) => [name, typeof feature === 'object' && 'kind' in feature ? feature : valueOf(feature)]),
    ),
    ttlMs: ttl === undefined ? null : durationMs(ttl),
  });
  if (parsed.success) return parsed.data;
  throw new MillraceError('INVALID_PARAMETERS', `The feature view ${rest.name} is not valid.`, {
    problems: parsed.error.issues.map(({ path, message }) => ({ path: path.join('.'), message })),
  });
}

/**
 * Joins features to labels as of each label's event time: no feature is of a later instant. Rows and their order are the
 * labels'; a label without a match has nulls. The labels have the views' entity columns under the same names.
 *
 * @throws COLUMN_MISSING, COLUMN_TYPE or INVALID_PARAMETERS with every problem.
 */
export function trainingSet(
  labels: DatasetRef,
  input: {
    /** Column of the labels: the instant as of which features are taken. */
    readonly eventTime: string;
    readonly views: readonly ViewSource[];
    /** Features to add, in this order. Default: all of all views. */
    readonly features?: readonly string[];
  },
  options?: StageOptions,
): Promise<DatasetRef> {
  return runStage('trainingSet', 'training-set', { labels, ...input }, options);
}

/**
 * Puts each entity's latest features into the online store, where `/predict` finds them by entity. The values before stay
 * in service until the new ones are complete, and come back when the run fails. Values of a later instant are left alone,
 * and so are those of the same snapshot and instant.
 *
 * @throws COLUMN_MISSING, COLUMN_TYPE or INVALID_PARAMETERS with every problem; SOURCE_EMPTY where no row has an entity and an event time.
 */
export function materialize(
  view: FeatureView,
  input: {
    readonly from: DatasetRef;
    /** The instant of the values, UTC. Default: the newest event time of the snapshot, but not later than now. */
    readonly asOf?: string;
  },
  options?: StageOptions,
): Promise<FeatureSetRef> {
  return runStage('materialize', `materialize-${view.name}`, { view, ...input }, { ...options, cache: false });
}
