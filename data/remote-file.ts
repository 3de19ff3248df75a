import { MillraceError } from '../contracts/errors.ts';

/** A file on another machine. */
export interface RemoteFile {
  /** As errors and columns show it: without what may be secret. */
  readonly label: string;
  /** Path relative to the part of the source's path that holds no glob. */
  readonly relativePath: string;
  /** Changes when the content does; null where the server does not tell. */
  readonly identity: string | null;
  /**
   * Brings the content to a local path, where nothing lies yet, and gives its size.
   * @param room Most bytes that it may have.
   * @throws MillraceError SOURCE_NOT_FOUND, SOURCE_UNAVAILABLE, SOURCE_MALFORMED where it changed meanwhile, DISK_FULL
   */
  readonly download: (path: string, room: number) => Promise<DownloadedFile>;
}

export interface DownloadedFile {
  readonly sizeBytes: number;
  /** How the server packed it for the way, where it did so unasked. */
  readonly packing?: 'gzip' | 'zstd';
}

/** What reading files of other machines needs to be told. */
export interface RemoteOptions {
  /** Value of the `Authorization` header. */
  readonly authorization?: string;
  readonly s3?: S3Options;
  /** Longest that a server may stay silent. Default 60,000. */
  readonly silenceMs?: number;
  readonly signal?: AbortSignal;
}

export interface S3Options {
  /** Address of a server that speaks S3. Default: Amazon's, or what the SDK's own variables say. */
  readonly endpoint?: string;
  readonly region?: string;
}

export const SILENCE_MS = 60_000;
/** Times that one download goes on where a broken connection left it. */
export const RESUMES = 5;

export const notFound = (label: string, why: string, fix?: string): MillraceError =>
  new MillraceError('SOURCE_NOT_FOUND', `The source ${label} cannot be read: ${why}`, {
    problems: [{ path: 'source.path', message: why, found: label, ...(fix === undefined ? {} : { fix }) }],
    ...(fix === undefined ? {} : { fix }),
  });

export const unavailable = (label: string, why: string): MillraceError =>
  new MillraceError('SOURCE_UNAVAILABLE', `The source ${label} does not come: ${why}`, {
    problems: [{ path: 'source.path', message: why, found: label }],
  });

export const changedWhileRead = (label: string): MillraceError =>
  new MillraceError('SOURCE_MALFORMED', `The file changed while it was read (${label}).`, {
    problems: [{ path: 'source', file: label, message: 'The file changed while it was read', fix: 'Ingest again when nothing writes to it.' }],
    fix: 'Ingest again when nothing writes to it.',
  });

export const tooLarge = (label: string): MillraceError =>
  new MillraceError('DISK_FULL', `The source ${label} is larger than what may lie in the temporary folder.`, {
    problems: [{ path: 'source.path', message: 'is larger than MILLRACE_SPOOL_GIB allows', found: label }],
    fix: 'Raise MILLRACE_SPOOL_GIB where the disk has the room, or name fewer files.',
  });

/** A file's packing as its last part of the name says it, else what its server said. */
export function spoolSuffix(name: string, packing: DownloadedFile['packing']): string {
  const [, inner = '', outer = ''] = /((?:\.[a-z0-9]{1,8})?)((?:\.(?:gz|zst))?)$/i.exec(name.replace(/[?#].*$/s, '')) ?? [];
  const asked = outer.toLowerCase();
  const sent = packing === 'gzip' ? '.gz' : packing === 'zstd' ? '.zst' : '';
  return `${inner.toLowerCase()}${asked === '' ? sent : asked}`;
}
