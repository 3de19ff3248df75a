import { z } from 'zod';

/**
 * Where raw data comes from. Paths are relative to the project folder, may hold globs, and may start with
 * `package:NAME/` for a file inside an installed npm package.
 */
export const SourceSchema = z.lazy(() =>
  z.discriminatedUnion('format', [
    z.object({ format: z.literal('parquet'), path: z.string().min(1) }),
    z.object({
      format: z.literal('csv'),
      path: z.string().min(1),
      delimiter: z.string().length(1).optional(),
      /** Default: the first line names the columns. Give names when the file has none. */
      header: z.union([z.boolean(), z.array(z.string().min(1)).min(1)]).optional(),
      nullValues: z.array(z.string()).optional(),
      encoding: z.enum(['utf-8', 'latin-1', 'utf-16']).optional(),
      /** Column name → type, where the detected one is not wanted. */
      types: z.record(z.string(), z.enum(['number', 'integer', 'boolean', 'string', 'timestamp', 'date'])).optional(),
    }),
    z.object({
      format: z.literal('jsonl'),
      path: z.string().min(1),
      types: z.record(z.string(), z.enum(['number', 'integer', 'boolean', 'string', 'timestamp', 'date'])).optional(),
    }),
    /** One row a file: columns `path` (relative to `path`'s fixed part), `folder` (name of the file's folder) and `text`. */
    z.object({ format: z.literal('text'), path: z.string().min(1), encoding: z.enum(['utf-8', 'latin-1']).optional() }),
  ]),
);
export type Source = z.infer<typeof SourceSchema>;
export type SourceInput = z.input<typeof SourceSchema>;
