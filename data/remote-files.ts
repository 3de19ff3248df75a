/** Files of other machines: found without reading them, and brought to where DuckDB can read them. */
import { rename, rm, stat } from 'node:fs/promises';
import { MillraceError } from '../contracts/errors.ts';
import type { FileSource } from '../contracts/source.ts';
import type { ArtifactPort } from './artifact-port.ts';
import { findHttpFile } from './http-files.ts';
import { type RemoteFile, type RemoteOptions, spoolSuffix } from './remote-file.ts';
import { findS3Files } from './s3-files.ts';
import { notGiven, type SourceAccess, SPOOL_BYTES } from './source-access.ts';
import { findSourceFiles, type SourceFile } from './source-files.ts';

/** Requests about files that run at once. */
const ASKED_AT_ONCE = 8;

/** A file of a source, wherever it lies. */
export type FoundFile = { readonly kind: 'local'; readonly file: SourceFile } | { readonly kind: 'remote'; readonly file: RemoteFile };

export interface FoundFiles {
  readonly files: readonly FoundFile[];
  /** Closes connections. */
  readonly close: () => void;
}

const isHttp = (path: string): boolean => /^https?:\/\//i.test(path);
const isS3 = (path: string): boolean => /^s3:\/\//i.test(path);

/**
 * Finds the files of a source, in its order: that of the list, and of a glob's files that of their names.
 * @throws MillraceError SOURCE_NOT_FOUND, SOURCE_UNAVAILABLE
 */
export async function findFiles(source: FileSource, access: SourceAccess, signal?: AbortSignal): Promise<FoundFiles> {
  const paths = typeof source.path === 'string' ? [source.path] : [...new Set(source.path)];
  const options = remoteOptions(source, access, signal);
  const closing: (() => void)[] = [];
  const close = (): void => {
    for (const end of closing) end();
  };
  const find = async (path: string): Promise<readonly FoundFile[]> => {
    signal?.throwIfAborted();
    if (isHttp(path)) return [{ kind: 'remote', file: await findHttpFile(path, options) }];
    if (isS3(path)) {
      const { files, close: end } = await findS3Files(path, options);
      closing.push(end);
      return files.map((file) => ({ kind: 'remote', file }));
    }
    return (await findSourceFiles({ path, format: source.format }, access.projectFolder)).map((file) => ({ kind: 'local', file }));
  };
  try {
    const found: FoundFile[] = [];
    for (let from = 0; from < paths.length; from += ASKED_AT_ONCE) {
      found.push(...(await Promise.all(paths.slice(from, from + ASKED_AT_ONCE).map(find))).flat());
    }
    return { files: distinctLabels(found), close };
  } catch (error) {
    close();
    throw error;
  }
}

function remoteOptions({ authorization }: FileSource, access: SourceAccess, signal: AbortSignal | undefined): RemoteOptions {
  if (authorization !== undefined && access.secret === undefined) throw notGiven('access to variables');
  return {
    ...(authorization === undefined || access.secret === undefined ? {} : { authorization: access.secret(authorization) }),
    ...(access.s3 === undefined ? {} : { s3: access.s3 }),
    ...(access.silenceMs === undefined ? {} : { silenceMs: access.silenceMs }),
    ...(signal === undefined ? {} : { signal }),
  };
}

/** Addresses that differ only after their `?` have one label: the second one and those after it are numbered. */
function distinctLabels(files: readonly FoundFile[]): readonly FoundFile[] {
  const seen = new Map<string, number>();
  return files.map((found): FoundFile => {
    const count = (seen.get(found.file.label) ?? 0) + 1;
    seen.set(found.file.label, count);
    return count === 1 || found.kind === 'local' ? found : { kind: 'remote', file: { ...found.file, label: `${found.file.label} (${count})` } };
  });
}

export interface SpooledFiles {
  readonly files: readonly SourceFile[];
  /** Removes what was fetched. */
  readonly remove: () => Promise<void>;
}

/**
 * Brings the remote ones of the files to local disk, one after the other; the local ones stay where they are. What was
 * fetched is gone after `remove`, and after a failure or an abort.
 * @throws MillraceError SOURCE_NOT_FOUND, SOURCE_UNAVAILABLE, SOURCE_MALFORMED where a file changed, DISK_FULL
 */
export async function spoolFiles(
  found: readonly FoundFile[],
  artifacts: ArtifactPort,
  options: { readonly spoolBytes?: number; readonly signal?: AbortSignal; readonly onFetch?: (label: string) => void },
): Promise<SpooledFiles> {
  const { spoolBytes = SPOOL_BYTES, signal, onFetch } = options;
  const spooled: string[] = [];
  const remove = async (): Promise<void> => {
    await Promise.all(spooled.map((path) => rm(path, { force: true })));
  };
  try {
    const files: SourceFile[] = [];
    let room = spoolBytes;
    for (const { kind, file } of found) {
      if (kind === 'local') {
        files.push(file);
        continue;
      }
      signal?.throwIfAborted();
      onFetch?.(file.label);
      const path = await artifacts.temporaryFile('.part');
      spooled.push(path);
      const { sizeBytes, packing } = await watched(path, file.label, onFetch, () => file.download(path, room));
      room -= sizeBytes;
      const named = await artifacts.temporaryFile(spoolSuffix(file.relativePath, packing));
      spooled.push(named);
      await rename(path, named);
      files.push({ path: named, label: file.label, relativePath: file.relativePath, sizeBytes, modifiedMs: (await stat(named)).mtimeMs });
    }
    return { files, remove };
  } catch (error) {
    await remove();
    signal?.throwIfAborted();
    throw error instanceof MillraceError ? error : new MillraceError('INTERNAL', 'A source could not be fetched.', { cause: error });
  }
}

const WATCH_MS = 2_000;
const MIB = 1_048_576;

/** Tells how much of a file has come, while more comes: a long download is not a hanging one. */
async function watched<T>(path: string, label: string, onFetch: ((what: string) => void) | undefined, work: () => Promise<T>): Promise<T> {
  let bytes = 0;
  const timer = setInterval(() => {
    void stat(path).then(
      ({ size }) => {
        if (size !== bytes) onFetch?.(`${label}, ${Math.round(size / MIB).toLocaleString('en')} MiB`);
        bytes = size;
      },
      () => undefined,
    );
  }, WATCH_MS);
  try {
    return await work();
  } finally {
    clearInterval(timer);
  }
}
