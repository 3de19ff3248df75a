import { existsSync, writeFileSync } from 'node:fs';
import { relationStep } from 'millrace/steps';

/** The first time it writes into the file without end and tells nobody of any progress; the second time it is done at once. */
export const hangOnce = relationStep<{ file: string }>(({ name }, { file }) => {
  if (existsSync(file)) return `SELECT * FROM ${name}`;
  for (let turn = 0; ; turn++) if (turn % 100_000 === 0) writeFileSync(file, String(turn));
});
