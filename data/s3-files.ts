/**
 * Objects of a store that speaks S3.
 *
 * Invariants:
 * 1. Credentials come from the SDK's own chain (environment, profile, machine); none stands in an error or a label.
 * 2. What is read is the object that was listed: a changed entity tag is refused, at the start and when a broken
 *    connection is gone on with.
 */
import { createWriteStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { type Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type * as Sdk from '@aws-sdk/client-s3';
import type { S3Client } from '@aws-sdk/client-s3';
import { MillraceError } from '../contracts/errors.ts';
import {
  changedWhileRead,
  type DownloadedFile,
  notFound,
  type RemoteFile,
  type RemoteOptions,
  RESUMES,
  SILENCE_MS,
  tooLarge,
  unavailable,
} from './remote-file.ts';
import { GLOB, globPattern } from './source-files.ts';

const CONNECT_MS = 10_000;

interface ObjectPlace {
  readonly bucket: string;
  readonly key: string;
}

/** The SDK is large: it is loaded when an object is asked for. */
const sdk = (): Promise<typeof Sdk> => import('@aws-sdk/client-s3');

async function connect({ s3 = {}, silenceMs = SILENCE_MS }: RemoteOptions): Promise<S3Client> {
  const { S3Client } = await sdk();
  return new S3Client({
    // Signatures name a region also where the server has none.
    region: s3.region ?? 'us-east-1',
    ...(s3.endpoint === undefined ? {} : { endpoint: s3.endpoint, forcePathStyle: true }),
    maxAttempts: 3,
    requestHandler: { connectionTimeout: CONNECT_MS, requestTimeout: silenceMs },
    // Some servers do not know the checksums that newer SDKs ask for.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
  });
}

function s3Error(error: unknown, label: string, signal: AbortSignal | undefined): Error {
  if (signal?.aborted === true) return signal.reason as Error;
  if (error instanceof MillraceError) return error;
  const name = error instanceof Error ? error.name : '';
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const status = (error as { readonly $metadata?: { readonly httpStatusCode?: number } }).$metadata?.httpStatusCode;
  if (['ENOSPC', 'EDQUOT', 'EFBIG'].includes(code)) return new MillraceError('DISK_FULL', 'The disk was full while a source was fetched.', { cause: error });
  if (name === 'NoSuchBucket') return notFound(label, 'There is no such bucket.');
  if (name === 'NoSuchKey' || name === 'NotFound' || status === 404) return notFound(label, 'There is no such object.');
  if (status === 412) return changedWhileRead(label);
  if (/Credentials|SSO|Token(?:Refresh|Provider)/.test(name))
    return notFound(label, 'There are no credentials for it.', 'Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, where the worker runs.');
  if (status === 401 || status === 403) return notFound(label, 'The credentials may not read it.', 'Check the key that the worker has, and its rights.');
  if (code === 'ENOTFOUND') return notFound(label, 'There is no server of that name.', 'Check S3_ENDPOINT.');
  if (status !== undefined && status >= 400 && status < 500 && status !== 408 && status !== 429) return notFound(label, `The store answers ${status}.`);
  return unavailable(label, status === undefined ? `The connection failed${code === '' ? '' : ` (${code})`}.` : `The store answers ${status}.`);
}

/**
 * The objects that `s3://bucket/key-or-glob` means, in the order of their keys.
 * @throws MillraceError SOURCE_NOT_FOUND, SOURCE_UNAVAILABLE
 */
export async function findS3Files(address: string, options: RemoteOptions): Promise<{ readonly files: readonly RemoteFile[]; readonly close: () => void }> {
  const [, bucket, rest = ''] = /^s3:\/\/([^/]+)\/(.*)$/is.exec(address) ?? [];
  if (bucket === undefined || rest === '' || rest.endsWith('/'))
    throw notFound(address, 'It does not have the form s3://bucket/key.', 'Name an object, or a glob such as s3://bucket/folder/*.csv.');
  const client = await connect(options);
  try {
    const segments = rest.split('/');
    const fixedCount = segments.findIndex((segment) => GLOB.test(segment));
    const prefix = segments
      .slice(0, fixedCount === -1 ? -1 : fixedCount)
      .map((segment) => `${segment}/`)
      .join('');
    const listed =
      fixedCount === -1 ? [await headObject(client, { bucket, key: rest }, options)] : await listObjects(client, { bucket, key: rest }, prefix, options);
    const files = listed.map(({ key, tag, identity }): RemoteFile => {
      const label = `s3://${bucket}/${key}`;
      return {
        label,
        relativePath: key.slice(prefix.length),
        identity,
        download: (path, room) => download(client, { bucket, key }, tag, label, path, room, options),
      };
    });
    if (files.length === 0) throw notFound(address, 'No object matches.');
    return {
      files,
      close: () => {
        client.destroy();
      },
    };
  } catch (error) {
    client.destroy();
    throw s3Error(error, address, options.signal);
  }
}

interface FoundObject {
  readonly key: string;
  readonly tag: string;
  readonly identity: string;
}

function found(key: string, tag: string | undefined, sizeBytes: number | undefined, changed: Date | undefined): FoundObject {
  return { key, tag: tag ?? '', identity: `etag ${tag ?? ''} ${sizeBytes ?? 0} ${changed?.toISOString() ?? ''}` };
}

const abortable = ({ signal }: RemoteOptions): { readonly abortSignal?: AbortSignal } => (signal === undefined ? {} : { abortSignal: signal });

async function headObject(client: S3Client, { bucket, key }: ObjectPlace, options: RemoteOptions): Promise<FoundObject> {
  const { HeadObjectCommand } = await sdk();
  const head = await client.send(new HeadObjectCommand({ Bucket: bucket, Key: key }), abortable(options));
  return found(key, head.ETag, head.ContentLength, head.LastModified);
}

async function listObjects(client: S3Client, { bucket, key: glob }: ObjectPlace, prefix: string, options: RemoteOptions): Promise<readonly FoundObject[]> {
  const { paginateListObjectsV2 } = await sdk();
  const matches = keyMatcher(glob);
  const objects: FoundObject[] = [];
  for await (const page of paginateListObjectsV2({ client }, { Bucket: bucket, Prefix: prefix }, abortable(options))) {
    for (const { Key = '', ETag, Size, LastModified } of page.Contents ?? []) if (matches(Key)) objects.push(found(Key, ETag, Size, LastModified));
  }
  return objects.sort((a, b) => Buffer.compare(Buffer.from(a.key), Buffer.from(b.key)));
}

/** Whether a key matches a glob; `**` stands for any number of folders. */
export function keyMatcher(glob: string): (key: string) => boolean {
  const patterns = glob.split('/').map((segment) => (segment === '**' ? '**' : globPattern(segment)));
  const matches = (parts: readonly string[], at: number, from: number): boolean => {
    const pattern = patterns[at];
    if (pattern === undefined) return from === parts.length;
    if (pattern === '**') {
      for (let next = from; next <= parts.length; next++) if (matches(parts, at + 1, next)) return true;
      return at === patterns.length - 1 && parts.length > from;
    }
    const part = parts[from];
    return part !== undefined && pattern.test(part) && matches(parts, at + 1, from + 1);
  };
  return (key) => matches(key.split('/'), 0, 0);
}

async function download(
  client: S3Client,
  { bucket, key }: ObjectPlace,
  tag: string,
  label: string,
  path: string,
  room: number,
  options: RemoteOptions,
): Promise<DownloadedFile> {
  const { GetObjectCommand } = await sdk();
  const { signal } = options;
  let haveBytes = 0;
  for (let attempt = 0; ; attempt++) {
    try {
      const range = haveBytes > 0 ? { Range: `bytes=${haveBytes}-` } : {};
      const answer = await client.send(
        new GetObjectCommand({ Bucket: bucket, Key: key, ...(tag === '' ? {} : { IfMatch: tag }), ...range }),
        abortable(options),
      );
      if (answer.ETag !== undefined && tag !== '' && answer.ETag !== tag) throw changedWhileRead(label);
      const whole = haveBytes + (answer.ContentLength ?? 0);
      if (whole > room) throw tooLarge(label);
      let bytes = haveBytes;
      const counted = new Transform({
        transform(chunk: Buffer, _encoding, done) {
          bytes += chunk.length;
          if (bytes > room) done(tooLarge(label));
          else done(null, chunk);
        },
      });
      const file = createWriteStream(path, { flags: haveBytes > 0 ? 'a' : 'w', mode: 0o600 });
      await pipeline(answer.Body as Readable, counted, file, signal === undefined ? {} : { signal });
      if (answer.ContentLength !== undefined && bytes !== whole) throw unavailable(label, 'It ended before its end.');
      const { ContentEncoding: packing } = answer;
      return { sizeBytes: bytes, ...(packing === 'gzip' || packing === 'zstd' ? { packing } : {}) };
    } catch (error) {
      const failure = s3Error(error, label, signal);
      if (!(failure instanceof MillraceError && failure.code === 'SOURCE_UNAVAILABLE') || attempt >= RESUMES) throw failure;
      haveBytes = await stat(path).then(
        ({ size }) => size,
        () => 0,
      );
    }
  }
}
