import { createHash, randomBytes } from 'node:crypto';
import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { CreateBucketCommand, DeleteObjectCommand, ListObjectsV2Command, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { type Artifacts, createArtifacts, openArtifacts } from '../../store/artifacts.ts';
import { collectDatasets } from '../../store/retention.ts';
import { s3Address } from '../../store/s3-artifacts.ts';
import type { Store } from '../../store/store.ts';
import { freshStore } from '../support/database.ts';
import { type S3Server, startS3Server } from '../support/s3-server.ts';

const MIB = 2 ** 20;
const HOUR_MS = 3_600_000;
let server: S3Server | undefined;
/** Why the test cannot run here; undefined when it can. */
let missing: string | undefined;
let folder: string;
let client: S3Client | undefined;
let store: Store;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-s3-artifacts-'));
  store = await freshStore();
  server = await startS3Server().catch((error: unknown) => {
    if (process.env['CI'] === 'true') throw error;
    missing = error instanceof Error ? error.message : String(error);
    return undefined;
  });
  if (server === undefined) return;
  vi.stubEnv('AWS_ACCESS_KEY_ID', server.accessKeyId);
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', server.secretAccessKey);
  client = new S3Client({ endpoint: server.endpoint, region: 'us-east-1', forcePathStyle: true });
  await client.send(new CreateBucketCommand({ Bucket: 'artifacts' }));
}, 660_000);
afterAll(async () => {
  vi.unstubAllEnvs();
  client?.destroy();
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

const address = (prefix: string, cache: string, endpoint = server?.endpoint, bucket = 'artifacts'): string =>
  s3Address({ bucket, prefix, endpoint, region: 'us-east-1', cache: join(folder, cache) });
const at = (prefix: string, cache: string): Artifacts => createArtifacts({ root: address(prefix, cache) });
const keyOf = (prefix: string, sha256: string): string => `${prefix}/sha256/${sha256.slice(0, 2)}/${sha256.slice(2)}`;
const keys = async (prefix: string): Promise<readonly string[]> =>
  ((await client?.send(new ListObjectsV2Command({ Bucket: 'artifacts', Prefix: `${prefix}/` })))?.Contents ?? []).map(({ Key = '' }) =>
    Key.slice(prefix.length + 1),
  );
const hashOf = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

/** A port in front of the server that breaks the first connections after so many bytes of either side. */
async function brokenPort(
  breaks: number,
  afterBytes: number,
): Promise<{ readonly endpoint: string; readonly broken: () => number; readonly close: () => void }> {
  let broken = 0;
  const target = new URL(server?.endpoint ?? '');
  const proxy = createServer((socket) => {
    const through = connect(Number(target.port), target.hostname);
    let seen = 0;
    const count = (chunk: Buffer): void => {
      seen += chunk.length;
      if (seen <= afterBytes || broken >= breaks) return;
      broken++;
      socket.destroy();
      through.destroy();
    };
    for (const side of [socket, through]) side.on('error', () => undefined).on('data', count);
    socket.pipe(through);
    through.pipe(socket);
    socket.on('close', () => through.destroy());
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  return { endpoint: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`, broken: () => broken, close: () => proxy.close() };
}

describe('artifacts in a store that speaks S3', () => {
  test('what one machine puts, small or in parts, another one gets, checked and kept by its hash', async (context) => {
    if (missing !== undefined) context.skip(missing);
    const here = await openArtifacts(address('shared', 'here'));
    const there = at('shared', 'there');
    const large = randomBytes(37 * MIB + 11);
    const path = await here.temporaryFile('.bin');
    await writeFile(path, large);
    const stored = await here.putFile(path);
    expect(stored).toEqual({ sha256: hashOf(large), sizeBytes: large.length });
    const json = await here.putJson({ b: 1, a: [stored.sha256] });
    expect((await readFile(await there.pathOf(stored.sha256))).equals(large)).toBe(true);
    expect(await there.getJson(json.sha256)).toEqual({ a: [stored.sha256], b: 1 });
    // the cache answers when the bucket does not have it any more
    await client?.send(new DeleteObjectCommand({ Bucket: 'artifacts', Key: keyOf('shared', stored.sha256) }));
    expect(await there.has(stored.sha256)).toBe(false);
    expect((await readFile(await there.pathOf(stored.sha256))).length).toBe(large.length);
    expect(await there.putStream(Readable.from([large]))).toEqual(stored);
    expect(await here.has(stored.sha256)).toBe(true);
    expect(await readdir(join(folder, 'there', 'tmp'))).toEqual([]);
  });

  test('refuses what is not there and what has other content, and mends its own cache', async (context) => {
    if (missing !== undefined) context.skip(missing);
    const artifacts = at('checked', 'checked');
    await expect(artifacts.pathOf('0'.repeat(64))).rejects.toMatchObject({ code: 'ARTIFACT_MISSING' });
    await expect(artifacts.pathOf('../../etc')).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
    const damaged = hashOf(Buffer.from('as it was'));
    await client?.send(new PutObjectCommand({ Bucket: 'artifacts', Key: keyOf('checked', damaged), Body: 'as it is' }));
    await expect(artifacts.getBytes(damaged)).rejects.toMatchObject({ code: 'ARTIFACT_CORRUPT' });
    expect(await readdir(join(folder, 'checked', 'tmp'))).toEqual([]);
    const { sha256 } = await artifacts.putBytes(Buffer.from('whole'));
    const cached = await artifacts.pathOf(sha256);
    await chmod(cached, 0o644);
    await writeFile(cached, 'spoilt');
    expect((await artifacts.getBytes(sha256)).toString()).toBe('whole');
  });

  test('goes on when connections break, in both directions', async (context) => {
    if (missing !== undefined) context.skip(missing);
    const bytes = randomBytes(40 * MIB);
    const up = await brokenPort(2, 5 * MIB);
    const { sha256 } = await createArtifacts({ root: address('broken', 'up', up.endpoint) }).putBytes(bytes);
    up.close();
    const down = await brokenPort(2, 5 * MIB);
    const got = await createArtifacts({ root: address('broken', 'down', down.endpoint) }).getBytes(sha256);
    down.close();
    expect(got.equals(bytes)).toBe(true);
    expect([up.broken(), down.broken()]).toEqual([2, 2]);
  });

  test('says what is the matter with a bucket, without a key', async (context) => {
    if (missing !== undefined) context.skip(missing);
    await expect(openArtifacts(address('x', 'none', server?.endpoint, 'no-such-bucket'))).rejects.toMatchObject({
      code: 'ARTIFACTS_UNAVAILABLE',
      message: expect.stringContaining('bucket of the artifacts does not exist') as string,
    });
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'a-wrong-secret');
    const refused = await openArtifacts(address('x', 'none')).catch((error: unknown) => error);
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', server?.secretAccessKey);
    expect(refused).toMatchObject({ code: 'ARTIFACTS_UNAVAILABLE', retryable: true });
    expect((refused as Error).message).not.toContain('a-wrong-secret');
    await expect(createArtifacts({ root: address('x', 'none', 'http://127.0.0.1:1') }).putBytes(Buffer.from('x'))).rejects.toMatchObject({
      code: 'ARTIFACTS_UNAVAILABLE',
    });
  });

  test('lists, keeps and removes: what was used since stays', async (context) => {
    if (missing !== undefined) context.skip(missing);
    const artifacts = at('listed', 'listed');
    const one = await artifacts.putBytes(Buffer.from('one'));
    const two = await artifacts.putBytes(Buffer.from('two'));
    const listed = async (): Promise<readonly string[]> => {
      const found: string[] = [];
      for await (const { sha256 } of artifacts.list()) found.push(sha256);
      return found.sort();
    };
    expect(await listed()).toEqual([one.sha256, two.sha256].sort());
    expect(await artifacts.remove(one.sha256, Date.now() - HOUR_MS)).toBe(false);
    // the store tells times in seconds
    await new Promise((resolve) => setTimeout(resolve, 2_100));
    const now = Date.now();
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    expect(await artifacts.keep(one.sha256)).toBe(true);
    expect(await artifacts.remove(one.sha256, now)).toBe(false);
    expect(await artifacts.remove(two.sha256, now)).toBe(true);
    expect([await artifacts.has(one.sha256), await artifacts.has(two.sha256), await artifacts.keep(two.sha256)]).toEqual([true, false, false]);
    expect(await artifacts.remove(two.sha256, now)).toBe(false);
    expect(await listed()).toEqual([one.sha256]);
    expect((await keys('listed')).filter((key) => key.startsWith('collected/'))).toEqual([]);
    await expect(artifacts.pathOf(two.sha256)).rejects.toMatchObject({ code: 'ARTIFACT_MISSING' });
  });

  test('is collected as a folder is: what a record names stays, with all that it names', async (context) => {
    if (missing !== undefined) context.skip(missing);
    const artifacts = at('collected', 'collecting');
    const inner = await artifacts.putBytes(Buffer.from('named by another'));
    const outer = await artifacts.putJson({ names: inner.sha256 });
    const loose = await artifacts.putBytes(Buffer.from('named by nothing'));
    await store.artifactFiles.put({ path: '1/r/artifacts/outer.json', sha256: outer.sha256, sizeBytes: outer.sizeBytes });
    // another machine collects, whose cache is empty
    const { files } = await collectDatasets({ store, artifacts: at('collected', 'empty') }, { olderThanMs: 0, keepLast: 1, graceMs: -HOUR_MS });
    expect(files).toBe(1);
    const left = at('collected', 'after');
    expect([await left.has(outer.sha256), await left.has(inner.sha256), await left.has(loose.sha256)]).toEqual([true, true, false]);
  });
});
