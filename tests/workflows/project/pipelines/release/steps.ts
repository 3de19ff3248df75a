import { appendFileSync } from 'node:fs';
import { valueStep } from 'millrace/steps';

/** Writes a line to a file outside of Millrace: what a user's undo has to take back. */
export const note = valueStep((path: string, line: string) => {
  appendFileSync(path, `${line}\n`);
});

export const breakDown = valueStep((message: string): null => {
  throw new Error(message);
});
