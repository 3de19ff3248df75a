import { MillraceError, type Problem } from '../contracts/errors.ts';
import type { DatasetManifest } from '../contracts/references.ts';

/** Rows for the last judgement: the test part of a split or a golden set, and all that was made from them. */
export function testRowProblems({ reserved }: Pick<DatasetManifest, 'reserved'>, path: string, fix: string): readonly Problem[] {
  return reserved === 'test' || reserved === 'golden' ? [{ path, message: `these rows are kept for the last test (${reserved})`, fix }] : [];
}

/** What learns from rows, or chooses by them, does not see those of the test. @throws INVALID_PARAMETERS */
export function refuseTestRows(given: readonly { readonly manifest: Pick<DatasetManifest, 'reserved'>; readonly path: string; readonly fix: string }[]): void {
  const problems = given.flatMap(({ manifest, path, fix }) => testRowProblems(manifest, path, fix));
  if (problems.length > 0) throw new MillraceError('INVALID_PARAMETERS', 'Only the last evaluation sees the rows of the test.', { problems });
}
