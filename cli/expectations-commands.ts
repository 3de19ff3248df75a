import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { MillraceError } from '../contracts/errors.ts';
import { constantName, expectationsSource } from '../contracts/expectations-source.ts';
import { importGreatExpectations } from '../contracts/great-expectations.ts';
import { addCommand, addGroup, invocationOf, print, type Program } from './command.ts';
import { writeSource } from './suggest-command.ts';
import { oneLine } from './table.ts';

interface Options {
  readonly json?: boolean;
  readonly out?: string;
  readonly force?: boolean;
}

async function readSuite(path: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    throw new MillraceError('INVALID_REQUEST', `${path} cannot be read${code === undefined ? '' : ` (${code})`}.`, {
      fix: 'Give the path of a suite of Great Expectations.',
    });
  }
  try {
    return JSON.parse(text);
  } catch {
    throw new MillraceError('INVALID_REQUEST', `${path} is not JSON.`, { fix: 'Give a suite as Great Expectations writes it: a JSON file.' });
  }
}

/** `millrace expectations import`: what is taken over goes to a file or to standard output, what is not is named beside it. */
export function addExpectationsCommands(program: Program): void {
  const expectations = addGroup(program, 'expectations', 'expectations of data');
  addCommand(program, expectations, 'import <suite>', "a suite of Great Expectations (its JSON) as this library's expectations")
    .option('--out <file>', 'write the TypeScript to this file; without it, it is printed')
    .option('--force', 'write over a file that is there')
    .action(async (path: string, options: Options) => {
      const invocation = invocationOf(program, options);
      const imported = importGreatExpectations(await readSuite(path));
      const told = (one: { readonly type: string; readonly column: string | null }, why: string): string =>
        oneLine(`${one.type}${one.column === null ? '' : ` of ${one.column}`}: ${why}`, 400);
      const left = imported.notImported.map((one) => told(one, one.reason));
      const remarks = imported.remarks.map((one) => told(one, one.remark));
      const source = expectationsSource(imported.expectations, {
        name: constantName(basename(path).replace(/\.json$/i, '')),
        comment: [
          `Imported from ${basename(path)}, a suite of Great Expectations.`,
          ...(left.length === 0 ? [] : ['Not imported:', ...left.map((line) => `  ${line}`)]),
          ...(remarks.length === 0 ? [] : ['Judged differently in a corner:', ...remarks.map((line) => `  ${line}`)]),
        ],
      });
      if (options.out !== undefined) await writeSource(options.out, source, options.force === true);
      print(invocation, { ...imported, out: options.out ?? null }, () =>
        options.out === undefined ? source : `${options.out} has ${imported.expectations.expectations.length} expectations.\n`,
      );
      if (!invocation.json && options.out !== undefined && left.length > 0)
        program.terminal.writeError(`Not imported:\n${left.map((line) => `  ${line}\n`).join('')}`);
    });
}
