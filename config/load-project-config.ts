import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import { MillraceError } from '../contracts/errors.ts';
import { loadConfig, type LoadConfigOptions, type MillraceConfig } from './config.ts';
import { packageRoot } from './package-root.ts';

const NAMES = ['millrace.config.ts', 'millrace.config.js', 'millrace.config.mjs'] as const;

async function readSettings(file: string, home: string): Promise<unknown> {
  const folder = join(home, 'build');
  let code: string;
  try {
    const result = await build({
      entryPoints: [file],
      bundle: true,
      packages: 'external',
      // A project may load its config before, or without, installing millrace beside it.
      alias: {
        'millrace/config': join(
          packageRoot,
          existsSync(join(packageRoot, 'config/define-config.ts')) ? 'config/define-config.ts' : 'dist/config/define-config.js',
        ),
      },
      format: 'esm',
      platform: 'node',
      target: 'node20',
      write: false,
      logLevel: 'silent',
    });
    code = result.outputFiles[0]?.text ?? '';
  } catch (error) {
    const errors = (error as { errors?: { text: string; location: { line: number } | null }[] }).errors ?? [];
    throw new MillraceError('INVALID_CONFIG', 'millrace.config.ts cannot be built.', {
      problems: errors.map((e) => ({ path: 'millrace.config.ts', message: e.text, file, ...(e.location ? { row: e.location.line } : {}) })),
      cause: error,
    });
  }
  mkdirSync(folder, { recursive: true });
  const target = join(folder, `config-${createHash('sha256').update(code).digest('hex').slice(0, 16)}.mjs`);
  if (!existsSync(target) || readFileSync(target, 'utf8') !== code) {
    const temporary = `${target}.${process.pid}`;
    writeFileSync(temporary, code);
    renameSync(temporary, target);
  }
  try {
    const module = (await import(pathToFileURL(target).href)) as { default?: unknown };
    if (module.default === undefined)
      throw new MillraceError('INVALID_CONFIG', undefined, {
        problems: [{ path: 'millrace.config.ts', message: 'has no default export', file, fix: 'Write `export default defineConfig({ … })`.' }],
      });
    return module.default;
  } catch (error) {
    if (error instanceof MillraceError) throw error;
    throw new MillraceError('INVALID_CONFIG', 'millrace.config.ts failed while it was loaded.', {
      problems: [{ path: 'millrace.config.ts', message: error instanceof Error ? error.message : String(error), file }],
      cause: error,
    });
  }
}

/**
 * Reads the project's millrace.config.ts, when there is one, and the environment, which wins over it.
 * The file is bundled (its packages stay outside) into `<home>/build` and run there.
 *
 * @throws MillraceError INVALID_CONFIG with every problem.
 */
export async function loadProjectConfig(options: Omit<LoadConfigOptions, 'settings'> = {}): Promise<MillraceConfig> {
  const base = loadConfig({ ...options, env: { ...(options.env ?? process.env), MILLRACE_POOL: undefined } });
  const file = NAMES.map((name) => join(base.projectFolder, name)).find(existsSync);
  return loadConfig(file === undefined ? options : { ...options, settings: await readSettings(file, base.home) });
}
