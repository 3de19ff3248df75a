import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { httpPost } from '../../../activities/http-wire.ts';
import { type OpenLoadResult, runOpenLoad } from '../../../activities/open-load.ts';

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

/** Sends 100 requests a second to a server that answers request i (from 0) as told. */
async function send(
  answer: (request: number, reply: (status?: number) => void) => void,
  more: { readonly seconds: number; readonly connections: number; readonly warmUpSeconds?: number },
): Promise<{ readonly result: OpenLoadResult; readonly bodies: readonly string[] }> {
  const bodies: string[] = [];
  const server = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8').on('data', (text: string) => (body += text));
    request.on('end', () => {
      bodies.push(body);
      answer(bodies.length - 1, (status = 200) => {
        response.writeHead(status, { 'content-length': '2' });
        response.end('ok');
      });
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const result = await runOpenLoad({
    host: '127.0.0.1',
    port,
    requests: ['a', 'b', 'c'].map((body) => httpPost('/predict/x', '127.0.0.1', body)),
    requestsPerSecond: 100,
    warmUpSeconds: 0,
    inTimeMs: 100,
    graceSeconds: 1,
    ...more,
  });
  return { result, bodies };
}

describe('an open load', () => {
  it('sends every request that is due, in turn, and counts those after the warm-up', async () => {
    const { result, bodies } = await send((_, reply) => reply(), { seconds: 0.6, warmUpSeconds: 0.2, connections: 4 });
    expect(bodies).toHaveLength(80);
    expect([...bodies].sort().join('')).toBe('a'.repeat(27) + 'b'.repeat(27) + 'c'.repeat(26));
    expect(result).toMatchObject({ requests: 60, answered: 60, failed: 0, unanswered: 0, statuses: [] });
  });

  it('charges a server that stalls with all requests that were due meanwhile', async () => {
    // one connection, held for 600 ms: a closed loop would count one slow answer of many
    const { result } = await send((request, reply) => (request === 20 ? setTimeout(reply, 600, 200) : reply()), { seconds: 1, connections: 1 });
    expect(result.answered).toBe(100);
    // 30 of 100 requests are due in its first 300 ms, and wait for at least the other 300
    expect(result.p95Ms).toBeGreaterThanOrEqual(300);
    expect(result.maxMs).toBeGreaterThanOrEqual(590);
  });

  it('counts other answers, broken connections and what is never answered', async () => {
    const { result } = await send(
      (request, reply) => {
        if (request === 3) servers[0]?.closeAllConnections();
        else if (request !== 5) reply(request % 2 === 0 ? 503 : 200);
      },
      { seconds: 0.3, connections: 2 },
    );
    expect(result.requests).toBe(30);
    expect(result.answered + result.failed + result.unanswered).toBe(30);
    expect(result.unanswered).toBe(1);
    expect(result.statuses[0]?.[0]).toBe('503');
    expect(result.statuses.map(([status]) => status)).toContain('connection');
    expect(result.maxMs).toBeGreaterThanOrEqual(1_000);
  });
});
