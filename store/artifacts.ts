import { createHash, randomUUID } from 'node:crypto';
import { createReadStream, readlinkSync } from 'node:fs';
import { type FileHandle, link, mkdir, open, readdir, readFile, rename, rm, stat, utimes } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join, resolve, sep } from 'node:path';
import type { Readable } from 'node:stream';
import { canonicalJson } from '../contracts/canonical-json.ts';
import { MillraceError } from '../contracts/errors.ts';
import { checkS3, createS3Artifacts, parseS3Address } from './s3-artifacts.ts';

/**
 * Artifacts: bytes named by their SHA-256, in a folder.
 *
 * Invariants:
 * 1. A file stands under its final name only when its content is whole and on disk: it is written under `<root>/tmp`,
 *    synced, renamed, and the folder's entry is synced too. Putting the same content again changes nothing.
 * 2. Files under final names are read-only, and never written again.
 * 3. Nothing is handed out unchecked: a file's hash is computed when it is first asked for, and again whenever its inode,
 *    size or time of change is another one.
 * 4. A failed write leaves nothing under a final name, and no temporary file.
 * 5. A file's time of change is when it was last put or kept, to an hour. Removing looks at it once more after the file
 *    has left its name, and gives back what was used meanwhile: whoever finds a file after its removal began, finds nothing.
 */
export interface Artifacts {
  /** The folder in which everything lies, or the address of the store: what `openArtifacts` opens elsewhere. */
  readonly root: string;
  /** The path of an artifact, checked. For reading only. @throws ARTIFACT_MISSING, ARTIFACT_CORRUPT */
  pathOf(sha256: string): Promise<string>;
  /**
   * Takes a file in. One made by `temporaryFile` is moved, any other is copied. @throws DISK_FULL, SOURCE_NOT_FOUND
   */
  putFile(path: string): Promise<StoredArtifact>;
  /** Takes in what a stream gives, piece by piece; one that breaks off leaves nothing. @throws DISK_FULL */
  putStream(chunks: AsyncIterable<Uint8Array>): Promise<StoredArtifact>;
  /** @throws DISK_FULL */
  putBytes(bytes: Uint8Array): Promise<StoredArtifact>;
  /** Takes a JSON value in as its canonical text. @throws DISK_FULL, TypeError for what JSON cannot say */
  putJson(value: unknown): Promise<StoredArtifact>;
  /** @throws ARTIFACT_MISSING, ARTIFACT_CORRUPT (also when it is not JSON) */
  getJson(sha256: string): Promise<unknown>;
  /** @throws ARTIFACT_MISSING, ARTIFACT_CORRUPT */
  getBytes(sha256: string): Promise<Buffer>;
  /** Whether an artifact is there and, in a folder, what it should be: one in S3 is held against its name when it is fetched. */
  has(sha256: string): Promise<boolean>;
  /** As `has`; and what is there counts as used now. Retention leaves alone what was used of late. */
  keep(sha256: string): Promise<boolean>;
  /** Its bytes, unchecked; undefined when it is not there. Whoever does not read to the end destroys the stream. */
  read(sha256: string): Promise<Readable | undefined>;
  /** Every artifact, unchecked. */
  list(): AsyncGenerator<ListedArtifact>;
  /** Removes an artifact unless it was used at or after an instant (ms). Whether it was removed. */
  remove(sha256: string, usedBeforeMs: number): Promise<boolean>;
  /** A path for a new file on the same disk as the artifacts, which `putFile` can then move. Nothing is made there yet. */
  temporaryFile(suffix: string): Promise<string>;
  /** Removes temporary files that were not touched for so long, and says how many: what killed attempts left. */
  cleanTemporary(olderThanMs: number): Promise<number>;
  /** Removes temporary files whose process of this machine (or container) has ended, however young, and says how many. Others stay. */
  cleanAbandoned(): Promise<number>;
}

export interface StoredArtifact {
  readonly sha256: string;
  readonly sizeBytes: number;
}

export interface ListedArtifact extends StoredArtifact {
  /** When it was last put or kept, to an hour. */
  readonly usedAtMs: number;
}

const CHUNK_BYTES = 1 << 20;
/** Use within so long of the last one is not noted again: a new time of change makes every process hash the file anew. */
const USE_NOTED_EVERY_MS = 3_600_000;
const READ_ONLY = 0o444;
const SHA256 = /^[0-9a-f]{64}$/;

