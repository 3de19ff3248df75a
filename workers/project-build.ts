import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { bundleWorkflowCode, type Logger } from '@temporalio/worker';
import { build, type Plugin } from 'esbuild';
import { z } from 'zod';
import { type BuiltPipeline, stepsBundle, WORKFLOW_BUNDLE } from '../activities/build-files.ts';
import { externalVersions, hashModule } from '../activities/code-versions.ts';
import type { ActivityDependencies } from '../activities/dependencies.ts';
import { isStep } from '../activities/steps.ts';
import { packageRoot } from '../config/package-root.ts';
import { MillraceError, type Problem } from '../contracts/errors.ts';
import { contradictions, type RetrainTrigger, RetrainTriggerSchema } from '../contracts/retrain-triggers.ts';
import { type RetrainingSettings, RetrainingSettingsSchema } from '../contracts/retraining.ts';
import type { GitState } from '../store/schema.ts';
import { cachedBundle } from './bundle-cache.ts';
import { PIPELINE, type PipelineDefinition } from '../workflows/define-pipeline.ts';

export interface ProjectBuild {
  /** Hash of the workflow code of all pipelines, Millrace's own included: the worker deployment's build id. */
  readonly id: string;
  readonly pipelines: readonly BuiltPipeline[];
}

/** Millrace's own workflows, and the module of workflows/ that each is in; workflows/system.ts exports the same. */
const SYSTEM_WORKFLOWS = [
  ['askRetraining', 'ask-retraining'],
  ['endpoint', 'endpoint'],
  ['monitor', 'monitor'],
  ['reproduce', 'reproduce'],
  ['retraining', 'retraining'],
  ['stage', 'single-stage'],
  ['probe', 'undo-run'],
  ['tuning', 'tuning'],
  ['undoRun', 'undo-run'],
] as const;
const NAMES_OF_THE_ENGINE: ReadonlySet<string> = new Set(SYSTEM_WORKFLOWS.map(([name]) => name));

/**
 * Builds the project's pipelines: finds them, bundles workflows and steps, and records the build with its files in the
 * artifact store. The same code gives the same build, which is not made again.
 *
 * @throws INVALID_CONFIG naming every folder and export that does not fit.
 */
export async function buildProject(deps: Pick<ActivityDependencies, 'config' | 'store' | 'artifacts' | 'log'>): Promise<ProjectBuild> {
  const { pipelinesFolder, home } = deps.config;
  const folders = await pipelineFolders(pipelinesFolder);
  const work = join(home, 'build');
  await mkdir(work, { recursive: true });
  const entry = join(work, 'workflows-entry.mjs');
  const system = ownFile('workflows', 'system');
  const lines = [`export * from ${JSON.stringify(system)};`, ...folders.map((f) => `export * from ${JSON.stringify(f.pipeline)};`)];
  await writeFile(entry, `${lines.join('\n')}\n`);

  const bundled = await bundleForLooking(entry, deps.config.projectFolder);
  const pipelines = await Promise.all(folders.map(async (folder) => builtPipelines(folder, bundled.exportsOf(folder.name), folder.steps)));
  const all = pipelines.flat();
  checkNames(all);
  // steps' code is not workflow code, but a run that waits must also end on the steps it was started with
  const id = createHash('sha256')
    .update(bundled.hash)
    .update(JSON.stringify(all.map((p) => [p.name, p.steps])))
    .digest('hex')
    .slice(0, 32);

  const there = (await deps.store.builds.find(id))?.bundles;
  const whole = there !== undefined && (await Promise.all(Object.values(there).map((sha) => deps.artifacts.has(sha)))).every(Boolean);
  const started = Date.now();
  const bundles = whole ? there : await bundleBuild(deps, id, await lazyEntry(work, system, folders, all), folders);
  if (!whole) deps.log('info', `built ${String(all.length)} pipelines`, { build: id, seconds: (Date.now() - started) / 1000 });
  await deps.store.builds.put({ id, git: await gitState(deps.config.projectFolder), pipelines: all, bundles });
  return { id, pipelines: all };
}

/**
 * The entry of the bundle: a run's workflow is started from it each time, so it loads the one module that is asked for and
 * not all pipelines with all their schemas (measured: 15 ms a run).
 */
