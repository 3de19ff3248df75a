import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageRoot } from '../../../config/package-root.ts';
import { type PersonalFinding, type PersonalKind, personalFindingText } from '../../../contracts/personal-data.ts';
import type { Source } from '../../../contracts/source.ts';
import { between, expectations, matches } from '../../../contracts/expectations.ts';
import { datasetFiles } from '../../../data/dataset.ts';
import { detectPersonalData } from '../../../data/detect-personal-data.ts';
import { withDuckDb } from '../../../data/duckdb.ts';
import { ingestSource } from '../../../data/ingest.ts';
import { containsEmail, passesLuhn, PERSONAL_PATTERNS, wordsOf } from '../../../data/personal-kinds.ts';
import { validateDataset } from '../../../data/validate.ts';
import { createFileArtifacts, type FileArtifacts } from '../../support/file-artifacts.ts';

let artifacts: FileArtifacts;
let folder: string;
beforeAll(async () => {
  artifacts = await createFileArtifacts();
  folder = await mkdtemp(join(tmpdir(), 'millrace-detect-'));
});
afterAll(async () => {
  await artifacts.remove();
  await rm(folder, { recursive: true, force: true });
});

const is = (kind: PersonalKind, value: string): boolean => PERSONAL_PATTERNS.find((pattern) => pattern.kind === kind)?.is(value) ?? false;

async function ingested(rows: readonly Readonly<Record<string, unknown>>[], pii = {}) {
  await writeFile(join(folder, 'rows.jsonl'), rows.map((row) => JSON.stringify(row)).join('\n'));
  return ingestSource({ source: { format: 'jsonl', path: 'rows.jsonl' }, name: 'rows', artifacts, projectFolder: folder, pii, hashKey: 'a key' });
}

async function found(rows: readonly Readonly<Record<string, unknown>>[]): Promise<readonly PersonalFinding[]> {
  const { manifest } = await ingested(rows);
  return detectPersonalData(await datasetFiles(artifacts, manifest), manifest.columns);
}

const digits = (length: number): fc.Arbitrary<string> =>
  fc.string({ unit: fc.constantFrom(...Array.from('0123456789')), minLength: length, maxLength: length });
/** Each of the values that one other character at the place makes. */
const others = (value: string, place: number, alphabet: string): string[] =>
  [...alphabet].filter((one) => one !== value[place]).map((one) => value.slice(0, place) + one + value.slice(place + 1));

const card = digits(14).map((rest) => {
  const body = `4${rest}`;
  return body + (Array.from('0123456789').find((check) => passesLuhn(body + check)) ?? '');
});
const DNI = 'TRWAGMYFPDXBNJZSQVHLCKE';
const dni = digits(8).map((number) => number + (DNI[Number(number) % 23] ?? ''));
const nie = fc
  .tuple(fc.constantFrom('X', 'Y', 'Z'), digits(7))
  .map(([first, number]) => first + number + (DNI[Number(String('XYZ'.indexOf(first)) + number) % 23] ?? ''));
const nir = fc
  .tuple(fc.constantFrom('1', '2'), fc.integer({ min: 10, max: 99 }), fc.integer({ min: 1, max: 12 }), digits(8))
  .map(([sex, year, month, rest]) => {
    const body = `${sex}${String(year)}${String(month).padStart(2, '0')}${rest}`;
    return body + String(97n - (BigInt(body) % 97n)).padStart(2, '0');
  });
const iban = fc.tuple(fc.constantFrom('DE', 'GB', 'FR', 'ES', 'IT'), digits(18)).map(([country, account]) => {
  const asNumber = [...`${account}${country}00`].map((one) => String(Number.parseInt(one, 36))).join('');
  return `${country}${String(98n - (BigInt(asNumber) % 97n)).padStart(2, '0')}${account}`;
});

