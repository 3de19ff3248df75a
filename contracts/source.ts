import { z } from 'zod';
import { NameSchema } from './ids.ts';

/** A variable of the worker's environment that holds a secret: an address, a header. Sources may name no other one. */
const SecretNameSchema = z.string().regex(/^SOURCE_[A-Z0-9_]{1,100}$/, 'must be the name of an environment variable that begins with SOURCE_');

const holdsCredentials = (path: string): boolean => /^[a-z0-9]+:\/\/[^/]*@/i.test(path);
/** A local path or glob, `package:NAME/…`, `https://…`, or `s3://bucket/key-or-glob`. */
const OnePathSchema = z
  .string()
  .min(1)
  .refine((path) => !holdsCredentials(path), 'must hold no user and password: they would stand in the history. Name a variable instead: authorization')
  .refine((path) => !/^[a-z0-9+.-]+:\/\//i.test(path) || /^(?:https?|s3):\/\//i.test(path), 'must be a path, or an address of http, https or s3');
const PathSchema = z.union([OnePathSchema, z.array(OnePathSchema).min(1).max(100_000)]);
/** The environment variable whose value is sent as the header `Authorization` of http requests. */
const AuthorizationSchema = SecretNameSchema.optional();

/** `utf-16` is either order, as the first bytes say. */
export const EncodingSchema = z.enum(['utf-8', 'latin-1', 'windows-1252', 'utf-16', 'utf-16le', 'utf-16be']);
export type Encoding = z.infer<typeof EncodingSchema>;

const inText = {
  path: PathSchema,
  authorization: AuthorizationSchema,
  /** Default: found in each file. */
  encoding: EncodingSchema.optional(),
  /** Most bytes that one packed file (gzip, zstd) may unpack to. Default: a hundred times its size, at least 1 GiB. */
  maxUnpackedBytes: z.number().int().positive().optional(),
};
const inRows = {
  /** Longest row or object. Default: 2,000,000 of CSV and TSV, 16 MiB of JSON. Memory grows with it, sixteen times and more. */
  maxRowBytes: z
    .number()
    .int()
    .min(1024)
    .max(256 * 1024 ** 2)
    .optional(),
  /** Column name → type, where the detected one is not wanted. */
  types: z.record(z.string(), z.enum(['number', 'integer', 'boolean', 'string', 'timestamp', 'date'])).optional(),
};
const separated = {
  /** Default: the first line names the columns. Give names when the file has none. */
  header: z.union([z.boolean(), z.array(z.string().min(1)).min(1)]).optional(),
  nullValues: z.array(z.string()).optional(),
};

/**
 * Where raw data comes from. Paths are relative to the project folder, may be folders, may hold globs, and may start with
 * `package:NAME/` for a file inside an installed npm package; or they are addresses, of which the bytes are fetched
 * into a temporary file first. Of several paths the files come in the order of the list.
 */
export const SourceSchema = z.lazy(() =>
  z.discriminatedUnion('format', [
    z.object({ format: z.literal('parquet'), path: PathSchema, authorization: AuthorizationSchema }),
    z.object({
      format: z.literal('csv'),
      ...inText,
      ...inRows,
      ...separated,
      /** Default: found in the first line, of `,`, `;`, `|` and the tab. */ delimiter: z.string().length(1).optional(),
    }),
    /** CSV whose delimiter is the tab. */
    z.object({ format: z.literal('tsv'), ...inText, ...inRows, ...separated }),
    /** An array of objects, or objects one after another, over as many lines as they like. */
    z.object({ format: z.literal('json'), ...inText, ...inRows }),
    /** One object a line. */
    z.object({ format: z.literal('jsonl'), ...inText, ...inRows }),
    /** One row a file: columns `path` (relative to `path`'s fixed part), `folder` (name of the file's folder) and `text`. */
    z.object({ format: z.literal('text'), ...inText }),
    /** The rows of one query, read in a transaction that can write nothing. */
    z.object({
      format: z.literal('postgres'),
      query: z.string().min(1).max(100_000),
      /** The environment variable with the server's address. */
      connection: SecretNameSchema.default('SOURCE_DATABASE_URL'),
      /** Says that the rows are those of every earlier ingest with this text: then the query is not run again. Default: nobody knows, and it is. */
      version: z.string().min(1).max(1000).optional(),
    }),
    /** What an endpoint was asked and answered, with the labels that came since. */
    z.object({
      format: z.literal('predictions'),
      endpoint: NameSchema,
      /** UTC ISO: predictions at this instant and later. Default: from the first. */
      from: z.iso.datetime().optional(),
      /** UTC ISO: predictions before this instant. Default: to the last. */
      to: z.iso.datetime().optional(),
      /** Only predictions that have a label. */
      labelled: z.boolean().default(false),
    }),
    /** What a step of the pipeline (`rowsStep`) yields. */
    z.object({
      format: z.literal('rows'),
      pipeline: z.string().min(1),
      step: z.string().min(1),
      parameters: z.record(z.string(), z.unknown()).default({}),
      /** As of a query. */
      version: z.string().min(1).max(1000).optional(),
    }),
  ]),
);
export type Source = z.infer<typeof SourceSchema>;
export type SourceInput = z.input<typeof SourceSchema>;
/** A source that lies in files, here or elsewhere. */
export type FileSource = Extract<Source, { readonly path: unknown }>;

export const isFileSource = (source: Source): source is FileSource => 'path' in source;

/** The source as records and people may see it: an address without its query, which may hold a signature. */
export function shownSource(source: Source): Source {
  if (!isFileSource(source)) return source;
  const shown = (path: string): string => (/^https?:/i.test(path) ? path.replace(/[?#].*$/s, '') : path);
  return { ...source, path: typeof source.path === 'string' ? shown(source.path) : source.path.map(shown) };
}

/**
 * What an endpoint was asked and answered, with the labels that came since: one row a row of a request. Columns: the
 * inputs under their names, `prediction` (or `prediction_0` … where the model gives several numbers), `label`,
 * `requestId`, `row`, `at`, `model`, `version`, `labelledAt`; where rules of decision answered, `action`, `propensity`,
 * `explored`; for each outcome that came, `outcome_NAME` and `outcome_NAME_at`. Where an input has one of these names,
 * ours begins with `millrace_`.
 */
export const predictions = (
  endpoint: string,
  options: { readonly from?: string; readonly to?: string; readonly labelled?: boolean } = {},
): SourceInput & { readonly format: 'predictions' } => ({ format: 'predictions', endpoint, ...options });
