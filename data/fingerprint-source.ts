import { createHash, randomUUID } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { isFileSource, type Source } from '../contracts/source.ts';
import { feedbackSegments, predictionSegments } from './prediction-segments.ts';
import { findFiles, type FoundFile } from './remote-files.ts';
import { hashFiles, type OnRead } from './remembered-hashes.ts';
import { notGiven, type SourceAccess } from './source-access.ts';
import type { SourceFile } from './source-files.ts';

export interface SourceFingerprint {
  /** Over the files' labels and content, and the source's own settings. */
  readonly sha256: string;
  readonly files: number;
  readonly sizeBytes: number;
  /** False where nobody can tell whether the source has changed: then the hash is another one each time. */
  readonly known: boolean;
}

/** What changes when a file's content does: its hash, or what its server says of it. Null where the server says nothing. */
export async function fileIdentities(
  found: readonly FoundFile[],
  access: SourceAccess,
  signal?: AbortSignal,
  onRead?: OnRead,
): Promise<readonly (string | null)[]> {
  const local = found.flatMap(({ kind, file }) => (kind === 'local' ? [file] : []));
  const hashes = new Map<SourceFile, string>();
  (await hashFiles(local, access.home, signal, onRead)).forEach((sha256, index) => {
    const file = local[index];
    if (file !== undefined) hashes.set(file, sha256);
  });
  return found.map(({ kind, file }) => (kind === 'local' ? (hashes.get(file) ?? null) : file.identity));
}

/**
 * The content of a source as one hash: the same content read the same way gives the same one, wherever the project lies.
 * Nothing is read that is known to be as it was: local files are remembered under `access.home`, servers are asked for
 * the files' validators, and a query or a step is taken at its `version`.
 * @throws MillraceError SOURCE_NOT_FOUND, SOURCE_UNAVAILABLE
 */
export async function fingerprintSource(source: Source, access: SourceAccess, signal?: AbortSignal, onRead?: OnRead): Promise<SourceFingerprint> {
  const whole = createHash('sha256').update(JSON.stringify(Object.entries(source).sort(([a], [b]) => (a < b ? -1 : 1))));
  const done = (known: boolean, files = 0, sizeBytes = 0): SourceFingerprint => {
    if (!known) whole.update(`\n${randomUUID()}`);
    return { sha256: whole.digest('hex'), files, sizeBytes, known };
  };
  if (isFileSource(source)) {
    const { files, close } = await findFiles(source, access, signal);
    close();
    const identities = await fileIdentities(files, access, signal, onRead);
    files.forEach(({ file }, index) => whole.update(`\n${file.relativePath}\n${identities[index] ?? ''}`));
    return done(
      identities.every((identity) => identity !== null),
      files.length,
      files.reduce((sum, { kind, file }) => sum + (kind === 'local' ? file.sizeBytes : 0), 0),
    );
  }
  if (source.format !== 'predictions') return done(source.version !== undefined);
  if (access.home === undefined) throw notGiven('the state folder');
  // The logs are only ever appended to, and a segment has the same identity before and after it was compacted.
  const from = source.from ?? new Date(0).toISOString();
  const segments = [...(await predictionSegments(access.home, source.endpoint, from)), ...(await feedbackSegments(access.home, source.endpoint, from))];
  let sizeBytes = 0;
  for (const { path, identity } of segments) {
    sizeBytes += (await stat(path)).size;
    whole.update(`\n${identity}`);
  }
  for (const [name, type] of (await access.inputTypes?.(source.endpoint)) ?? []) whole.update(`\n${name} ${type}`);
  return done(true, segments.length, sizeBytes);
}
