/** `millrace models card`, as a person types it, and the API's answer, over a store of real versions. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { createApiServer } from '../../api/server.ts';
import { bareCard } from '../support/bare-card.ts';
import { type CommandFolder, commandFolder, millrace } from '../support/command-line.ts';

let folder: string;
let store: CommandFolder['store'];
let artifacts: CommandFolder['artifacts'];
beforeEach(async () => {
  ({ folder, store, artifacts } = await commandFolder());
  await registered('the page that was drawn');
});

/** A version with its card; `page`: what was drawn then, null where that had failed. */
async function registered(page: string | null): Promise<void> {
  const { version } = await store.models.register({ model: 'late', predictor: 'a'.repeat(64), metrics: {}, evaluation: null });
  const drawn = page === null ? null : await artifacts.putBytes(Buffer.from(page));
  const { sha256 } = await artifacts.putJson(bareCard({ version, description: 'Not for staffing.', page: drawn?.sha256 ?? null }));
  await store.models.setCard({ model: 'late', version, card: sha256 });
}

describe('millrace models card', () => {
  it('writes the page that was drawn when the version was registered', async () => {
    const out = join(folder, 'card.html');
    expect(await millrace('models', 'card', 'late@1', '--out', out)).toMatchObject({ code: 0, out: `${out}\n` });
    expect(await readFile(out, 'utf8')).toBe('the page that was drawn');
  });

  it('draws the page from the facts where it could not be drawn then, of the version that an alias names', async () => {
    await registered(null);
    const out = join(folder, 'card.html');
    expect((await millrace('models', 'card', 'late@candidate', '--out', out)).code).toBe(0);
    expect(await readFile(out, 'utf8')).toMatch(/^<!doctype html>[^]*late <span class="version">version 2<[^]*Not for staffing\./);
  });

  it('prints the facts as JSON, and writes nothing then', async () => {
    const { code, out } = await millrace('models', 'card', 'late', '--json');
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ path: null, card: { format: 'millrace-card/1', version: 1 } });
  });

  it('says what there is where there is no such version, and where a version has no card', async () => {
    await store.models.register({ model: 'late', predictor: 'a'.repeat(64), metrics: {}, evaluation: null });
    for (const [named, told] of [
      ['late@2', 'Version 2 of late has no model card.'],
      ['late@7', 'There is no version 7 of model late.'],
      ['late@staging', 'Give a number from 1 to 2, or an alias: candidate.'],
      ['early', 'There is no model early.'],
    ] as const) {
      const { code, err } = await millrace('models', 'card', named);
      expect(code).not.toBe(0);
      expect(err).toContain(told);
    }
  });
});

describe('the API', () => {
  it('answers the card of a version by its number and by an alias', async () => {
    const app = createApiServer({ store, version: '1.2.3', artifacts });
    for (const name of ['1', 'candidate']) {
      const answer = await app.inject({ url: `/api/v1/models/late/versions/${name}/card` });
      expect([answer.statusCode, answer.json()]).toMatchObject([200, { format: 'millrace-card/1', version: 1, description: 'Not for staffing.' }]);
    }
    expect((await app.inject({ url: '/api/v1/models/late/versions/2/card' })).statusCode).toBe(404);
    await app.close();
  });
});
