import type { Column } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';
import { type PersonalDataRule, personalDataTransforms } from '../contracts/personal-data.ts';
import type { DatasetManifest } from '../contracts/references.ts';
import type { RowTransform } from '../contracts/row-transforms.ts';

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
        fix: `Use one of: ${columns.map((column) => column.name).join(', ')}.`,
      })),
    });
  if (watermark !== undefined && Object.hasOwn(pii, watermark))
    throw new MillraceError('INVALID_PARAMETERS', `The watermark ${watermark} is declared personal, but its greatest value would be stored.`, {
      fix: 'Take another column as watermark.',
    });
  return { transforms: personalDataTransforms(pii), sensitive: sensitiveAfter(pii, later) };
}

/** Follows columns through renames, copies and drops: a column that shows a hash or a mask is named as such. */
function sensitiveAfter(pii: Readonly<Record<string, PersonalDataRule>>, later: readonly RowTransform[]): DatasetManifest['sensitive'] {
  const sensitive = new Map<string, 'hash' | 'mask'>();
  for (const [name, rule] of Object.entries(pii)) if (rule !== 'drop') sensitive.set(name, rule);
  for (const transform of later) {
    if (transform.kind === 'drop') for (const name of transform.columns) sensitive.delete(name);
    if (transform.kind === 'rename') move(sensitive, transform.from, transform.to);
    if (transform.kind === 'set') {
      const copied = transform.to.op === 'column' ? sensitive.get(transform.to.name) : undefined;
      const hash = transform.to.op === 'hash' ? 'hash' : copied;
      if (hash === undefined) sensitive.delete(transform.column);
      else sensitive.set(transform.column, hash);
    }
  }
  return Object.fromEntries(sensitive);
}

function move(sensitive: Map<string, 'hash' | 'mask'>, from: string, to: string): void {
  const rule = sensitive.get(from);
  sensitive.delete(from);
  if (rule === undefined) sensitive.delete(to);
  else sensitive.set(to, rule);
}
