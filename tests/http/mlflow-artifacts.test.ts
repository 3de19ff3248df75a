import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { once } from 'node:events';
import { type IncomingMessage, request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { createApiServer } from '../../api/server.ts';
import { createArtifacts, type Artifacts } from '../../store/artifacts.ts';
import { sweepArtifacts } from '../../store/retention.ts';
import type { Store } from '../../store/store.ts';
import { freshStore } from '../support/database.ts';

const PATIENCE_MS = 60_000;
const MIB = 2 ** 20;
let store: Store;
let artifacts: Artifacts;
let folder: string;
let address: string;
let app: ReturnType<typeof createApiServer>;

beforeAll(async () => {
  store = await freshStore();
  folder = await mkdtemp(join(tmpdir(), 'millrace-mlflow-artifacts-'));
  artifacts = createArtifacts({ root: folder });
  app = createApiServer({ store, artifacts, version: '1.2.3' });
  address = await app.listen({ host: '127.0.0.1', port: 0 });
});
afterAll(async () => {
  await app.close();
  await rm(folder, { recursive: true, force: true });
});

const url = (path: string): string => `${address}/api/2.0/mlflow-artifacts/artifacts/${path}`;
const put = (path: string, body: string | Buffer, type = 'application/octet-stream') =>
  fetch(url(path), { method: 'PUT', body: typeof body === 'string' ? body : new Uint8Array(body), headers: { 'content-type': type } });
const list = async (path: string): Promise<unknown> =>
  ((await (await fetch(`${address}/api/2.0/mlflow-artifacts/artifacts?path=${encodeURIComponent(path)}`)).json()) as { files: unknown }).files;
const temporaryFiles = async (): Promise<readonly string[]> => readdir(join(folder, 'tmp')).catch(() => []);

describe('artifacts through the server', () => {
  it('keeps what is put, whatever type it is said to have, and gives it back as a file to save', async () => {
    const json = '{"not": "parsed"';
    expect((await put('1/run/artifacts/a.json', json, 'application/json')).status).toBe(200);
    expect((await put('1/run/artifacts/empty', '')).status).toBe(200);
    const name = 'größe 100% ‘ok’.txt';
    expect((await put(`1/run/artifacts/deep/er/${encodeURIComponent(name)}`, 'text', 'text/plain')).status).toBe(200);
    const answer = await fetch(url('1/run/artifacts/a.json'));
    expect(await answer.text()).toBe(json);
    expect(answer.headers.get('content-disposition')).toContain('attachment');
    expect(answer.headers.get('x-content-type-options')).toBe('nosniff');
    expect(await (await fetch(url('1/run/artifacts/empty'))).text()).toBe('');
    expect(await (await fetch(url(`1/run/artifacts/deep/er/${encodeURIComponent(name)}`))).text()).toBe('text');
    expect(await list('1/run/artifacts')).toEqual([
      { path: 'a.json', is_dir: false, file_size: json.length },
      { path: 'deep', is_dir: true },
      { path: 'empty', is_dir: false, file_size: 0 },
    ]);
    expect(await list('1/run/artifacts/deep/er')).toEqual([{ path: name, is_dir: false, file_size: 4 }]);
    expect(await list('1/run/artifacts/a.json')).toEqual([]);
  });

  it('streams a large upload both ways without holding it', async () => {
    const piece = randomBytes(MIB);
    const pieces = 192;
    const hash = createHash('sha256');
    // what is garbage already does not count
    setFlagsFromString('--expose_gc');
    const collect = runInNewContext('gc') as () => void;
    const held = (): number => {
      collect();
      return process.memoryUsage().arrayBuffers;
    };
    const before = held();
    let most = 0;
    async function* body(): AsyncGenerator<Buffer> {
      for (let at = 0; at < pieces; at++) {
        hash.update(piece);
        if (at % 32 === 31) most = Math.max(most, held() - before);
        yield piece;
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    // `fetch` would hold what the server has not read yet
    const upload = httpRequest(url('1/large/artifacts/model.bin'), { method: 'PUT' });
    const answered = once(upload, 'response') as Promise<[IncomingMessage]>;
    await pipeline(body, upload);
    const [answer] = await answered;
    answer.resume();
    expect(answer.statusCode).toBe(200);
    const digest = hash.digest('hex');
    expect(await store.artifactFiles.find('1/large/artifacts/model.bin')).toMatchObject({ sha256: digest, sizeBytes: pieces * MIB });
    const back = createHash('sha256');
    const download = await fetch(url('1/large/artifacts/model.bin'));
    if (download.body === null) throw new Error('no body');
    let read = 0;
    for await (const chunk of download.body as unknown as AsyncIterable<Uint8Array>) {
      back.update(chunk);
      const before32 = Math.floor(read / (32 * MIB));
      read += chunk.length;
      if (Math.floor(read / (32 * MIB)) > before32) most = Math.max(most, held() - before);
    }
    expect(back.digest('hex')).toBe(digest);
    expect(most).toBeLessThan((pieces * MIB) / 6);
  });

  it('keeps nothing of an upload whose connection drops, and the earlier file as it was', async () => {
    await put('1/dropped/artifacts/f', 'earlier');
    for (const headers of [{ 'content-length': String(8 * MIB) }, { 'transfer-encoding': 'chunked' }]) {
      const broken = httpRequest(url('1/dropped/artifacts/f'), { method: 'PUT', headers });
      broken.on('error', () => undefined);
      broken.write(Buffer.alloc(MIB));
      await vi.waitUntil(async () => (await temporaryFiles()).length > 0, { timeout: PATIENCE_MS });
      broken.destroy();
      await vi.waitUntil(async () => (await temporaryFiles()).length === 0, { timeout: PATIENCE_MS });
    }
    expect(await (await fetch(url('1/dropped/artifacts/f'))).text()).toBe('earlier');
    expect(await list('1/dropped/artifacts')).toEqual([{ path: 'f', is_dir: false, file_size: 7 }]);
  });

  it('refuses every way out of the root, in each spelling, and writes nothing', async () => {
    const spellings = [
      '1/r/..%2f..%2fetc/passwd',
      '1/r/%2e%2e/%2e%2e/etc',
      '1/r/%252e%252e%252fetc',
      '1/r/..%5c..%5cetc',
      '%2fetc%2fpasswd',
      'C:%5cwindows',
      'c%3a/windows',
      '1/r/nul%00.txt',
      '1/r/line%0Abreak',
      '1/r/a%23b',
      'file%3A%2F%2Fetc',
      `1/r/${'x'.repeat(3_000)}`,
      '1/r/%ED%A0%80',
    ];
    const count = async (): Promise<number> => (await store.artifactFiles.walk('', { limit: 1_000 })).length;
    const before = await count();
    for (const path of spellings) {
      for (const method of ['PUT', 'GET', 'DELETE']) {
        // as it is: `fetch` would tidy the path first
        const status = await new Promise<number | undefined>((resolve, reject) => {
          const sent = httpRequest(
            { host: '127.0.0.1', port: Number(new URL(address).port), method, path: `/api/2.0/mlflow-artifacts/artifacts/${path}` },
            (answer) => {
              answer.resume();
              answer.on('end', () => {
                resolve(answer.statusCode);
              });
            },
          );
          sent.on('error', reject);
          sent.end(method === 'PUT' ? 'x' : undefined);
        });
        expect([method, path.slice(0, 60), status]).toEqual([method, path.slice(0, 60), 400]);
      }
    }
    for (const path of ['../..', '/etc', 'a\\..\\b', '..%2f..', '1/\u0000'])
      expect((await fetch(`${address}/api/2.0/mlflow-artifacts/artifacts?path=${encodeURIComponent(path)}`)).status).toBe(400);
    expect(await count()).toBe(before);
  });

  it('refuses a file in the place of a folder and the other way round, and the registry as a place to write', async () => {
    await put('1/clash/artifacts/model/MLmodel', 'x');
    expect(await (await put('1/clash/artifacts/model', 'y')).json()).toMatchObject({ error_code: 'INVALID_PARAMETER_VALUE' });
    expect((await put('1/clash/artifacts/model/MLmodel/inside', 'y')).status).toBe(400);
    expect(await (await put('registry/flights/1/MLmodel', 'y')).json()).toMatchObject({ error_code: 'PERMISSION_DENIED' });
    expect((await fetch(url('registry'), { method: 'DELETE' })).status).toBe(403);
    expect((await fetch(url(''), { method: 'DELETE' })).status).toBe(404);
  });

  it('removes a file, or all below a folder, and says what is not there', async () => {
    for (const name of ['a', 'b/c', 'b/d']) await put(`1/removed/artifacts/${name}`, name);
    expect((await fetch(url('1/removed/artifacts/b'), { method: 'DELETE' })).status).toBe(200);
    expect(await list('1/removed/artifacts')).toEqual([{ path: 'a', is_dir: false, file_size: 1 }]);
    expect(await (await fetch(url('1/removed/artifacts/b'), { method: 'DELETE' })).json()).toMatchObject({ error_code: 'RESOURCE_DOES_NOT_EXIST' });
    expect((await fetch(url('1/removed/artifacts/none'))).status).toBe(404);
  });

  it('answers what it leaves out with 501, on which clients send and get files through the server', async () => {
    for (const path of ['mpu/create/1/r', 'mpu/complete/1/r', 'mpu/abort/1/r']) {
      const answer = await fetch(`${address}/api/2.0/mlflow-artifacts/${path}`, {
        method: 'POST',
        body: '{"path": "f"}',
        headers: { 'content-type': 'application/json' },
      });
      expect([answer.status, ((await answer.json()) as { message: string }).message]).toEqual([
        501,
        expect.stringMatching(/^Multipart upload is not supported/),
      ]);
    }
    expect((await fetch(`${address}/api/2.0/mlflow-artifacts/presigned/1/r/f`)).status).toBe(501);
  });

  it('keeps the files from retention, and lets go of what was removed', async () => {
    await put('1/kept/artifacts/kept.txt', 'kept by its path');
    await put('1/kept/artifacts/gone.txt', 'named by nothing');
    const gone = (await store.artifactFiles.find('1/kept/artifacts/gone.txt'))?.sha256 ?? '';
    const kept = (await store.artifactFiles.find('1/kept/artifacts/kept.txt'))?.sha256 ?? '';
    await fetch(url('1/kept/artifacts/gone.txt'), { method: 'DELETE' });
    await sweepArtifacts({ store, artifacts }, { olderThanMs: 0, keepLast: 1, graceMs: -PATIENCE_MS });
    expect([await artifacts.has(kept), await artifacts.has(gone)]).toEqual([true, false]);
    expect(await (await fetch(url('1/kept/artifacts/kept.txt'))).text()).toBe('kept by its path');
  });
});