describe('values', () => {
  it.each([
    // test numbers that issuers and authorities publish, and examples of the standards
    ['card', '4111 1111 1111 1111'],
    ['card', '5555-5555-5555-4444'],
    ['card', '378282246310005'],
    ['card', '6011111111111117'],
    ['card', '3530111333300000'],
    ['iban', 'GB82 WEST 1234 5698 7654 32'],
    ['iban', 'DE89370400440532013000'],
    ['iban', 'FR1420041010050500013M02606'],
    ['dni', '12345678Z'],
    ['dni', 'X1234567L'],
    ['codiceFiscale', 'RSSMRA85T10A562S'],
    ['codiceFiscale', 'MRTMTT91D08F205J'],
    ['nir', '2 55 08 14 168 025 38'],
    ['nino', 'QQ 12 34 56 C'.replace('QQ', 'AB')],
    ['ssn', '219-09-9999'],
    ['phone', '+44 20 7946 0958'],
    ['phone', '(415) 555-2671'],
    ['phone', '+14155552671'],
    ['email', 'first.last+tag@mail.example.co.uk'],
  ] as const)('of the kind %s are known: %s', (kind, value) => {
    expect(is(kind, value)).toBe(true);
  });

  it.each([
    ['card', '4111 1111 1111 1112'],
    ['card', '1234567812345670'], // passes the check, but no issuer has it
    ['iban', 'GB82 WEST 1234 5698 7654 33'],
    ['dni', '12345678A'],
    ['codiceFiscale', 'RSSMRA85T10A562T'],
    ['nir', '2 55 08 14 168 025 39'],
    ['nino', 'GB 12 34 56 C'],
    ['ssn', '666-12-3456'],
    ['ssn', '900-12-3456'],
    ['phone', '2001-01-02'],
    ['phone', '192.168.100.101'],
    ['phone', '2024-01-02 10:00'],
    ['phone', '7:10 a.m.'],
    ['email', 'user@localhost'],
    ['email', '@handle'],
  ] as const)('are not of the kind %s: %s', (kind, value) => {
    expect(is(kind, value)).toBe(false);
  });

  it('with a right check digit are found, whatever the number; with any other check digit they are not', () => {
    const held = (kind: PersonalKind, values: fc.Arbitrary<string>, place: (value: string) => number, alphabet: string): void => {
      fc.assert(
        fc.property(values, (value) => {
          expect(is(kind, value)).toBe(true);
          for (const wrong of others(value, place(value), alphabet)) expect(is(kind, wrong)).toBe(false);
        }),
      );
    };
    const last = (value: string): number => value.length - 1;
    held('card', card, last, '0123456789');
    held('card', card, () => 7, '0123456789');
    held('dni', dni, last, 'ABCDEFGHJKLMNPQRSTVWXYZ');
    held('dni', nie, last, 'ABCDEFGHJKLMNPQRSTVWXYZ');
    held('nir', nir, last, '0123456789');
    held('nir', nir, () => 9, '0123456789');
    held('iban', iban, () => 3, '0123456789');
    held('iban', iban, () => 12, '0123456789');
    const codice = fc.constantFrom('RSSMRA85T10A562S', 'MRTMTT91D08F205J');
    held('codiceFiscale', codice, last, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ');
  });

  it('in texts are found wherever the address stands, and not where there is but an at sign', () => {
    const word = fc.string({ unit: fc.constantFrom(...Array.from('abc xyz.,;@\n')), maxLength: 60 });
    fc.assert(
      fc.property(word, word, (before, after) => {
        expect(containsEmail(`${before} <jane.doe@example.org> ${after}`)).toBe(true);
      }),
    );
    expect(containsEmail('write to a@example.org, please')).toBe(true);
    for (const none of ['at 10 @ noon', 'user@host', 'x@@y.org', '@example.org', 'a@example.o']) expect(containsEmail(none)).toBe(false);
    // a text made to be slow
    expect(containsEmail(`${'a@'.repeat(2_000)}${'a.'.repeat(20_000)}`)).toBe(false);
  });

  it("words of a column's name are told apart", () => {
    expect([...wordsOf('customerEmail_2')]).toEqual(expect.arrayContaining(['customer', 'email']));
    expect(wordsOf('Social-Security No').has('socialsecurity')).toBe(true);
    expect(wordsOf('hotel').has('tel')).toBe(false);
  });
});

describe('columns', () => {
  it('of every kind are found, in texts and in numbers, and missing values do not count', async () => {
    const [cards, nirs, ibans, dnis] = [card, nir, iban, dni].map((kind) => fc.sample(kind, { numRuns: 40, seed: 7 }));
    const rows = Array.from({ length: 40 }, (_, i) => ({
      contact: i % 3 === 0 ? null : `person${String(i)}@example.org`,
      paid: Number(cards?.[i]),
      shown: cards?.[i]?.replace(/(\d{4})(?=\d)/g, '$1 '),
      secu: nirs?.[i],
      bank: ibans?.[i],
      person: dnis?.[i],
      mobile: 7_700_900_100 + i,
      office: `+44 20 7946 0${String(100 + i)}`,
      tax: `${String(219 + i)}-09-${String(1000 + i)}`,
      uk: `AB${String(100_000 + i)}C`,
      note: i === 5 ? 'call her or write to jane@example.org' : `note ${String(i)}`,
      amount: i * 1.5,
      id: i,
    }));
    const kinds = new Map((await found(rows)).map(({ column, kind, contains }) => [column, contains ? `contains ${kind}` : kind]));
    expect(Object.fromEntries(kinds)).toEqual({
      contact: 'email',
      paid: 'card',
      shown: 'card',
      secu: 'nir',
      bank: 'iban',
      person: 'dni',
      mobile: 'phone',
      office: 'phone',
      tax: 'ssn',
      uk: 'nino',
      note: 'contains email',
    });
  });

  it('of numbers that nothing but their length makes likely are let be', async () => {
    const numbers = fc.sample(fc.bigInt({ min: 4_000_000_000_000_000n, max: 4_999_999_999_999_999n }), { numRuns: 300, seed: 3 });
    const rows = numbers.map((number, i) => ({
      id: String(number),
      epoch: 1_700_000_000 + i * 977,
      telephone_calls: i,
      serial: `${String(i).padStart(4, '0')}-${String(i * 7).padStart(5, '0')}`,
      ip: `10.0.${String(i % 200)}.${String((i * 7) % 200)}`,
      day: `2024-01-${String(1 + (i % 28)).padStart(2, '0')}T10:00:00+0100 x`,
      code: `AB-${String(i)}`,
      handle: `@user${String(i)}`,
    }));
    expect(await found(rows)).toEqual([]);
  });

  it('are read no further than a bounded number of rows, and give the same findings each time', async () => {
    const path = join(folder, 'long.parquet');
    await withDuckDb({}, (db) =>
      db.run(
        `COPY (SELECT CASE WHEN i < 100000 THEN 'plain ' || i ELSE 'a' || i || '@example.org' END AS v, 'b' || i || '@example.org' AS w FROM range(200000) t(i)) TO '${path}'`,
      ),
    );
    const columns = [
      { name: 'v', type: 'string' },
      { name: 'w', type: 'string' },
    ] as const;
    const files = [{ path, rows: 200_000 }];
    const first = await detectPersonalData(files, columns);
    expect(first).toEqual([{ column: 'w', kind: 'email', share: 1, contains: false }]);
    expect(await detectPersonalData(files, columns, { threads: 1 })).toEqual(first);
  });

  it('that are declared are not looked at', async () => {
    const { manifest } = await ingested([{ a: 'x@example.org', b: 'y@example.org' }], { a: 'mask' });
    const files = await datasetFiles(artifacts, manifest);
    expect(await detectPersonalData(files, manifest.columns, { declared: new Set(Object.keys(manifest.sensitive)) })).toEqual([
      { column: 'b', kind: 'email', share: 1, contains: false },
    ]);
  });
});

describe('a validation', () => {
  it('tells the columns, and no value of them stands in its results or in its errors', async () => {
    const { manifest, ref } = await ingested([
      { contact: 'zebrafinch@example.org', amount: 10 },
      { contact: 'quokka@example.org', amount: 2_000 },
    ]);
    const { validation } = await validateDataset({
      manifest,
      id: ref.id,
      artifacts,
      expectations: expectations({ contact: [matches('^\\d+$', { severity: 'warn' })], amount: [between(null, 100, { severity: 'warn' })] }),
    });
    expect(validation.personal).toEqual([{ column: 'contact', kind: 'email', share: 1, contains: false }]);
    expect(validation.personal?.map(personalFindingText)).toEqual(['contact looks like e-mail addresses']);
    expect(validation.results.map(({ failing }) => failing)).toEqual([2, 1]);
    expect(JSON.stringify(validation)).not.toMatch(/zebrafinch|quokka/);
    expect(JSON.stringify(validation)).toContain('2000');
  });

  it('of data without personal columns says nothing of them', async () => {
    const { manifest, ref } = await ingested([{ amount: 10 }]);
    const { validation } = await validateDataset({ manifest, id: ref.id, artifacts, expectations: expectations({ amount: [between(null, 100)] }) });
    expect(Object.hasOwn(validation, 'personal')).toBe(false);
  });
});

const SHARED = fileURLToPath(new URL('../../../../shared/data/', import.meta.url));
const EXCERPTS = fileURLToPath(new URL('../../fixtures/data/', import.meta.url));
/** The real set where it is there, an excerpt of it else. */
const real = (path: string, excerpt: string): string => (existsSync(join(SHARED, path)) ? join(SHARED, path) : join(EXCERPTS, excerpt));

describe('real data', () => {
  it.each([
    ['adult', real('adult/adult-train.csv', 'adult.csv'), { format: 'csv', header: false }],
    ['creditcard', real('creditcard/creditcard_trunc40pct.parquet', 'creditcard.parquet'), { format: 'parquet' }],
    ['beers', real('beers/dirty.csv', 'beers-dirty.csv'), { format: 'csv' }],
    ['flights of Raha', real('flights/dirty.csv', 'flights-dirty.csv'), { format: 'csv' }],
    ['california-housing', real('california-housing/housing.csv', 'california-housing.csv'), { format: 'csv' }],
    ['elec2', real('elec2/elec.csv', 'elec2.csv'), { format: 'csv' }],
    ['flights of 2001', join(packageRoot, 'node_modules', 'vega-datasets', 'data', 'flights-3m.parquet'), { format: 'parquet' }],
  ] as const)('of %s gives no false alarm', async (name, path, how) => {
    const source = { ...how, path: path.slice(dirname(path).length + 1) } as Source;
    const { manifest } = await ingestSource({ source, name, artifacts, projectFolder: dirname(path), sampleRows: 50_000 });
    expect(await detectPersonalData(await datasetFiles(artifacts, manifest), manifest.columns)).toEqual([]);
  });

  it('of mails holds e-mail addresses', async () => {
    const mails = join(packageRoot, 'node_modules', '@stdlib', 'datasets-spam-assassin', 'data', 'easy-ham-1');
    const names = (await readdir(mails)).slice(0, 200);
    const rows = await Promise.all(names.map(async (name) => ({ mail: await readFile(join(mails, name), 'utf8') })));
    expect(await found(rows)).toEqual([{ column: 'mail', kind: 'email', share: expect.any(Number) as number, contains: true }]);
  });
});