async function lazyEntry(work: string, system: string, folders: readonly PipelineFolder[], pipelines: readonly BuiltPipeline[]): Promise<string> {
  const getter = (name: string, module: string): string => `  ${name}: { enumerable: true, get: () => require(${JSON.stringify(module)}).${name} },`;
  const lines = [
    'Object.defineProperties(exports, {',
    ...SYSTEM_WORKFLOWS.map(([name, file]) => getter(name, join(dirname(system), `${file}${extname(system)}`))),
    ...pipelines.map(({ name, folder }) => getter(name, folders.find((f) => f.name === folder)?.pipeline ?? '')),
    '});',
  ];
  const entry = join(work, 'workflows-lazy-entry.cjs');
  await writeFile(entry, `${lines.join('\n')}\n`);
  return entry;
}

/** The files of a build, as artifacts: the bundle of all workflows, and each pipeline's steps. */
async function bundleBuild(
  deps: Pick<ActivityDependencies, 'artifacts' | 'config'>,
  id: string,
  entry: string,
  folders: readonly PipelineFolder[],
): Promise<Readonly<Record<string, string>>> {
  const workflows = await cachedBundle(join(deps.config.cacheFolder, 'workflow-bundles'), id, () => bundleWorkflows(entry));
  const bundles: Record<string, string> = { [WORKFLOW_BUNDLE]: (await deps.artifacts.putBytes(workflows)).sha256 };
  for (const folder of folders) {
    if (folder.steps === undefined) continue;
    bundles[stepsBundle(folder.name)] = (await deps.artifacts.putBytes(await bundleSteps(folder.steps))).sha256;
  }
  return bundles;
}

async function bundleWorkflows(entry: string): Promise<Buffer> {
  const heard: string[] = [];
  const { code } = await bundleWorkflowCode({
    workflowsPath: entry,
    logger: listeningLogger(heard),
    webpackConfigHook: (webpack) => ({
      ...webpack,
      resolve: {
        ...webpack.resolve,
        // the entry lies in the state folder: Temporal's SDK is found where this Millrace finds it
        modules: ['node_modules', dirname(dirname(dirname(createRequire(import.meta.url).resolve('@temporalio/workflow/package.json'))))],
        alias: { ...(webpack.resolve?.alias as Record<string, string> | undefined), millrace$: ownModule('millrace') ?? 'millrace' },
      },
    }),
  }).catch((error: unknown) => {
    const said = heard
      .join('\n')
      .replaceAll(/\u001b\[\d+m/g, '')
      .slice(0, 4_000);
    throw new MillraceError('INVALID_CONFIG', 'The workflow code could not be bundled.', {
      problems: [{ path: 'pipelines', message: said || String(error) }],
      fix: 'Workflow code may use no Node modules and no packages that do; put such work into steps.ts.',
    });
  });
  return Buffer.from(code);
}

/** `millrace` and what it exports are always this Millrace, wherever the project keeps its packages. */
const ownModules: Readonly<Record<string, readonly [string, string]>> = {
  millrace: ['workflows', 'index'],
  'millrace/steps': ['activities', 'steps'],
  'millrace/testing': ['testing', 'index'],
  'millrace/config': ['config', 'define-config'],
};

function ownModule(name: string): string | undefined {
  const [folder, file] = ownModules[name] ?? [];
  if (folder === undefined || file === undefined) return undefined;
  return ownFile(folder, file);
}

/** Millrace's own modules are bundled, other packages stay outside. */
const packagesOutside = (bundled: readonly string[] = []): Plugin => ({
  name: 'packages-outside',
  setup: (pluginBuild) => {
    pluginBuild.onResolve({ filter: /^[^./]/ }, ({ path, kind }) => {
      if (kind === 'entry-point') return undefined;
      const own = ownModule(path);
      if (own !== undefined) return { path: own };
      return bundled.includes(path) ? undefined : { path, external: true };
    });
  },
});

interface PipelineFolder {
  readonly name: string;
  readonly pipeline: string;
  readonly steps: string | undefined;
}

async function pipelineFolders(folder: string): Promise<readonly PipelineFolder[]> {
  if (!existsSync(folder)) {
    throw new MillraceError('INVALID_CONFIG', `There is no folder of pipelines at ${folder}.`, {
      fix: 'Make it, with a folder each for your pipelines, or name another one in millrace.config.ts.',
    });
  }
  const found: PipelineFolder[] = [];
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (!entry.isDirectory()) continue;
    const pipeline = ['pipeline.ts', 'pipeline.js'].map((f) => join(folder, entry.name, f)).find(existsSync);
    const steps = ['steps.ts', 'steps.js'].map((f) => join(folder, entry.name, f)).find(existsSync);
    if (pipeline) found.push({ name: entry.name, pipeline, steps });
  }
  return found.sort((a, b) => a.name.localeCompare(b.name, 'en'));
}

