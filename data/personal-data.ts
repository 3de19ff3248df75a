import type { Column } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';
import { columnsOfFeature, type Features } from '../contracts/features.ts';
import { maskedValueOf, type PersonalDataRule, personalDataTransforms } from '../contracts/personal-data.ts';
import type { DatasetManifest } from '../contracts/references.ts';
import type { Expression, RowTransform } from '../contracts/row-transforms.ts';
import { columnsToUse } from './source-relation.ts';

export interface PersonalDataPlan {
  /** In front of the author's own. */
  readonly transforms: readonly RowTransform[];
  /** For the manifest: what hashed and masked columns are called once all transforms have run. */
  readonly sensitive: DatasetManifest['sensitive'];
}

/**
 * What is done to the personal columns of a source.
 * @throws MillraceError COLUMN_MISSING naming each declared column that the source lacks; INVALID_PARAMETERS where the watermark, which the manifest states, is one of them
 */
export function planPersonalData(
  pii: Readonly<Record<string, PersonalDataRule>>,
  columns: readonly Column[],
  later: readonly RowTransform[],
  watermark?: string,
): PersonalDataPlan {
  const missing = Object.keys(pii).filter((name) => !columns.some((column) => column.name === name));
  if (missing.length > 0)
    throw new MillraceError('COLUMN_MISSING', `Columns that are declared personal are not in the source: ${missing.join(', ')}.`, {
      problems: missing.map((name) => ({
        path: `pii.${name}`,
        message: 'The source has no such column',
        found: name,
        fix: columnsToUse(
          columns.map((column) => column.name),
          Object.keys(pii),
        ),
      })),
    });
  if (watermark !== undefined && Object.hasOwn(pii, watermark))
    throw new MillraceError('INVALID_PARAMETERS', `The watermark ${watermark} is declared personal, but its greatest value would be stored.`, {
      fix: 'Take another column as watermark.',
    });
  const transforms = personalDataTransforms(pii);
  return { transforms, sensitive: sensitiveAfter({}, [...transforms, ...later]) };
}

/** @throws MillraceError FEATURES_INVALID naming each feature whose column comes from a personal one and that does not say `personal: true` */
export function refusePersonalFeatures(features: Features, { name, sensitive }: Pick<DatasetManifest, 'name' | 'sensitive'>): void {
  const refused = Object.entries(features).flatMap(([feature, definition]) =>
    columnsOfFeature(feature, definition).flatMap((column) => {
      const rule = Object.hasOwn(sensitive, column) ? sensitive[column] : undefined;
      return rule === undefined || definition.personal === true ? [] : [{ feature, column, kind: definition.kind, rule }];
    }),
  );
  if (refused.length === 0) return;
  throw new MillraceError(
    'FEATURES_INVALID',
    `Columns of ${name} that come from personal data are no features: ${refused.map(({ column }) => column).join(', ')}.`,
    {
      problems: refused.map(({ feature, column, kind, rule }) => ({
        path: `features.${feature}`,
        column,
        message: rule === 'hash' ? 'It holds a hash of personal values, which stands for a person.' : 'It is masked: all its values are alike.',
        fix: `Leave ${column} out of the features, or say that the model may learn from it: ${kind}({ personal: true }).`,
      })),
    },
  );
}

/**
 * Which columns come from personal ones after row transforms: column → `hash` where a hash can be seen in it, else `mask`.
 * What is copied, renamed or computed from such a column is one too; what is made anew from other columns no longer is.
 */
export function sensitiveAfter(sensitive: DatasetManifest['sensitive'], transforms: readonly RowTransform[]): Record<string, 'hash' | 'mask'> {
  const now = new Map(Object.entries(sensitive));
  const set = (column: string, rule: 'hash' | 'mask' | undefined): void => {
    if (rule === undefined) now.delete(column);
    else now.set(column, rule);
  };
  for (const transform of transforms) {
    if (transform.kind === 'drop') for (const name of transform.columns) now.delete(name);
    if (transform.kind === 'rename') {
      const rule = now.get(transform.from);
      now.delete(transform.from);
      set(transform.to, rule);
    }
    if (transform.kind === 'set') set(transform.column, ruleOf(transform.to, now));
  }
  return Object.fromEntries(now);
}

function ruleOf(expression: Expression, sensitive: ReadonlyMap<string, 'hash' | 'mask'>): 'hash' | 'mask' | undefined {
  if (expression.op === 'literal') return undefined;
  if (expression.op === 'column') return sensitive.get(expression.name);
  if (expression.op === 'hash') return 'hash';
  if (maskedValueOf(expression) !== undefined) return 'mask';
  const rules = expression.args.map((arg) => ruleOf(arg, sensitive));
  return rules.includes('hash') ? 'hash' : rules.find((rule) => rule !== undefined);
}
