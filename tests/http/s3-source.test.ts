import { type AddressInfo, connect, createServer } from 'node:net';
import { gzipSync } from 'node:zlib';
import { DeleteObjectCommand, CreateBucketCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { sourceSettings } from '../../config/source-settings.ts';
import { MillraceError } from '../../contracts/errors.ts';
import type { Source } from '../../contracts/source.ts';
import { fingerprintSource } from '../../data/fingerprint-source.ts';
import { type IngestedDataset, ingestSource } from '../../data/ingest.ts';
import { readColumns } from '../../data/read-columns.ts';
import { findS3Files, keyMatcher } from '../../data/s3-files.ts';
import type { SourceAccess } from '../../data/source-access.ts';
import { createFileArtifacts, type FileArtifacts } from '../support/file-artifacts.ts';
import { type S3Server, startS3Server } from '../support/s3-server.ts';

let server: S3Server | undefined;
/** Why the test cannot run here; undefined when it can. */
let missing: string | undefined;
let artifacts: FileArtifacts;
let client: S3Client | undefined;
let access: SourceAccess;

beforeAll(async () => {
  artifacts = await createFileArtifacts();
  server = await startS3Server().catch((error: unknown) => {
    if (process.env['CI'] === 'true') throw error;
    missing = error instanceof Error ? error.message : String(error);
    return undefined;
  });
  if (server === undefined) return;
  const { endpoint, accessKeyId, secretAccessKey } = server;
  vi.stubEnv('AWS_ACCESS_KEY_ID', accessKeyId);
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', secretAccessKey);
  access = { projectFolder: '.', ...sourceSettings({ S3_ENDPOINT: endpoint }) };
  client = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true });
  await client.send(new CreateBucketCommand({ Bucket: 'lake' }));
  for (const [key, n] of [
    ['days/2.csv', 2],
    ['days/10.csv', 10],
    ['days/1.csv', 1],
    ['days/old/3.csv', 3],
    ['days/notes.txt', 0],
  ] as const)
    await put(key, `n\n${n}\n`);
}, 660_000);
afterAll(async () => {
  vi.unstubAllEnvs();
  client?.destroy();
  await server?.stop();
  await artifacts.remove();
});

const put = async (key: string, body: string | Buffer): Promise<unknown> => client?.send(new PutObjectCommand({ Bucket: 'lake', Key: key, Body: body }));
const csv = (path: string): Source => ({ format: 'csv', path });
const ingest = (path: string, more: Partial<SourceAccess> = {}): Promise<IngestedDataset> =>
  ingestSource({ source: csv(path), name: 'data', artifacts, ...access, ...more });

async function numbersOf({ manifest }: IngestedDataset): Promise<readonly number[]> {
  const column = (await readColumns([await artifacts.pathOf(manifest.files[0]!.sha256)], ['n'])).columns.get('n');
  return column?.kind === 'number' ? [...column.values] : [];
}

async function refused(work: Promise<unknown>): Promise<MillraceError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(MillraceError);
  return error as MillraceError;
}

