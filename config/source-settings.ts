import { MillraceError } from '../contracts/errors.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** What a worker's environment says of sources that lie elsewhere. */
export interface SourceSettings {
  /** The value of a variable that a source names. @throws MillraceError SOURCE_NOT_FOUND where it is not set */
  readonly secret: (variable: string) => string;
  readonly s3: { readonly endpoint?: string; readonly region?: string };
}

/**
 * Reads the settings. Sources may name variables that begin with `SOURCE_` and no others: a source may come from whoever
 * starts a run, and must not be able to send the project's own secrets somewhere.
 */
export function sourceSettings(env: Environment = process.env): SourceSettings {
  const { S3_ENDPOINT: endpoint, AWS_REGION: region = env['AWS_DEFAULT_REGION'] } = env;
  return {
    secret: (variable) => {
      const value = variable.startsWith('SOURCE_') ? env[variable] : undefined;
      if (value) return value;
      const message = `The variable ${variable}, which the source names, is not set where the worker runs.`;
      throw new MillraceError('SOURCE_NOT_FOUND', message, {
        problems: [{ path: 'source', message, found: variable }],
        fix: `Set ${variable}, and start the worker again.`,
      });
    },
    s3: { ...(endpoint ? { endpoint } : {}), ...(region ? { region } : {}) },
  };
}
