import { MillraceError, type Problem } from '../contracts/errors.ts';
import { secretName } from '../contracts/secrets.ts';

/** Values in place of the names of secrets, and what takes them out again. */
export interface ResolvedSecrets<T> {
  readonly value: T;
  /** Without the secrets, wherever in it they are: in a result, a report, a line of a log. */
  readonly mask: <Shown>(shown: Shown) => Shown;
  /** Does the work; what it fails with has no secret in it. */
  readonly guard: <Result>(work: () => Promise<Result>) => Promise<Result>;
}

const VARIABLE = 'SECRET_';
const MASKED = '***';

/**
 * Looks the secrets up that a value names, in variables that begin with `SECRET_` and in no others: whoever starts a run must
 * not be able to read the project's own.
 *
 * @throws SECRET_MISSING naming each variable that is not set where the worker runs
 */
export function resolveSecrets<T>(value: T, env: Readonly<Record<string, string | undefined>> = process.env): ResolvedSecrets<T> {
  const found = new Set<string>();
  const problems: Problem[] = [];
  const resolved = mapTexts(value, (text) => {
    const name = secretName(text);
    if (name === null) return text;
    const secret = env[`${VARIABLE}${name}`];
    if (secret === undefined || secret === '') {
      problems.push({ path: `${VARIABLE}${name}`, message: 'is not set where the worker runs' });
      return text;
    }
    found.add(secret);
    return secret;
  }) as T;
  if (problems.length > 0) throw new MillraceError('SECRET_MISSING', undefined, { problems });
  // a longer one first: it may hold a shorter one
  const secrets = [...found].sort((a, b) => b.length - a.length);
  const maskText = (text: string): string =>
    secrets.reduce((masked, secret) => masked.replaceAll(secret, MASKED).replaceAll(JSON.stringify(secret).slice(1, -1), MASKED), text);
  const mask = <Shown>(shown: Shown): Shown => (secrets.length === 0 ? shown : (mapTexts(shown, maskText) as Shown));
  return {
    value: resolved,
    mask,
    async guard(work) {
      try {
        return await work();
      } catch (error) {
        if (secrets.length === 0 || !(error instanceof Error)) throw error;
        if (error instanceof MillraceError) throw MillraceError.fromReport(mask(error.report()));
        error.message = maskText(error.message);
        if (error.stack !== undefined) error.stack = maskText(error.stack);
        throw error;
      }
    },
  };
}

/** The value with each text in it replaced; plain objects and arrays are gone through, anything else stays as it is. */
function mapTexts(value: unknown, replace: (text: string) => string): unknown {
  if (typeof value === 'string') return replace(value);
  if (Array.isArray(value)) return value.map((item: unknown) => mapTexts(item, replace));
  if (typeof value !== 'object' || value === null) return value;
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [replace(key), mapTexts(item, replace)]));
}