describe('a source on S3', () => {
  test('is one object, or all that match a glob, in the order of their keys', async (context) => {
    context.skip(missing !== undefined, missing);
    expect(await numbersOf(await ingest('s3://lake/days/10.csv'))).toEqual([10]);
    expect(await numbersOf(await ingest('s3://lake/days/*.csv'))).toEqual([1, 10, 2]);
    expect(await numbersOf(await ingest('s3://lake/**/*.csv'))).toEqual([1, 10, 2, 3]);
  });

  test('may be packed and large: 20 MB come as they are', async (context) => {
    context.skip(missing !== undefined, missing);
    const rows = `n\n${Array.from({ length: 2_500_000 }, (_, n) => n).join('\n')}\n`;
    await put('large.csv.gz', gzipSync(rows, { level: 1 }));
    await put('large.csv', rows);
    const [packed, plain] = [await ingest('s3://lake/large.csv.gz'), await ingest('s3://lake/large.csv')];
    expect(packed.ref).toEqual(plain.ref);
    expect(plain.ref.rows).toBe(2_500_000);
  });

  test('goes on in the middle when the connection breaks', async (context) => {
    context.skip(missing !== undefined, missing);
    await put('long.csv', `n\n${Array.from({ length: 600_000 }, (_, n) => n).join('\n')}\n`);
    const target = new URL(server?.endpoint ?? '');
    const received: number[] = [];
    const proxy = createServer((near) => {
      const far = connect(Number(target.port), target.hostname);
      const at = received.push(0) - 1;
      far.on('data', (data) => {
        received[at] = (received[at] ?? 0) + data.length;
        near.write(data);
        // the connections that carry the first two parts of the object break
        if ((received[at] ?? 0) > 1_000_000 && received.filter((bytes) => bytes > 1_000_000).length <= 2) near.destroy();
      });
      near.on('data', (data) => far.write(data));
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const)
        one.on('close', () => other.destroy()).on('error', () => undefined);
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    try {
      const numbers = await numbersOf(await ingest('s3://lake/long.csv', { s3: { endpoint: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}` } }));
      expect(numbers).toHaveLength(600_000);
      expect(numbers.every((value, n) => value === n)).toBe(true);
      expect(received.filter((bytes) => bytes > 1_000_000).length).toBeGreaterThan(2);
    } finally {
      proxy.close();
    }
  });

  test('that did not change has the same fingerprint, and one that did has another', async (context) => {
    context.skip(missing !== undefined, missing);
    await put('changing/1.csv', 'n\n1\n');
    const before = await fingerprintSource(csv('s3://lake/changing/*.csv'), access);
    expect(await fingerprintSource(csv('s3://lake/changing/*.csv'), access)).toEqual(before);
    expect(before).toMatchObject({ known: true, files: 1 });
    await put('changing/1.csv', 'n\n2\n');
    const after = await fingerprintSource(csv('s3://lake/changing/*.csv'), access);
    expect(after.sha256).not.toBe(before.sha256);
  });

  test('that is another object, or gone, when it is fetched is refused', async (context) => {
    context.skip(missing !== undefined, missing);
    await put('swapped.csv', 'n\n1\n');
    const { files, close } = await findS3Files('s3://lake/swapped.csv', access.s3 === undefined ? {} : { s3: access.s3 });
    await put('swapped.csv', 'n\n2\n');
    const path = await artifacts.temporaryFile('.csv');
    expect((await refused(files[0]!.download(path, 1_000))).message).toContain('changed while it was read');
    await client?.send(new DeleteObjectCommand({ Bucket: 'lake', Key: 'swapped.csv' }));
    expect(await refused(files[0]!.download(path, 1_000))).toMatchObject({ code: 'SOURCE_NOT_FOUND' });
    close();
  });

  test('that is not there, or may not be read, is refused without the key', async (context) => {
    context.skip(missing !== undefined, missing);
    expect((await refused(ingest('s3://lake/none.csv'))).message).toContain('There is no such object');
    expect((await refused(ingest('s3://lake/none/*.csv'))).message).toContain('No object matches');
    expect(await refused(ingest('s3://no-such-bucket/x/*.csv'))).toMatchObject({ code: 'SOURCE_NOT_FOUND' });
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'Secret8');
    const error = await refused(ingest('s3://lake/days/1.csv'));
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', server?.secretAccessKey);
    expect(error).toMatchObject({ code: 'SOURCE_NOT_FOUND', message: expect.stringContaining('credentials') as string });
    expect(JSON.stringify(error.report())).not.toMatch(/Secret|millrace-key/);
  });

  test('whose store does not answer is tried again', async () => {
    const error = await refused(ingest('s3://lake/x.csv', { s3: { endpoint: 'http://127.0.0.1:1' } }));
    expect(error).toMatchObject(missing === undefined ? { code: 'SOURCE_UNAVAILABLE', retryable: true } : { retryable: expect.any(Boolean) as boolean });
  });
});

test('a glob matches keys folder by folder', () => {
  const matching = (glob: string): readonly string[] => ['a.csv', 'x/a.csv', 'x/y/a.csv', 'x/y/b.txt'].filter(keyMatcher(glob));
  expect(matching('*.csv')).toEqual(['a.csv']);
  expect(matching('**/*.csv')).toEqual(['a.csv', 'x/a.csv', 'x/y/a.csv']);
  expect(matching('x/**')).toEqual(['x/a.csv', 'x/y/a.csv', 'x/y/b.txt']);
  expect(matching('x/{y,z}/?.[bt]*')).toEqual(['x/y/b.txt']);
});
