import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { createMlflowClient } from '../../../store/mlflow-client.ts';

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

/** A server of its own, and its address. */
async function serverOf(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  closing.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${String((server.address() as AddressInfo).port)}`;
}

const answering = (status: number, body: string, headers: Readonly<Record<string, string>> = {}): RequestListener => {
  return (request, response) => {
    request.resume();
    response.writeHead(status, headers).end(body);
  };
};

async function textOf(pieces: AsyncIterable<Uint8Array>): Promise<string> {
  const all: Uint8Array[] = [];
  for await (const piece of pieces) all.push(piece);
  return Buffer.concat(all).toString('utf8');
}

describe('a client of an MLflow server', () => {
  it('sends a query and a body below the path of the address, and gives the JSON back', async () => {
    const seen: string[] = [];
    const address = await serverOf((request, response) => {
      let body = '';
      request.on('data', (piece: Buffer) => {
        body += piece.toString('utf8');
      });
      request.on('end', () => {
        seen.push(`${String(request.method)} ${String(request.url)} ${body}`);
        response.end('{"ok": true}');
      });
    });
    const client = createMlflowClient({ address: `${address}/team/`, env: {} });
    expect(client.address).toBe(`${address}/team`);
    await expect(client.get('/api/2.0/mlflow/x', { run_id: 'a b', page_token: undefined })).resolves.toEqual({ ok: true });
    await expect(client.post('/api/2.0/mlflow/y', { n: 1 })).resolves.toEqual({ ok: true });
    expect(seen).toEqual(['GET /team/api/2.0/mlflow/x?run_id=a+b ', 'POST /team/api/2.0/mlflow/y {"n":1}']);
  });

  it("takes credentials from MLflow's variables: user and password before a token", async () => {
    const address = await serverOf((request, response) => response.end(JSON.stringify({ got: request.headers.authorization ?? null })));
    const got = (env: Readonly<Record<string, string>>): Promise<unknown> => createMlflowClient({ address, env }).get('/x');
    await expect(got({})).resolves.toEqual({ got: null });
    await expect(got({ MLFLOW_TRACKING_TOKEN: 't' })).resolves.toEqual({ got: 'Bearer t' });
    const basic = `Basic ${Buffer.from('u:p').toString('base64')}`;
    await expect(got({ MLFLOW_TRACKING_TOKEN: 't', MLFLOW_TRACKING_USERNAME: 'u', MLFLOW_TRACKING_PASSWORD: 'p' })).resolves.toEqual({ got: basic });
  });

  it.each([
    [401, '', 'TOKEN_NEEDED'],
    [403, '', 'NOT_ALLOWED'],
    [404, '', 'NOT_FOUND'],
    [400, '{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such run"}', 'NOT_FOUND'],
    [400, '{"error_code": "RESOURCE_ALREADY_EXISTS", "message": "taken"}', 'CONFLICT'],
    [400, '{"error_code": "INVALID_PARAMETER_VALUE", "message": "bad"}', 'INVALID_REQUEST'],
    [429, '', 'OVERLOADED'],
    [503, '<html>', 'SERVER_UNAVAILABLE'],
    [501, '', 'INVALID_REQUEST'],
    [200, '<html>', 'INVALID_REQUEST'],
  ])('tells %i %s as %s', async (status, body, code) => {
    const address = await serverOf(answering(status, body));
    await expect(createMlflowClient({ address, env: {} }).get('/x')).rejects.toMatchObject({ code });
  });

  it('does not follow to another address, where the credentials would go too', async () => {
    let asked = 0;
    const other = await serverOf((_request, response) => {
      asked++;
      response.end('{}');
    });
    const address = await serverOf(answering(302, '', { location: `${other}/x` }));
    await expect(createMlflowClient({ address, env: { MLFLOW_TRACKING_TOKEN: 't' } }).get('/x')).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
    expect(asked).toBe(0);
  });

  it('tries again as often as it was told while the server fails, and no more', async () => {
    let asked = 0;
    const address = await serverOf((_request, response) => {
      asked++;
      response.writeHead(asked < 3 ? 503 : 200).end('{}');
    });
    await expect(createMlflowClient({ address, env: {} }).get('/x')).rejects.toMatchObject({ code: 'SERVER_UNAVAILABLE' });
    await expect(createMlflowClient({ address, env: {}, tries: 3, pauseMs: 1 }).get('/x')).resolves.toEqual({});
    expect(asked).toBe(3);
  });

  it('gives up a server that does not answer, one that stalls in the middle of a file, and one that breaks off', async () => {
    const silent = await serverOf(() => undefined);
    await expect(createMlflowClient({ address: silent, env: {}, timeoutMs: 50 }).get('/x')).rejects.toMatchObject({ code: 'SERVER_UNAVAILABLE' });
    const stalling = await serverOf((_request, response) => response.writeHead(200).write('half'));
    await expect(textOf(await createMlflowClient({ address: stalling, env: {}, timeoutMs: 50 }).download('/x'))).rejects.toMatchObject({
      code: 'SERVER_UNAVAILABLE',
    });
    const breaking = await serverOf((_request, response) => {
      response.writeHead(200, { 'content-length': '100' }).write('half', () => response.destroy());
    });
    await expect(textOf(await createMlflowClient({ address: breaking, env: {} }).download('/x'))).rejects.toMatchObject({ code: 'SERVER_UNAVAILABLE' });
  });

  it('hands a file on as it comes', async () => {
    const address = await serverOf(answering(200, 'the bytes'));
    await expect(textOf(await createMlflowClient({ address, env: {} }).download('/get-artifact', { path: 'a' }))).resolves.toBe('the bytes');
  });

  it('refuses an address that holds credentials, and says neither in its words', () => {
    expect(() => createMlflowClient({ address: 'http://user:word@host', env: {} })).toThrow(/holds a user or a password/);
    expect(() => createMlflowClient({ address: 'ftp://host', env: {} })).toThrow(/begins with http/);
    expect(() => createMlflowClient({ address: 'host:5000/\u0000 user:word@', env: {} })).toThrow(/http/);
    const found = (() => {
      try {
        createMlflowClient({ address: 'http://user:word@host:what', env: {} });
        return '';
      } catch (error) {
        return JSON.stringify(error);
      }
    })();
    expect(found).not.toContain('word');
  });
});
