import { z } from 'zod';

const withoutCredentials = (url: string): boolean => {
  try {
    const { username, password } = new URL(url);
    return username === '' && password === '';
  } catch {
    return true; // said by the check before
  }
};

/** Where OpenLineage events go, as millrace.config.ts says it. The variables of OpenLineage's own clients win. */
export const OpenLineageSettingsSchema = z
  .strictObject({
    /** Takes each event as a POST of JSON: `http://marquez:5000/api/v1/lineage`. */
    url: z
      .url({ protocol: /^https?$/, error: 'must be an address like http://host:5000/api/v1/lineage' })
      .refine(withoutCredentials, 'must hold no user and password: the key is named by its variable')
      .optional(),
    /** A file to which each event is appended as a line of JSON; relative to the project. */
    file: z.string().min(1).optional(),
    /** Of jobs, datasets and models. Default `millrace`. */
    namespace: z.string().min(1).max(200).default('millrace'),
    /** The environment variable with the key that is sent as a bearer token. */
    keyVariable: z
      .string()
      .regex(/^[A-Z][A-Z0-9_]{0,99}$/, 'must be the name of an environment variable')
      .default('OPENLINEAGE_API_KEY'),
    timeoutMs: z.int().min(100).max(60_000).default(10_000),
  })
  .refine(({ url, file }) => (url === undefined) !== (file === undefined), 'needs either a url or a file');
export type OpenLineageSettings = z.input<typeof OpenLineageSettingsSchema>;

/** Where OpenLineage events go. */
export type OpenLineageConfig = {
  readonly namespace: string;
} & (
  | { readonly kind: 'http'; readonly url: string; readonly keyVariable: string; readonly timeoutMs: number }
  | { readonly kind: 'file'; readonly path: string }
);
