/** Any source as a relation of DuckDB: files here and elsewhere, a query, an endpoint's predictions, a step's rows. */
import { stat } from 'node:fs/promises';
import { type FileSource, isFileSource, type Source } from '../contracts/source.ts';
import type { ArtifactPort } from './artifact-port.ts';
import type { DuckDb } from './duckdb.ts';
import { openPredictions } from './prediction-source.ts';
import { findFiles, type FoundFile, type SpooledFiles, spoolFiles } from './remote-files.ts';
import { type Above, notGiven, type SourceAccess } from './source-access.ts';
import { malformed, sourceError } from './source-errors.ts';
import type { SourceFile } from './source-files.ts';
import { openSource, type SourceRelation } from './source-relation.ts';
import { streamRelation } from './stream-relation.ts';

export interface OpenedSource extends SourceRelation {
  /** The files that are read; none where the source is none of files. */
  readonly files: readonly SourceFile[];
  /** What people should know of how it is read: an encoding that was found and not named. */
  readonly notes: readonly string[];
  /** What a failure while reading means: an error with its place, or the failure itself. */
  readonly explain: (error: unknown) => Promise<unknown>;
  /** @throws MillraceError SOURCE_MALFORMED where a file is no longer what it was when it was opened */
  readonly refuseChanged: () => Promise<void>;
  /** Removes what was fetched. */
  readonly close: () => Promise<void>;
}

export interface OpenOptions {
  readonly artifacts: ArtifactPort;
  readonly signal?: AbortSignal;
  /** Called with what is waited for: a file's label, a number of rows. */
  readonly onFetch?: (what: string) => void;
  /** Only these rows, where the source can leave out the others itself. */
  readonly above?: Above;
  /** These files and not those that the source names now. */
  readonly files?: readonly FoundFile[];
}

/** @throws MillraceError SOURCE_NOT_FOUND, SOURCE_UNAVAILABLE, SOURCE_MALFORMED, SOURCE_EMPTY, COLUMN_TYPE, COLUMN_MISSING, DISK_FULL */
export async function openAnySource(db: DuckDb, source: Source, access: SourceAccess, options: OpenOptions): Promise<OpenedSource> {
  if (isFileSource(source)) return openFiles(db, source, access, options);
  return {
    ...(await openStream(db, source, access, options)),
    files: [],
    notes: [],
    explain: (error) => Promise.resolve(sourceError(error, [])),
    refuseChanged: () => Promise.resolve(),
    close: () => Promise.resolve(),
  };
}

async function openStream(
  db: DuckDb,
  source: Exclude<Source, { readonly path: unknown }>,
  access: SourceAccess,
  options: OpenOptions,
): Promise<SourceRelation> {
  const { signal, onFetch, above } = options;
  const whileOpen = signal === undefined ? {} : { signal };
  const progress = onFetch === undefined ? {} : { onRows: (rows: number) => onFetch(`${rows.toLocaleString('en')} rows`) };
  switch (source.format) {
    case 'postgres':
      if (access.postgres === undefined) throw notGiven('a connection to Postgres');
      return streamRelation(db, await access.postgres(source, { ...whileOpen, ...(above === undefined ? {} : { above }) }), { ...whileOpen, ...progress });
    case 'rows':
      if (access.rows === undefined) throw notGiven('steps');
      return streamRelation(
        db,
        await access.rows(source, { ...whileOpen, ...(above === undefined ? {} : { above }), ...(onFetch === undefined ? {} : { onProgress: onFetch }) }),
        { ...whileOpen, ...progress },
      );
    case 'predictions':
      return openPredictions(db, source, access);
  }
}

async function openFiles(db: DuckDb, source: FileSource, access: SourceAccess, options: OpenOptions): Promise<OpenedSource> {
  const { artifacts, signal, onFetch } = options;
  const found = options.files === undefined ? await findFiles(source, access, signal) : { files: options.files, close: () => undefined };
  let spooled: SpooledFiles;
  try {
    spooled = await spoolFiles(found.files, artifacts, {
      ...(access.spoolBytes === undefined ? {} : { spoolBytes: access.spoolBytes }),
      ...(signal === undefined ? {} : { signal }),
      ...(onFetch === undefined ? {} : { onFetch }),
    });
  } finally {
    found.close();
  }
  const { files, remove } = spooled;
  try {
    const opened = await openSource(db, source, files, { artifacts, ...(signal === undefined ? {} : { signal }) });
    const close = async (): Promise<void> => {
      await opened.close();
      await remove();
    };
    return { ...opened, files, refuseChanged: () => refuseChanged(files), close };
  } catch (error) {
    await remove();
    throw error;
  }
}

async function refuseChanged(files: readonly SourceFile[]): Promise<void> {
  for (const file of files) {
    const now = await stat(file.path).catch(() => undefined);
    if (now === undefined || now.size !== file.sizeBytes || now.mtimeMs !== file.modifiedMs) {
      throw malformed('The file changed while it was read', { file: file.label, fix: 'Ingest again when nothing writes to it.' });
    }
  }
}