/** Where numbers of processes mean the same as here: the machine, and on Linux the namespace of its processes. */
const PLACE = createHash('sha256').update(`${hostname()} ${processNamespace()}`).digest('hex').slice(0, 12);
const TEMPORARY = /^([0-9a-f]{12})-(\d+)-/;
/** Files of an earlier process of this one's number were last written before this one began. */
const BEGAN_MS = Date.now() - process.uptime() * 1_000;

function processNamespace(): string {
  try {
    return readlinkSync('/proc/self/ns/pid');
  } catch {
    return '';
  }
}

/** Whether a process is there; one that may not be signalled is. */
function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return codeOf(error) !== 'ESRCH';
  }
}

const codeOf = (error: unknown): string => (error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '');

/** What a failing disk means. Any other failure is the machine's, and stays without its path. */
function fromDisk(error: unknown, doing: string): MillraceError {
  if (error instanceof MillraceError) return error;
  const code = codeOf(error);
  if (code === 'ENOSPC' || code === 'EDQUOT' || code === 'EFBIG') return new MillraceError('DISK_FULL', undefined, { cause: error });
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS')
    return new MillraceError('INTERNAL', `The artifact store may not be written (${code}, ${doing}).`, {
      fix: 'Check who owns the folder of the artifacts, and that its disk is writable.',
      cause: error,
    });
  return new MillraceError('INTERNAL', `The artifact store failed (${code || 'no code'}, ${doing}).`, { cause: error });
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function hashFile(path: string): Promise<StoredArtifact> {
  const hash = createHash('sha256');
  let sizeBytes = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: CHUNK_BYTES }) as AsyncIterable<Buffer>) {
    hash.update(chunk);
    sizeBytes += chunk.length;
  }
  return { sha256: hash.digest('hex'), sizeBytes };
}

async function writeAll(handle: FileHandle, chunk: Uint8Array): Promise<void> {
  for (let at = 0; at < chunk.length; ) at += (await handle.write(chunk, at, chunk.length - at)).bytesWritten;
}

/** The artifact store that an address names: a folder, or `s3://…` (store/s3-artifacts.ts). Nothing is made before the first write. */
export function createArtifacts({ root }: { readonly root: string }): Artifacts {
  if (!root.startsWith('s3://')) return createFolderArtifacts({ root });
  const place = parseS3Address(root);
  return createS3Artifacts(place, createFolderArtifacts({ root: place.cache }));
}

