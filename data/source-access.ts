import { MillraceError } from '../contracts/errors.ts';
import type { RowStream } from '../contracts/row-stream.ts';
import type { Source } from '../contracts/source.ts';
import type { S3Options } from './remote-file.ts';

export type PostgresSource = Source & { format: 'postgres' };
export type RowsSource = Source & { format: 'rows' };

/** Rows above which a query is asked for: those whose column is greater than the text, read as the column's type. */
export interface Above {
  readonly column: string;
  readonly value: string;
}

/** What reading a source needs beside the source: where things lie, who may be asked, what is secret. */
export interface SourceAccess {
  /** What relative paths and `package:` start from. */
  readonly projectFolder: string;
  /** The state folder: logs of predictions, and what is remembered of files. Needed for sources of predictions. */
  readonly home?: string;
  /** The value of a variable that a source names. @throws MillraceError SOURCE_NOT_FOUND where it is not set */
  readonly secret?: (variable: string) => string;
  readonly s3?: S3Options;
  /** Most bytes that the fetched files of one source may take on disk. Default 64 GiB. */
  readonly spoolBytes?: number;
  /** Longest that a server may stay silent while files are fetched. Default 60,000. */
  readonly silenceMs?: number;
  /** Runs a query of a source of Postgres. */
  readonly postgres?: (source: PostgresSource, options: { readonly above?: Above; readonly signal?: AbortSignal }) => Promise<RowStream>;
  /** Calls a step that yields rows. */
  readonly rows?: (
    source: RowsSource,
    options: { readonly above?: Above; readonly signal?: AbortSignal; readonly onProgress?: (message: string) => void },
  ) => Promise<RowStream>;
  /** Types of an endpoint's inputs, where its model tells them. */
  readonly inputTypes?: (endpoint: string) => Promise<ReadonlyMap<string, string>>;
}

export const SPOOL_BYTES = 64 * 1024 ** 3;

/** What a source needs and the caller did not give: a mistake of the program, not of its user. */
export const notGiven = (what: string): MillraceError => new MillraceError('INTERNAL', `A source was opened without ${what}.`);
