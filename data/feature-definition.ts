import { createHash } from 'node:crypto';
import { canonicalJson } from '../contracts/canonical-json.ts';
import type { Column } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { FeatureLookup } from '../contracts/feature-lookup.ts';
import type { FeatureView } from '../contracts/feature-views.ts';
import type { DatasetManifest } from '../contracts/references.ts';
import { type RowTransform, RowTransformSchema } from '../contracts/row-transforms.ts';
import { pruneTransforms } from './row-transforms.ts';

/** The entity's columns with the types that they have in a snapshot. */
export const entityColumns = (view: FeatureView, { columns }: Pick<DatasetManifest, 'columns'>): Column[] =>
  view.entity.map((name) => ({ name, type: columns.find((column) => column.name === name)?.type ?? 'string' }));

/** Hash of what a view computes over a snapshot: not of its name, owner or description. SHA-256 in hex. */
export function featureDefinition(view: FeatureView, snapshot: Pick<DatasetManifest, 'columns'>): string {
  const { eventTime, features, ttlMs } = view;
  return createHash('sha256')
    .update(canonicalJson({ entity: entityColumns(view, snapshot), eventTime, features, ttlMs }))
    .digest('hex');
}

/** How requests find the features of a view that were joined to these labels. */
export function featureLookup(
  view: FeatureView,
  snapshot: Pick<DatasetManifest, 'columns'>,
  features: readonly string[],
  labels: Pick<DatasetManifest, 'transforms' | 'rawColumns' | 'unserved'>,
): FeatureLookup {
  const { entity, ttlMs } = view;
  let key: FeatureLookup['key'] = null;
  if (!entity.some((name) => Object.hasOwn(labels.unserved, name))) {
    key = keyOf(
      entity,
      labels.transforms.map((transform) => RowTransformSchema.parse(transform)),
      labels.rawColumns,
    );
  }
  return {
    view: view.name,
    definition: featureDefinition(view, snapshot),
    eventTime: view.eventTime,
    entity: entityColumns(view, snapshot),
    features: Object.fromEntries(
      features.flatMap((name) => {
        const feature = view.features[name];
        if (feature === undefined) return [];
        return [
          [name, { missing: feature.kind === 'aggregate' && feature.fn === 'count' ? 0 : null, ttlMs: feature.kind === 'value' ? ttlMs : null }] as const,
        ];
      }),
    ),
    key,
  };
}

/** Null where the entity's columns do not come from what the labels were read from. */
function keyOf(entity: readonly string[], transforms: readonly RowTransform[], rawColumns: readonly Column[]): FeatureLookup['key'] {
  try {
    const pruned = pruneTransforms(transforms, entity, rawColumns);
    return { columns: pruned.rawColumns.map(({ name, type }) => ({ name, type })), transforms: [...pruned.transforms] };
  } catch (error) {
    if (error instanceof MillraceError && error.code === 'COLUMN_MISSING') return null;
    throw error;
  }
}

/** The lookups that give these columns, with no others. Those that requests cannot make are left out. */
export function neededLookups(lookups: readonly FeatureLookup[], columns: readonly string[]): FeatureLookup[] {
  return lookups
    .map((lookup) => ({ ...lookup, features: Object.fromEntries(Object.entries(lookup.features).filter(([name]) => columns.includes(name))) }))
    .filter(({ key, features }) => key !== null && Object.keys(features).length > 0);
}
