import { afterEach, beforeEach, expect, it, onTestFinished } from 'vitest';
import { createTokenBook, type TokenBook } from '../../store/token-book.ts';
import { hashToken, type LiveToken } from '../../store/tokens.ts';
import { FLIGHT, openServingBench, publishVersion, type ServingBench } from '../support/serving-fixture.ts';

let bench: ServingBench;
beforeEach(async () => {
  bench = await openServingBench();
  const version = await publishVersion(bench.artifacts, 1);
  bench.store.routes = ['flights', 'fraud'].map((name) => bench.route(name, 1, version));
});
afterEach(() => bench.close());

/** A book of what the store would say. */
async function bookOf(live: { needed: boolean; tokens: readonly LiveToken[] }): Promise<TokenBook> {
  const book = createTokenBook({ tokens: { live: () => Promise.resolve(live), provisionAdmin: () => Promise.resolve() }, loopback: true, everyMs: 20 });
  await book.start();
  onTestFinished(() => book.stop());
  return book;
}
const liveToken = (token: string, projects: readonly string[]): LiveToken => ({
  hash: hashToken(token),
  identity: { who: token, tokenId: token, roles: ['viewer'], projects },
  expiresAt: null,
});

it('a prediction is given to a token of the endpoint’s project, and to no other', async () => {
  const tokens = await bookOf({ needed: true, tokens: [liveToken('of-all', ['*']), liveToken('of-flights', ['flights'])] });
  const { url } = await bench.serve({ tokens });
  const ask = async (path: string, authorization?: string): Promise<number> => {
    const headers = { 'content-type': 'application/json', ...(authorization === undefined ? {} : { authorization }) };
    return (await fetch(`${url}${path}`, { method: 'POST', headers, body: JSON.stringify({ rows: [FLIGHT] }) })).status;
  };
  const basic = `Basic ${Buffer.from('ada:of-flights').toString('base64')}`;
  expect(await Promise.all([undefined, 'Bearer wrong', 'Bearer of-all', 'Bearer of-flights', basic].map((header) => ask('/predict/flights', header)))).toEqual([
    401, 401, 200, 200, 200,
  ]);
  expect(await Promise.all(['Bearer of-all', 'Bearer of-flights', basic].map((header) => ask('/predict/fraud', header)))).toEqual([200, 403, 403]);
  expect(await ask('/predict/%66raud', 'Bearer of-flights')).toBe(403);
  expect(await ask('/v2/models/fraud/infer', 'Bearer of-flights')).toBe(403);
  expect((await fetch(`${url}/metrics`)).status).toBe(401);
  expect((await fetch(`${url}/v2/health/ready`)).status).toBe(200);
  const refused = await fetch(`${url}/predict/flights`, { method: 'POST', body: '{}' });
  expect([refused.headers.get('www-authenticate'), await refused.json()]).toMatchObject(['Bearer', { code: 'TOKEN_NEEDED' }]);
});

it('nobody is asked for a token before the first one is made, and everybody from then on', async () => {
  const live = { needed: false, tokens: [] as LiveToken[] };
  const { url } = await bench.serve({ tokens: await bookOf(live) });
  const ask = async (authorization?: string): Promise<number> =>
    (
      await fetch(`${url}/predict/flights`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...(authorization === undefined ? {} : { authorization }) },
        body: JSON.stringify({ rows: [FLIGHT] }),
      })
    ).status;
  expect(await ask()).toBe(200);
  live.needed = true;
  live.tokens.push(liveToken('first', ['*']));
  await expect.poll(() => ask(), { timeout: 20_000 }).toBe(401);
  expect(await ask('Bearer first')).toBe(200);
  live.tokens.pop();
  await expect.poll(() => ask('Bearer first'), { timeout: 20_000 }).toBe(401);
});