/** Of the same kind as what runs here: a build from sources must not mix with compiled files of an earlier day. */
const ownFile = (folder: string, file: string): string =>
  import.meta.url.endsWith('.ts') ? join(packageRoot, folder, `${file}.ts`) : join(packageRoot, 'dist', folder, `${file}.js`);

/** One bundle of all workflow code: its hash is the build's, and importing it shows what the pipelines are. */
async function bundleForLooking(entry: string, projectFolder: string) {
  const folders = await pipelineModules(entry);
  const result = await build({
    stdin: {
      contents: folders.map(([name, path]) => `export * as ${name} from ${JSON.stringify(path)};`).join('\n'),
      resolveDir: projectFolder,
      sourcefile: 'look.js',
    },
    bundle: true,
    write: false,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    // Millrace's own workflow code is part of the build
    plugins: [packagesOutside()],
    minify: true,
    legalComments: 'none',
    metafile: true,
    logLevel: 'silent',
  }).catch((error: unknown) => {
    throw new MillraceError('INVALID_CONFIG', 'The pipelines could not be compiled.', {
      problems: compileProblems(error),
      fix: 'Correct each place that is listed.',
    });
  });
  const code = result.outputFiles[0]?.text ?? '';
  // what is outside is bundled later, or is there when it runs: another version of it may make other decisions
  const from = [join(projectFolder, 'package.json'), fileURLToPath(import.meta.url)];
  const outside = Object.values(result.metafile.outputs).flatMap((output) => from.flatMap((place) => externalVersions(output, place)));
  const hash = createHash('sha256').update(code).update(JSON.stringify(outside)).digest('hex');
  // inside the project, so that the packages left outside are found
  const place = join(projectFolder, 'node_modules', '.cache', 'millrace');
  await mkdir(place, { recursive: true });
  const file = join(place, `look-${hash.slice(0, 16)}-${String(process.pid)}.mjs`);
  await writeFile(file, code);
  try {
    const module = (await import(pathToFileURL(file).href)) as Record<string, Record<string, unknown>>;
    return { hash, exportsOf: (folderName: string) => module[identifier(folderName)] ?? {} };
  } finally {
    await rm(file, { force: true });
  }
}

async function pipelineModules(entry: string): Promise<[string, string][]> {
  const paths = [...(await readFile(entry, 'utf8')).matchAll(/from (".*");/g)].map((m) => JSON.parse(m[1] ?? '""') as string);
  return paths.map((path, index) => [index === 0 ? 'millraceSystem' : identifier(path.split(/[\\/]/).at(-2) ?? ''), path]);
}

const identifier = (folder: string): string => `p_${folder.replaceAll(/\W/g, '_')}`;

async function builtPipelines(folder: PipelineFolder, exported: Record<string, unknown>, steps: string | undefined): Promise<BuiltPipeline[]> {
  const hashes = steps === undefined ? {} : await stepHashes(steps);
  return Object.entries(exported).flatMap(([name, value]) => {
    if (typeof value !== 'function' || !(PIPELINE in value)) return [];
    const definition = value[PIPELINE] as PipelineDefinition;
    return [
      {
        name,
        folder: folder.name,
        parameters: z.toJSONSchema(definition.params, { io: 'input', unrepresentable: 'any' }),
        purpose: definition.purpose ?? null,
        steps: hashes,
        retrainOn: retrainTriggers(folder.name, name, definition.retrainOn),
        retraining: retrainingSettings(folder.name, name, definition.retraining),
      },
    ];
  });
}

/** @throws INVALID_CONFIG with everything that does not fit */
function retrainingSettings(folder: string, pipeline: string, declared: PipelineDefinition['retraining']): RetrainingSettings {
  const parsed = RetrainingSettingsSchema.safeParse(declared);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map(({ path, message }) => ({
    path: [`pipelines/${folder}: ${pipeline}.retraining`, ...path].map(String).join('.'),
    message,
  }));
  throw new MillraceError('INVALID_CONFIG', `When ${pipeline} may be retrained does not fit.`, { problems });
}