/** The artifact store in a folder. A reader needs no right to write. */
function createFolderArtifacts(options: { readonly root: string }): Artifacts {
  const root = resolve(options.root);
  const temporaryFolder = join(root, 'tmp');
  const checked = new Map<string, string>();
  const folderOf = (sha256: string): string => join(root, 'sha256', sha256.slice(0, 2));
  const finalPath = (sha256: string): string => join(folderOf(sha256), sha256.slice(2));
  const newTemporary = (suffix: string): string => join(temporaryFolder, `${PLACE}-${String(process.pid)}-${randomUUID()}${suffix}`);

  /** What changes when a file's content does. */
  const identity = async (path: string): Promise<string> => {
    const { ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
    return `${ino} ${size} ${mtimeNs} ${ctimeNs}`;
  };

  const verify = async (sha256: string): Promise<string> => {
    if (!SHA256.test(sha256))
      throw new MillraceError('INVALID_REQUEST', 'An artifact is named by 64 hex digits.', {
        problems: [{ path: 'sha256', message: 'is not a SHA-256', found: sha256.slice(0, 100) }],
      });
    const path = finalPath(sha256);
    try {
      const now = await identity(path);
      if (checked.get(sha256) === now) return path;
      if ((await hashFile(path)).sha256 !== sha256) {
        checked.delete(sha256);
        throw new MillraceError('ARTIFACT_CORRUPT', undefined, { problems: [{ path: 'sha256', message: 'has other content', found: sha256 }] });
      }
      checked.set(sha256, now);
      return path;
    } catch (error) {
      if (codeOf(error) === 'ENOENT')
        throw new MillraceError('ARTIFACT_MISSING', undefined, { problems: [{ path: 'sha256', message: 'is not there', found: sha256 }] });
      throw fromDisk(error, 'reading');
    }
  };

  /** Notes that an artifact, just checked, is used. */
  const noteUse = async (sha256: string): Promise<void> => {
    const path = finalPath(sha256);
    const now = new Date();
    if (now.getTime() - (await stat(path)).mtimeMs < USE_NOTED_EVERY_MS) return;
    try {
      await utimes(path, now, now);
    } catch (error) {
      // Somebody else's file, or a disk that cannot be written: nothing can be removed there either.
      if (codeOf(error) === 'EPERM' || codeOf(error) === 'EACCES' || codeOf(error) === 'EROFS') return;
      throw error;
    }
    checked.set(sha256, await identity(path));
  };

  const keep = async (sha256: string): Promise<boolean> => {
    try {
      await verify(sha256);
      await noteUse(sha256);
      return true;
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return false;
      if (error instanceof MillraceError && (error.code === 'ARTIFACT_MISSING' || error.code === 'ARTIFACT_CORRUPT')) return false;
      throw fromDisk(error, 'keeping');
    }
  };

  /** Gives a whole, synced temporary file its final name. */
  const adopt = async (temporary: string, stored: StoredArtifact): Promise<StoredArtifact> => {
    const path = finalPath(stored.sha256);
    // A good copy is there: it stays, with its identity. A damaged one is replaced by this good one.
    if (await keep(stored.sha256).catch(() => false)) {
      await rm(temporary, { force: true });
      return stored;
    }
    const firstMade = await mkdir(folderOf(stored.sha256), { recursive: true });
    await rename(temporary, path);
    await syncFolder(folderOf(stored.sha256));
    // A new folder is an entry of its parent, which has to be on disk too.
    if (firstMade !== undefined) for (const folder of [join(root, 'sha256'), root, dirname(firstMade)]) await syncFolder(folder);
    checked.set(stored.sha256, await identity(path));
    return stored;
  };

  /** Writes chunks to a temporary file, hashing on the way, and adopts it. */
  const putChunks = async (chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<StoredArtifact> => {
    const temporary = newTemporary('.part');
    try {
      await mkdir(temporaryFolder, { recursive: true });
      const hash = createHash('sha256');
      let sizeBytes = 0;
      const handle = await open(temporary, 'wx', 0o600);
      try {
        for await (const chunk of chunks) {
          hash.update(chunk);
          await writeAll(handle, chunk);
          sizeBytes += chunk.length;
        }
        await handle.chmod(READ_ONLY);
        await handle.sync();
      } finally {
        await handle.close();
      }
      return await adopt(temporary, { sha256: hash.digest('hex'), sizeBytes });
    } catch (error) {
      await rm(temporary, { force: true });
      throw fromDisk(error, 'writing');
    }
  };

  /** A file of ours becomes the artifact itself, without its bytes being copied. */
  const move = async (path: string): Promise<StoredArtifact> => {
    const handle = await open(path, 'r');
    try {
      await handle.chmod(READ_ONLY);
      await handle.sync();
    } finally {
      await handle.close();
    }
    // Under a second name while it is hashed and renamed: an attempt that was thought dead cannot take it away.
    const temporary = newTemporary('.part');
    try {
      await link(path, temporary);
      await rm(path);
      return await adopt(temporary, await hashFile(temporary));
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  };

  const store: Artifacts = {
    root,
    pathOf: verify,
    async putFile(path) {
      try {
        if (!(await stat(path)).isFile()) throw new MillraceError('SOURCE_NOT_FOUND', 'What should be stored is not a file.');
        if (resolve(path).startsWith(temporaryFolder + sep)) return await move(path);
        return await putChunks(createReadStream(path, { highWaterMark: CHUNK_BYTES }) as AsyncIterable<Buffer>);
      } catch (error) {
        if (codeOf(error) === 'ENOENT') throw new MillraceError('SOURCE_NOT_FOUND', 'The file that should be stored is not there.', { cause: error });
        throw fromDisk(error, 'taking a file in');
      }
    },
    putStream: (chunks) => putChunks(chunks),
    putBytes: (bytes) => putChunks([bytes]),
    async putJson(value) {
      return putChunks([Buffer.from(canonicalJson(value))]);
    },
    async getJson(sha256) {
      const path = await verify(sha256);
      try {
        return JSON.parse(await readFile(path, 'utf8')) as unknown;
      } catch (error) {
        if (error instanceof SyntaxError)
          throw new MillraceError('ARTIFACT_CORRUPT', 'The artifact is not JSON.', { problems: [{ path: 'sha256', message: 'is not JSON', found: sha256 }] });
        throw fromDisk(error, 'reading');
      }
    },
    async getBytes(sha256) {
      const path = await verify(sha256);
      try {
        return await readFile(path);
      } catch (error) {
        throw fromDisk(error, 'reading');
      }
    },
    async has(sha256) {
      try {
        await verify(sha256);
        return true;
      } catch (error) {
        if (error instanceof MillraceError && (error.code === 'ARTIFACT_MISSING' || error.code === 'ARTIFACT_CORRUPT')) return false;
        throw error;
      }
    },
    keep,
    async read(sha256) {
      if (!SHA256.test(sha256)) return undefined;
      const handle = await open(finalPath(sha256), 'r').catch((error: unknown) => {
        if (codeOf(error) === 'ENOENT') return undefined;
        throw fromDisk(error, 'reading');
      });
      return handle?.createReadStream();
    },
    async *list() {
      for (const folder of (await readdir(join(root, 'sha256')).catch(() => [])).sort()) {
        for (const rest of (await readdir(join(root, 'sha256', folder)).catch(() => [])).sort()) {
          if (!SHA256.test(folder + rest)) continue;
          const found = await stat(finalPath(folder + rest)).catch(() => undefined);
          if (found?.isFile() === true) yield { sha256: folder + rest, sizeBytes: found.size, usedAtMs: found.mtimeMs };
        }
      }
    },
    async remove(sha256, usedBeforeMs) {
      const path = finalPath(sha256);
      const aside = newTemporary('.collected');
      try {
        if ((await stat(path)).mtimeMs >= usedBeforeMs) return false;
        await mkdir(temporaryFolder, { recursive: true });
        await rename(path, aside);
        if ((await stat(aside)).mtimeMs >= usedBeforeMs) {
          await rename(aside, path);
          return false;
        }
        await rm(aside, { force: true });
        checked.delete(sha256);
        return true;
      } catch (error) {
        if (codeOf(error) === 'ENOENT') return false;
        throw fromDisk(error, 'removing');
      }
    },
    async temporaryFile(suffix) {
      try {
        await mkdir(temporaryFolder, { recursive: true });
      } catch (error) {
        throw fromDisk(error, 'making its folder');
      }
      return newTemporary(suffix);
    },
    async cleanAbandoned() {
      let removed = 0;
      for (const name of await readdir(temporaryFolder).catch(() => [])) {
        const [, place, pid] = TEMPORARY.exec(name) ?? [];
        if (place !== PLACE) continue;
        const path = join(temporaryFolder, name);
        if (Number(pid) === process.pid) {
          const writtenMs = await stat(path).then(
            ({ mtimeMs }) => mtimeMs,
            () => Number.POSITIVE_INFINITY,
          );
          if (writtenMs >= BEGAN_MS) continue;
        } else if (isRunning(Number(pid))) continue;
        await rm(path, { recursive: true, force: true });
        removed++;
      }
      return removed;
    },
    async cleanTemporary(olderThanMs) {
      let removed = 0;
      for (const name of await readdir(temporaryFolder).catch(() => [])) {
        const path = join(temporaryFolder, name);
        const age = await stat(path).then(
          (s) => Date.now() - s.mtimeMs,
          () => -1,
        );
        if (age < 0 || age < olderThanMs) continue;
        await rm(path, { recursive: true, force: true });
        removed++;
      }
      return removed;
    },
  };
  return store;
}

/** As `createArtifacts`, tried at once: a folder that cannot be written, or a bucket that cannot be used, is known at start. */
export async function openArtifacts(root: string): Promise<Artifacts> {
  const place = root.startsWith('s3://') ? parseS3Address(root) : undefined;
  if (place !== undefined) await checkS3(place);
  try {
    await mkdir(join(place?.cache ?? root, 'tmp'), { recursive: true });
  } catch (error) {
    throw fromDisk(error, 'making its folder');
  }
  return createArtifacts({ root });
}
