import { mkdir, rename, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { MillraceError } from '../contracts/errors.ts';
import type { RetrainTrigger } from '../contracts/retrain-triggers.ts';
import type { RetrainingSettings } from '../contracts/retraining.ts';
import type { Artifacts } from '../store/artifacts.ts';
import type { BuildRecord } from '../store/builds.ts';
import type { GitState } from '../store/schema.ts';
import type { Store } from '../store/store.ts';

/** A pipeline as a build knows it. */
export interface BuiltPipeline {
  readonly name: string;
  readonly folder: string;
  /** JSON Schema of its parameters. */
  readonly parameters: unknown;
  readonly purpose: unknown;
  /** Of each exported step, the hash of its code. */
  readonly steps: Readonly<Record<string, string>>;
  /** What asks for its retraining; absent in builds from before there were any. */
  readonly retrainOn?: readonly RetrainTrigger[];
  /** When it may be retrained; absent in builds from before it could be said. */
  readonly retraining?: RetrainingSettings;
}

export interface BuildFiles {
  find(buildId: string): Promise<(BuildRecord & { readonly git: GitState }) | null>;
  /** Path of the workflow bundle, fetched from the artifact store when this machine lacks it. */
  workflowBundle(buildId: string): Promise<string>;
  pipeline(buildId: string, name: string): Promise<BuiltPipeline | null>;
  /** Path of the module that exports the pipeline's step as it was in that build. */
  stepModule(buildId: string, pipeline: string, step: string): Promise<string>;
}

export const WORKFLOW_BUNDLE = 'workflows.js';
export const stepsBundle = (folder: string): string => `steps/${folder}.mjs`;

/**
 * The code of builds, by their id: workflow bundle and steps lie in the artifact store, and are laid out under
 * `<home>/builds/<id>/` on each machine that runs them.
 */
export function createBuildFiles(deps: {
  readonly store: Store;
  readonly artifacts: Artifacts;
  readonly home: string;
  readonly projectFolder: string;
}): BuildFiles {
  const records = new Map<string, BuildRecord & { git: GitState }>();

  const find: BuildFiles['find'] = async (buildId) => {
    const known = records.get(buildId);
    if (known) return known;
    const record = await deps.store.builds.find(buildId);
    if (!record) return null;
    const found = { ...record, git: { remote: record.gitRemote, commit: record.gitCommit, clean: record.gitClean } };
    records.set(buildId, found);
    return found;
  };

  const layOut = async (buildId: string, name: string, folder: string): Promise<string> => {
    const record = await find(buildId);
    const sha = (record?.bundles as Record<string, string> | undefined)?.[name];
    if (sha === undefined)
      throw new MillraceError('NOT_FOUND', `The code of build ${buildId} is not in the store.`, { fix: 'Start the run again: it takes the newest build.' });
    const path = join(folder, `${sha.slice(0, 16)}-${name.replaceAll('/', '-')}`);
    if (!existsSync(path)) {
      await mkdir(folder, { recursive: true });
      const temporary = `${path}.${String(process.pid)}.tmp`;
      await writeFile(temporary, await deps.artifacts.getBytes(sha));
      await rename(temporary, path);
    }
    return path;
  };

  const pipeline: BuildFiles['pipeline'] = async (buildId, name) => {
    const record = await find(buildId);
    return (record?.pipelines as BuiltPipeline[] | undefined)?.find((p) => p.name === name) ?? null;
  };

  return {
    find,
    pipeline,
    workflowBundle: (buildId) => layOut(buildId, WORKFLOW_BUNDLE, join(deps.home, 'builds')),
    async stepModule(buildId, pipelineName, stepName) {
      const built = await pipeline(buildId, pipelineName);
      if (built?.steps[stepName] === undefined) {
        throw new MillraceError('NOT_FOUND', `The pipeline ${pipelineName} has no step ${stepName}.`, {
          fix: `Export it from the pipeline's steps.ts; there are: ${Object.keys(built?.steps ?? {}).join(', ') || 'none'}.`,
        });
      }
      // inside the project, so that its packages are found
      return layOut(buildId, stepsBundle(built.folder), join(deps.projectFolder, 'node_modules', '.cache', 'millrace'));
    },
  };
}
