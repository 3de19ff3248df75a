import { readFile } from 'node:fs/promises';
import { extname, resolve } from 'node:path';
import { canonicalJson } from '../contracts/canonical-json.ts';
import { MillraceError, type Problem } from '../contracts/errors.ts';
import { type Policy, readPolicies } from '../contracts/policy.ts';

export interface ReadPolicies {
  readonly policies: readonly Policy[];
  /** What the files say of the simulation, together. */
  readonly simulation: Readonly<Record<string, unknown>>;
}

/**
 * Reads policy files: JSON, or a TypeScript or JavaScript module whose default export is the same.
 * @throws NOT_FOUND, INVALID_PARAMETERS with every problem of a file; where two files say different things of the simulation, or name two policies alike
 */
export async function readPolicyFiles(paths: readonly string[]): Promise<ReadPolicies> {
  const policies: Policy[] = [];
  const simulation: Record<string, unknown> = {};
  const problems: Problem[] = [];
  for (const file of paths) {
    const read = readPolicies(await contentOf(file), file);
    for (const policy of read.policies) {
      if (policies.some(({ name }) => name === policy.name)) problems.push({ path: 'name', message: `another file has a policy ${policy.name}`, file });
      policies.push(policy);
    }
    for (const [key, value] of Object.entries(read.simulation)) {
      if (key in simulation && canonicalJson(simulation[key]) !== canonicalJson(value))
        problems.push({ path: `simulation.${key}`, message: 'another file says something else: policies are compared on the same', file });
      simulation[key] = value;
    }
  }
  if (problems.length > 0)
    throw new MillraceError('INVALID_PARAMETERS', 'The policy files do not go together.', { problems, fix: 'Correct what is listed, in the files.' });
  return { policies, simulation };
}

async function contentOf(file: string): Promise<unknown> {
  const path = resolve(file);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw new MillraceError('NOT_FOUND', `There is no policy file ${file}.`, {
      fix: 'Give the path of a JSON file or a TypeScript module: --policy FILE.',
      cause,
    });
  }
  if (['.ts', '.mts', '.js', '.mjs'].includes(extname(path))) return moduleOf(path, file);
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw unreadable(file, [{ path: 'the file', message: cause instanceof Error ? cause.message : 'is not JSON', file }], cause);
  }
}

/** The module's default export; it is bundled, and runs here. */
async function moduleOf(path: string, file: string): Promise<unknown> {
  const { build } = await import('esbuild');
  try {
    const { outputFiles } = await build({
      entryPoints: [path],
      bundle: true,
      format: 'esm',
      platform: 'node',
      target: 'node20',
      write: false,
      logLevel: 'silent',
    });
    const code = Buffer.from(outputFiles[0]?.contents ?? []).toString('base64');
    const module = (await import(`data:text/javascript;base64,${code}`)) as { readonly default?: unknown };
    if (module.default !== undefined) return module.default;
  } catch (cause) {
    const { errors = [] } = cause as { readonly errors?: readonly { readonly text: string; readonly location: { readonly line: number } | null }[] };
    const told = errors.map(({ text, location }) => ({ path: 'the module', message: text, file, ...(location === null ? {} : { row: location.line }) }));
    throw unreadable(file, told.length > 0 ? told : [{ path: 'the module', message: cause instanceof Error ? cause.message : String(cause), file }], cause);
  }
  throw unreadable(file, [{ path: 'the module', message: 'has no default export', file, fix: 'Write `export default { name: …, retrain: … };`.' }]);
}

const unreadable = (file: string, problems: readonly Problem[], cause?: unknown): MillraceError =>
  new MillraceError('INVALID_PARAMETERS', `${file} cannot be read as policies.`, {
    problems,
    fix: 'Correct what is listed, in the file.',
    ...(cause === undefined ? {} : { cause }),
  });
