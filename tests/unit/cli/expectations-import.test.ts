import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import { runCommandLine } from '../../../cli/program.ts';
import { recordedTerminal } from './recorded-terminal.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace-import-'));
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});
const suite = fileURLToPath(new URL('../../fixtures/great-expectations/penguins.suite.json', import.meta.url));

test('a suite of Great Expectations becomes a file, what is left out is named, and a file that is there stays', async () => {
  const out = join(folder, 'expectations.ts');
  const terminal = recordedTerminal();
  expect(await runCommandLine(['expectations', 'import', suite, '--out', out], terminal)).toBe(0);
  expect(terminal.err()).toContain('expect_column_values_to_be_dateutil_parseable of Species: dateutil guesses');
  const text = readFileSync(out, 'utf8');
  expect(text).toContain('export const penguinsSuiteExpectations = expectations({');
  expect(text).toContain('//   expect_column_values_to_be_between of Body Mass (g): It is about a part of the rows');
  const again = recordedTerminal();
  expect(await runCommandLine(['expectations', 'import', suite, '--out', out], again)).not.toBe(0);
  expect(again.err()).toContain('is there already');
  expect(readFileSync(out, 'utf8')).toBe(text);
});

test('a file that is not there, or not a suite, is refused', async () => {
  for (const [path, said] of [
    [join(folder, 'none.json'), 'cannot be read'],
    [fileURLToPath(import.meta.url), 'is not JSON'],
  ] as const) {
    const terminal = recordedTerminal();
    expect(await runCommandLine(['expectations', 'import', path], terminal)).toBe(2);
    expect(terminal.err()).toContain(said);
  }
});