/** @throws INVALID_CONFIG with everything that does not fit */
function retrainTriggers(folder: string, pipeline: string, declared: PipelineDefinition['retrainOn']): readonly RetrainTrigger[] {
  const problems: Problem[] = [];
  const names = new Set<string>();
  const triggers = declared.flatMap((trigger, index): RetrainTrigger[] => {
    const path = `pipelines/${folder}: ${pipeline}.retrainOn.${String(index)}`;
    const parsed = RetrainTriggerSchema.safeParse(trigger);
    if (!parsed.success) {
      problems.push(...parsed.error.issues.map((issue) => ({ path: [path, ...issue.path].map(String).join('.'), message: issue.message })));
      return [];
    }
    problems.push(...contradictions(parsed.data).map((message) => ({ path, message })));
    if (names.has(parsed.data.name)) problems.push({ path, message: `is the second one named ${parsed.data.name}`, fix: 'Give it a name of its own: name.' });
    names.add(parsed.data.name);
    return [parsed.data];
  });
  if (problems.length > 0) throw new MillraceError('INVALID_CONFIG', `What asks for retraining ${pipeline} does not fit.`, { problems });
  return triggers;
}

async function stepHashes(steps: string): Promise<Record<string, string>> {
  const code = await bundleSteps(steps);
  const folder = join(steps, '..', '..', '..', 'node_modules', '.cache', 'millrace');
  await mkdir(folder, { recursive: true });
  const file = join(folder, `steps-${createHash('sha256').update(code).digest('hex').slice(0, 16)}-${String(process.pid)}.mjs`);
  await writeFile(file, code);
  try {
    const module = (await import(pathToFileURL(file).href)) as Record<string, unknown>;
    const names = Object.entries(module)
      .filter(([, value]) => isStep(value))
      .map(([name]) => name);
    return Object.fromEntries(await Promise.all(names.map(async (name) => [name, await hashModule(steps, name)] as const)));
  } finally {
    await rm(file, { force: true });
  }
}

async function bundleSteps(steps: string): Promise<Uint8Array> {
  const result = await build({
    entryPoints: [steps],
    bundle: true,
    write: false,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    plugins: [packagesOutside()],
    logLevel: 'silent',
  }).catch((error: unknown) => {
    throw new MillraceError('INVALID_CONFIG', 'The steps could not be compiled.', {
      problems: compileProblems(error),
      fix: 'Correct each place that is listed.',
    });
  });
  return result.outputFiles[0]?.contents ?? new Uint8Array();
}

function compileProblems(error: unknown): Problem[] {
  const errors =
    error instanceof Error && 'errors' in error && Array.isArray(error.errors)
      ? (error.errors as { text: string; location?: { file: string; line: number; column: number } | null }[])
      : [];
  return errors.map((e) => ({
    path: e.location ? `${e.location.file}:${String(e.location.line)}:${String(e.location.column)}` : 'pipelines',
    message: e.text,
  }));
}

function checkNames(pipelines: readonly BuiltPipeline[]): void {
  const problems: Problem[] = [];
  for (const pipeline of pipelines) {
    if (NAMES_OF_THE_ENGINE.has(pipeline.name))
      problems.push({
        path: `pipelines/${pipeline.folder}`,
        message: `exports a pipeline named ${pipeline.name}, which is a workflow of Millrace's own`,
        fix: 'Choose another name.',
      });
    const twin = pipelines.find((p) => p !== pipeline && p.name === pipeline.name && p.folder > pipeline.folder);
    if (twin)
      problems.push({
        path: `pipelines/${twin.folder}`,
        message: `exports ${pipeline.name}, as does ${pipeline.folder}`,
        fix: 'Give one of them another name.',
      });
  }
  if (problems.length > 0) throw new MillraceError('INVALID_CONFIG', 'The pipelines do not fit together.', { problems });
}

/** Remote, commit and whether the tree was clean; nulls where the project is no Git repository. */
export async function gitState(folder: string): Promise<GitState> {
  const git = async (...args: string[]): Promise<string> => (await promisify(execFile)('git', ['-C', folder, ...args])).stdout.trim();
  try {
    const [commit, status] = await Promise.all([git('rev-parse', 'HEAD'), git('status', '--porcelain')]);
    const remote = await git('remote', 'get-url', 'origin').catch(() => null); // a repository need not have one
    return { remote: remote === null ? null : remote.replace(/\/\/[^@/]*@/, '//'), commit, clean: status === '' };
  } catch {
    return { remote: null, commit: null, clean: null };
  }
}

/** Keeps what webpack says for the error that follows; its report of a good build is of no use to anybody. */
function listeningLogger(heard: string[]): Logger {
  const ignore = (): void => undefined;
  const listen = (message: string): void => {
    heard.push(message);
  };
  return {
    log: (level, message) => (level === 'ERROR' ? listen(message) : undefined),
    trace: ignore,
    debug: ignore,
    info: ignore,
    warn: ignore,
    error: listen,
  };
}
