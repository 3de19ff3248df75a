import { z } from 'zod';
import { MillraceError, type Problem } from '../contracts/errors.ts';
import type { ParametersSchema } from './pipelines.ts';

type JsonObject = Record<string, unknown>;

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parseInput(text: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new MillraceError('USAGE', '--input is not JSON.', {
      problems: [{ path: '--input', message: 'cannot be parsed', found: text.slice(0, 200) }],
      fix: `Write --input '{"trees": 100}', or --set trees=100.`,
    });
  }
  if (!isObject(value)) throw new MillraceError('USAGE', '--input is not a JSON object.', { fix: `Write --input '{"trees": 100}', or --set trees=100.` });
  return value;
}

/** A typed value of `--set`: JSON where it is JSON, unless the schema asks for text. */
function parseValue(text: string, type: string | readonly string[] | undefined): unknown {
  if (type === 'string') return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function typeAt(schema: ParametersSchema | undefined, path: readonly string[]): string | readonly string[] | undefined {
  let at: unknown = schema;
  for (const key of path) at = isObject(at) && isObject(at['properties']) ? at['properties'][key] : undefined;
  const type = isObject(at) ? at['type'] : undefined;
  return typeof type === 'string' || Array.isArray(type) ? (type as string | string[]) : undefined;
}

/** The name among `names` that a mistyped one may mean. */
export function nearestName(name: string, names: readonly string[]): string | undefined {
  const distance = (a: string, b: string): number => {
    let row = Array.from({ length: b.length + 1 }, (_, i) => i);
    for (let i = 1; i <= a.length; i++) {
      const next = [i];
      for (let j = 1; j <= b.length; j++) next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)));
      row = next;
    }
    return row.at(-1) ?? 0;
  };
  return names
    .map((candidate) => ({ candidate, d: distance(name.toLowerCase(), candidate.toLowerCase()) }))
    .filter(({ candidate, d }) => d <= Math.max(1, Math.floor(candidate.length / 3)))
    .sort((a, b) => a.d - b.d)[0]?.candidate;
}

/**
 * The argument of a run, from `--input JSON` and `--set name=value` (which wins; `a.b=1` sets a nested field).
 *
 * @throws USAGE for what cannot be parsed.
 */
export function readParameters(
  options: { readonly input?: string | undefined; readonly set?: readonly string[] | undefined },
  schema?: ParametersSchema,
): JsonObject {
  const params = options.input === undefined ? {} : parseInput(options.input);
  for (const assignment of options.set ?? []) {
    const at = assignment.indexOf('=');
    const path = assignment.slice(0, Math.max(0, at)).split('.');
    if (at < 1 || path.some((key) => key === '' || key === '__proto__')) {
      throw new MillraceError('USAGE', `--set ${assignment}: this is not name=value.`, {
        fix: 'Write --set trees=100; --set source.path=data.csv sets a nested field.',
      });
    }
    let target = params;
    for (const key of path.slice(0, -1)) {
      const inner = target[key];
      const next: JsonObject = isObject(inner) ? inner : {};
      target[key] = next;
      target = next;
    }
    target[path.at(-1) ?? ''] = parseValue(assignment.slice(at + 1), typeAt(schema, path));
  }
  return params;
}

/**
 * Checks a run's argument against the pipeline's schema before anything is started: names that the pipeline does not
 * know (it would drop them) and values that do not fit.
 *
 * @throws INVALID_PARAMETERS with every problem.
 */
export function checkParameters(pipeline: string, params: JsonObject, schema: ParametersSchema): void {
  const known = Object.keys(schema.properties ?? {});
  const problems: Problem[] = Object.keys(params)
    .filter((name) => !known.includes(name))
    .map((name) => {
      const near = nearestName(name, known);
      return {
        path: name,
        message: near === undefined ? 'is not a parameter of this pipeline' : `is not a parameter of this pipeline; is ${near} meant?`,
        found: JSON.stringify(params[name]),
        fix: `Use ${known.join(', ')}.`,
      };
    });
  let validator: z.ZodType | undefined;
  try {
    validator = z.fromJSONSchema(schema as Parameters<typeof z.fromJSONSchema>[0]);
  } catch {
    // A schema with something that has no counterpart here: the run itself checks its argument first of all.
  }
  const parsed = validator?.safeParse(params);
  for (const issue of parsed?.error?.issues ?? []) {
    const found = issue.path.reduce<unknown>((at, key) => (isObject(at) || Array.isArray(at) ? (at as JsonObject)[String(key)] : undefined), params);
    problems.push({
      path: issue.path.map(String).join('.') || '(input)',
      message: issue.message,
      found: found === undefined ? 'nothing' : JSON.stringify(found).slice(0, 200),
    });
  }
  if (problems.length > 0) throw new MillraceError('INVALID_PARAMETERS', `The parameters of ${pipeline} do not fit.`, { problems });
}
