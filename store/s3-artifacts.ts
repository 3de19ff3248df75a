import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { open, rm, stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type * as Sdk from '@aws-sdk/client-s3';
import type { S3Client } from '@aws-sdk/client-s3';
import { MillraceError } from '../contracts/errors.ts';
import type { Artifacts, ListedArtifact, StoredArtifact } from './artifacts.ts';

/**
 * Artifacts in a store that speaks S3, with a folder beside it as a cache by hash.
 *
 * Invariants:
 * 1. An object stands under its final name only when it is whole: it is sent by one PUT, or in parts that are completed
 *    together; each part carries its MD5. What was put is in the store before `put…` answers.
 * 2. Nothing is handed out unchecked: what is fetched is held against its hash before the cache takes it over.
 * 3. When an artifact was last kept stands in an empty object of its own (`used/SHA256`): contents are never written twice.
 * 4. Removing copies aside first, and looks at the use once more when the name is free: what was kept meanwhile comes back.
 *    Objects above 5 GB, which no store copies in one request, are removed at once.
 * 5. Credentials come from the SDK's own chain; none stands in an address, an error or a log.
 */
export interface S3Place {
  readonly bucket: string;
  /** Without slashes at its ends; may be empty. */
  readonly prefix: string;
  readonly endpoint: string | undefined;
  readonly region: string;
  /** Folder of the cache. */
  readonly cache: string;
}

const CONNECT_MS = 10_000;
const SILENCE_MS = 60_000;
const ATTEMPTS = 5;
const SINGLE_PUT_BYTES = 16 * 2 ** 20;
const MOST_PARTS = 9_000;
const PARTS_AT_ONCE = 3;
const COPY_BYTES = 5 * 10 ** 9;
/** As in a folder: use within so long of the last one is not noted again. */
const USE_NOTED_EVERY_MS = 3_600_000;
const SHA256 = /^[0-9a-f]{64}$/;

/** The place that an address names: `s3://BUCKET/PREFIX?cache=FOLDER&endpoint=…&region=…`. */
export function parseS3Address(address: string): S3Place {
  const url = new URL(address);
  const of = (name: string): string | undefined => url.searchParams.get(name) ?? undefined;
  return {
    bucket: url.hostname,
    prefix: decodeURIComponent(url.pathname).replace(/^\/+|\/+$/g, ''),
    endpoint: of('endpoint'),
    region: of('region') ?? 'us-east-1',
    cache: of('cache') ?? '',
  };
}

/** The address that `parseS3Address` reads: what another process or thread needs to open the same store. */
export function s3Address({ bucket, prefix, endpoint, region, cache }: S3Place): string {
  const query = new URLSearchParams({ cache, region, ...(endpoint === undefined ? {} : { endpoint }) });
  return `s3://${bucket}/${prefix.split('/').map(encodeURIComponent).join('/')}?${query.toString()}`;
}

const statusOf = (error: unknown): number | undefined =>
  (error as { readonly $metadata?: { readonly httpStatusCode?: number } } | null | undefined)?.$metadata?.httpStatusCode;
const isMissing = (error: unknown): boolean =>
  error instanceof Error && (error.name === 'NoSuchKey' || error.name === 'NotFound' || (statusOf(error) === 404 && error.name !== 'NoSuchBucket'));

function unavailable(error: unknown, doing: string): MillraceError {
  if (error instanceof MillraceError) return error;
  const name = error instanceof Error ? error.name : '';
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (['ENOSPC', 'EDQUOT', 'EFBIG'].includes(code)) return new MillraceError('DISK_FULL', undefined, { cause: error });
  const status = statusOf(error);
  const told = (message: string, fix: string): MillraceError => new MillraceError('ARTIFACTS_UNAVAILABLE', `${message} (${doing})`, { fix, cause: error });
  if (name === 'NoSuchBucket') return told('The bucket of the artifacts does not exist', 'Make it, or correct MILLRACE_ARTIFACTS.');
  if (/Credentials|SSO|Token(?:Refresh|Provider)/.test(name))
    return told(
      'There are no credentials for the bucket of the artifacts',
      'Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, for every process of Millrace.',
    );
  if (status === 401 || status === 403)
    return told(
      'The credentials may not use the bucket of the artifacts',
      'They need s3:GetObject, PutObject, DeleteObject, ListBucket and AbortMultipartUpload.',
    );
  return told(`The store of the artifacts does not answer: ${status ?? (code || name)}`, 'Check S3_ENDPOINT, and that this machine reaches it.');
}

/** The SDK is large: it is loaded when the store is first asked. */
async function connect({ region, endpoint }: S3Place): Promise<{ readonly s3: typeof Sdk; readonly client: S3Client }> {
  const s3 = await import('@aws-sdk/client-s3');
  const client = new s3.S3Client({
    region,
    ...(endpoint === undefined ? {} : { endpoint, forcePathStyle: true }),
    maxAttempts: ATTEMPTS,
    requestHandler: { connectionTimeout: CONNECT_MS, requestTimeout: SILENCE_MS },
    // some servers do not know the checksums that newer SDKs add by themselves
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
  });
  return { s3, client };
}

/** The artifact store in a bucket. Nothing is asked of it before the first call. */
export function createS3Artifacts(place: S3Place, cache: Artifacts): Artifacts {
  const { bucket, prefix } = place;
  const at = (path: string): string => (prefix === '' ? path : `${prefix}/${path}`);
  const contentKey = (sha256: string): string => at(`sha256/${sha256.slice(0, 2)}/${sha256.slice(2)}`);
  const useKey = (sha256: string): string => at(`used/${sha256}`);
  const asideKey = (sha256: string): string => at(`collected/${sha256}`);
  const fetching = new Map<string, Promise<string>>();
  /** Noted in this process: when each was kept last. */
  const keptAt = new Map<string, number>();

  let opened: ReturnType<typeof connect> | undefined;
  const connection = () => (opened ??= connect(place));

  const requireName = (sha256: string): void => {
    if (!SHA256.test(sha256))
      throw new MillraceError('INVALID_REQUEST', 'An artifact is named by 64 hex digits.', {
        problems: [{ path: 'sha256', message: 'is not a SHA-256', found: sha256.slice(0, 100) }],
      });
  };

  /** Size and time of an object; null when it is not there. */
  const head = async (key: string): Promise<{ readonly sizeBytes: number; readonly changedMs: number } | null> => {
    const { s3, client } = await connection();
    try {
      const found = await client.send(new s3.HeadObjectCommand({ Bucket: bucket, Key: key }));
      return { sizeBytes: found.ContentLength ?? 0, changedMs: found.LastModified?.getTime() ?? 0 };
    } catch (error) {
      if (isMissing(error)) return null;
      throw unavailable(error, 'looking');
    }
  };

  const md5 = (bytes: Uint8Array): string => createHash('md5').update(bytes).digest('base64');

  const sendParts = async (path: string, key: string, sizeBytes: number): Promise<void> => {
    const { s3, client } = await connection();
    const partBytes = Math.max(SINGLE_PUT_BYTES, Math.ceil(sizeBytes / MOST_PARTS));
    const { UploadId } = await client.send(new s3.CreateMultipartUploadCommand({ Bucket: bucket, Key: key }));
    const file = await open(path, 'r');
    try {
      const count = Math.ceil(sizeBytes / partBytes);
      const parts: { ETag: string | undefined; PartNumber: number }[] = [];
      let next = 0;
      const sendOn = async (): Promise<void> => {
        for (let number = next++; number < count; number = next++) {
          const bytes = Buffer.alloc(Math.min(partBytes, sizeBytes - number * partBytes));
          for (let read = 0; read < bytes.length; ) {
            const { bytesRead } = await file.read(bytes, read, bytes.length - read, number * partBytes + read);
            if (bytesRead === 0) throw new MillraceError('ARTIFACT_CORRUPT', 'The file became shorter while it was sent.');
            read += bytesRead;
          }
          const { ETag } = await client.send(
            new s3.UploadPartCommand({ Bucket: bucket, Key: key, UploadId, PartNumber: number + 1, Body: bytes, ContentMD5: md5(bytes) }),
          );
          parts.push({ ETag, PartNumber: number + 1 });
        }
      };
      await Promise.all(Array.from({ length: PARTS_AT_ONCE }, sendOn));
      parts.sort((a, b) => a.PartNumber - b.PartNumber);
      await client.send(new s3.CompleteMultipartUploadCommand({ Bucket: bucket, Key: key, UploadId, MultipartUpload: { Parts: parts } }));
    } catch (error) {
      await client.send(new s3.AbortMultipartUploadCommand({ Bucket: bucket, Key: key, UploadId })).catch(() => undefined);
      throw error;
    } finally {
      await file.close();
    }
  };

  const noteUse = async (sha256: string): Promise<void> => {
    if (Date.now() - (keptAt.get(sha256) ?? 0) < USE_NOTED_EVERY_MS) return;
    const { s3, client } = await connection();
    await client.send(new s3.PutObjectCommand({ Bucket: bucket, Key: useKey(sha256), Body: Buffer.alloc(0) }));
    keptAt.set(sha256, Date.now());
  };

  /** Sends what the cache has just taken in, unless it is there. */
  const send = async (stored: StoredArtifact): Promise<StoredArtifact> => {
    const key = contentKey(stored.sha256);
    try {
      if ((await head(key))?.sizeBytes === stored.sizeBytes) {
        await noteUse(stored.sha256);
        // what a collection took away between the look and the note is sent after all
        if ((await head(key)) !== null) return stored;
      }
      const path = await cache.pathOf(stored.sha256);
      const { s3, client } = await connection();
      if (stored.sizeBytes > SINGLE_PUT_BYTES) await sendParts(path, key, stored.sizeBytes);
      else {
        const bytes = await cache.getBytes(stored.sha256);
        await client.send(new s3.PutObjectCommand({ Bucket: bucket, Key: key, Body: bytes, ContentMD5: md5(bytes) }));
      }
      return stored;
    } catch (error) {
      throw unavailable(error, 'writing');
    }
  };

  /** The object's bytes into a file; a connection that breaks is gone on with. Null when there is no object. */
  const fetchInto = async (key: string, path: string): Promise<boolean> => {
    const { s3, client } = await connection();
    let tag: string | undefined;
    let whole: number | undefined;
    for (let attempt = 1; ; attempt++) {
      const from = await stat(path).then(
        ({ size }) => size,
        () => 0,
      );
      if (whole !== undefined && from >= whole) return true;
      try {
        const { Body, ETag, ContentLength } = await client.send(
          new s3.GetObjectCommand({ Bucket: bucket, Key: key, ...(from > 0 && tag !== undefined ? { Range: `bytes=${from}-`, IfMatch: tag } : {}) }),
        );
        if (tag === undefined || from === 0) whole = ContentLength;
        tag = ETag;
        await pipeline(Body as Readable, createWriteStream(path, { flags: from > 0 ? 'a' : 'w' }));
        if (whole === undefined) return true;
      } catch (error) {
        if (isMissing(error)) return false;
        if (statusOf(error) === 412 || statusOf(error) === 416) await rm(path, { force: true });
        else if (attempt >= ATTEMPTS || statusOf(error) === 403) throw unavailable(error, 'reading');
      }
      if (attempt >= 2 * ATTEMPTS) throw unavailable(new Error('interrupted'), 'reading');
    }
  };

  const fetchOne = async (sha256: string): Promise<string> => {
    const path = await cache.temporaryFile('.fetched');
    try {
      if (!(await fetchInto(contentKey(sha256), path)))
        throw new MillraceError('ARTIFACT_MISSING', undefined, { problems: [{ path: 'sha256', message: 'is not there', found: sha256 }] });
      const hash = createHash('sha256');
      for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) hash.update(chunk);
      if (hash.digest('hex') !== sha256)
        throw new MillraceError('ARTIFACT_CORRUPT', undefined, { problems: [{ path: 'sha256', message: 'has other content', found: sha256 }] });
      await cache.putFile(path);
      return await cache.pathOf(sha256);
    } finally {
      await rm(path, { force: true });
    }
  };

  const pathOf = async (sha256: string): Promise<string> => {
    requireName(sha256);
    // what of the cache is missing or damaged is fetched anew
    if (await cache.has(sha256)) return cache.pathOf(sha256);
    const under = fetching.get(sha256) ?? fetchOne(sha256).finally(() => fetching.delete(sha256));
    fetching.set(sha256, under);
    return under;
  };

  async function* objects(folder: string): AsyncGenerator<{ readonly key: string; readonly sizeBytes: number; readonly changedMs: number }> {
    const { s3, client } = await connection();
    const Prefix = at(`${folder}/`);
    try {
      for await (const page of s3.paginateListObjectsV2({ client }, { Bucket: bucket, Prefix }))
        for (const { Key = '', Size = 0, LastModified } of page.Contents ?? [])
          yield { key: Key.slice(Prefix.length), sizeBytes: Size, changedMs: LastModified?.getTime() ?? 0 };
    } catch (error) {
      throw unavailable(error, 'listing');
    }
  }

  const copy = async (from: string, to: string): Promise<void> => {
    const { s3, client } = await connection();
    await client.send(new s3.CopyObjectCommand({ Bucket: bucket, Key: to, CopySource: `${bucket}/${from.split('/').map(encodeURIComponent).join('/')}` }));
  };
  const drop = async (key: string): Promise<void> => {
    const { s3, client } = await connection();
    await client.send(new s3.DeleteObjectCommand({ Bucket: bucket, Key: key }));
  };

  return {
    root: s3Address(place),
    pathOf,
    putFile: async (path) => send(await cache.putFile(path)),
    putStream: async (chunks) => send(await cache.putStream(chunks)),
    putBytes: async (bytes) => send(await cache.putBytes(bytes)),
    putJson: async (value) => send(await cache.putJson(value)),
    async getJson(sha256) {
      await pathOf(sha256);
      return cache.getJson(sha256);
    },
    async getBytes(sha256) {
      await pathOf(sha256);
      return cache.getBytes(sha256);
    },
    async has(sha256) {
      requireName(sha256);
      return (await head(contentKey(sha256))) !== null;
    },
    async keep(sha256) {
      if (!SHA256.test(sha256)) return false;
      try {
        // noted first: a collection that looks after this keeps it, one that looked before is seen by the second request
        await noteUse(sha256);
        return (await head(contentKey(sha256))) !== null;
      } catch (error) {
        throw unavailable(error, 'keeping');
      }
    },
    async read(sha256) {
      if (await cache.has(sha256)) return cache.read(sha256);
      const { s3, client } = await connection();
      try {
        const { Body } = await client.send(new s3.GetObjectCommand({ Bucket: bucket, Key: contentKey(sha256) }));
        return Body as Readable;
      } catch (error) {
        if (isMissing(error)) return undefined;
        throw unavailable(error, 'reading');
      }
    },
    async *list() {
      const used = new Map<string, number>();
      for await (const { key, changedMs } of objects('used')) used.set(key, changedMs);
      for await (const { key, sizeBytes, changedMs } of objects('sha256')) {
        const sha256 = key.replace('/', '');
        if (SHA256.test(sha256)) yield { sha256, sizeBytes, usedAtMs: Math.max(changedMs, used.get(sha256) ?? 0) } satisfies ListedArtifact;
      }
    },
    async remove(sha256, usedBeforeMs) {
      requireName(sha256);
      const key = contentKey(sha256);
      const isUsed = async (): Promise<boolean> => ((await head(useKey(sha256)))?.changedMs ?? 0) >= usedBeforeMs;
      try {
        const found = await head(key);
        if (found === null || found.changedMs >= usedBeforeMs || (await isUsed())) return false;
        const isCopied = found.sizeBytes <= COPY_BYTES;
        if (isCopied) await copy(key, asideKey(sha256));
        await drop(key);
        if (isCopied && (await isUsed())) {
          await copy(asideKey(sha256), key);
          await drop(asideKey(sha256));
          return false;
        }
        if (isCopied) await drop(asideKey(sha256));
        await drop(useKey(sha256));
        keptAt.delete(sha256);
        await cache.remove(sha256, Number.POSITIVE_INFINITY);
        return true;
      } catch (error) {
        throw unavailable(error, 'removing');
      }
    },
    temporaryFile: (suffix) => cache.temporaryFile(suffix),
    cleanAbandoned: () => cache.cleanAbandoned(),
    async cleanTemporary(olderThanMs) {
      const { s3, client } = await connection();
      let removed = await cache.cleanTemporary(olderThanMs);
      try {
        const { Uploads = [] } = await client.send(new s3.ListMultipartUploadsCommand({ Bucket: bucket, Prefix: at('sha256/') }));
        for (const { Key, UploadId, Initiated } of Uploads) {
          if (Date.now() - (Initiated?.getTime() ?? Date.now()) < olderThanMs) continue;
          await client.send(new s3.AbortMultipartUploadCommand({ Bucket: bucket, Key, UploadId }));
          removed++;
        }
      } catch (error) {
        throw unavailable(error, 'cleaning');
      }
      return removed;
    },
  };
}

/** Asks the store once, so that a bucket that cannot be used is known at start. @throws ARTIFACTS_UNAVAILABLE */
export async function checkS3(place: S3Place): Promise<void> {
  const { s3, client } = await connect(place);
  try {
    await client.send(new s3.ListObjectsV2Command({ Bucket: place.bucket, Prefix: place.prefix, MaxKeys: 1 }));
  } catch (error) {
    throw unavailable(error, 'opening');
  } finally {
    client.destroy();
  }
}
