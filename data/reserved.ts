import { MillraceError } from '../contracts/errors.ts';
import type { DatasetManifest, Reserved } from '../contracts/references.ts';

const WHAT: Readonly<Record<Reserved, string>> = { golden: 'a golden set', validation: 'for validation', test: 'for tests' };

/**
 * Refuses datasets that are kept from sight: what is judged on them stays a judgement only while nobody looks at them.
 * `fix`: what to do instead. @throws MillraceError INVALID_REQUEST
 */
export function refuseReserved({ name, reserved }: Pick<DatasetManifest, 'name' | 'reserved'>, fix: string): void {
  if (reserved !== null) throw new MillraceError('INVALID_REQUEST', `${name} is ${WHAT[reserved]}: it is kept from sight.`, { fix });
}
