import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { ERRORS } from '../../contracts/errors.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const CODES = Object.keys(ERRORS);
const { errorsPage } = (await import(new URL('../../scripts/errors-doc.mjs', import.meta.url).href)) as { readonly errorsPage: () => Promise<string> };

const { SOURCE_FOLDERS } = (await import(new URL('../../scripts/source-folders.mjs', import.meta.url).href)) as { readonly SOURCE_FOLDERS: readonly string[] };

/** The text of every source file but the table itself, by path. */
const SOURCES = new Map(
  SOURCE_FOLDERS.filter((folder) => folder !== 'bench')
    .flatMap((folder) => readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' }).map((file) => `${folder}/${file}`))
    .filter((path) => path.endsWith('.ts') && path !== 'contracts/errors.ts')
    .map((path) => [path, readFileSync(join(ROOT, path), 'utf8')] as const),
);

const codesUnused = (codes: readonly string[], sources: ReadonlyMap<string, string>): string[] =>
  codes.filter((code) => ![...sources.values()].some((text) => new RegExp(`['"\`]${code}['"\`]`).test(text)));
const codesThrown = (text: string): string[] => [...text.matchAll(/\bnew MillraceError\(\s*'([A-Z0-9_]+)'/g)].map((match) => match[1] ?? '');
const codesOnPage = (page: string): string[] => [...page.matchAll(/^\| `([A-Z0-9_]+)` \|/gm)].map((match) => match[1] ?? '');

describe('the error table', () => {
  const page = readFileSync(join(ROOT, 'docs/errors.md'), 'utf8');

  test('and docs/errors.md list the same codes', () => {
    expect(codesOnPage(page).sort()).toEqual([...CODES].sort());
  });

  test('is what docs/errors.md was written from (else: node scripts/errors-doc.mjs)', async () => {
    expect(page).toBe(await errorsPage());
  });

  test('has no code that the source never uses', () => {
    expect(codesUnused(CODES, SOURCES)).toEqual([]);
  });

  test('has every code that the source throws', () => {
    const unknown = [...SOURCES].flatMap(([path, text]) =>
      codesThrown(text)
        .filter((code) => !CODES.includes(code))
        .map((code) => `${path}: ${code}`),
    );
    expect(unknown).toEqual([]);
  });

  test('says of each code what it means and how to fix it, in sentences', () => {
    for (const [code, { summary, fix }] of Object.entries(ERRORS)) {
      expect(summary, code).toMatch(/^[A-Z].*\.$/);
      expect(fix, code).toMatch(/^[A-Z`].*\.$/);
    }
  });

  test('gives a bad input the exit code 2 or a failed work 1, and what is retried a server status', () => {
    for (const [code, { http, exit, retryable }] of Object.entries(ERRORS)) {
      expect(http, code).toBeGreaterThanOrEqual(400);
      if (http === 400) expect(exit, code).toBe(2);
      if (retryable) expect(http === 429 || http >= 500, code).toBe(true);
    }
  });

  test('would not pass with a planted code that nobody uses, or a thrown one that is not listed', () => {
    expect(codesUnused(['PLANTED_CODE'], SOURCES)).toEqual(['PLANTED_CODE']);
    expect(codesUnused(['PLANTED_CODE'], new Map([['a.ts', "throw new MillraceError('PLANTED_CODE')"]]))).toEqual([]);
    expect(codesThrown("throw new MillraceError(\n  'PLANTED_CODE', 'x')")).toEqual(['PLANTED_CODE']);
    expect(codesOnPage(page.replace('| `INTERNAL` |', '| `INTERNALS` |'))).not.toEqual(CODES);
  });
});
