import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect } from 'vitest';
import { createApiServer } from '../../api/server.ts';
import { ensureMlflowPython } from '../../bench/mlflow-python.ts';
import { type Artifacts, createArtifacts } from '../../store/artifacts.ts';
import type { Store } from '../../store/store.ts';
import { freshStore } from './database.ts';

/** Installing MLflow takes minutes, and importing it seconds. */
const INSTALL_AND_RUN_MS = 15 * 60_000;

/** An API with MLflow's client beside it. */
export interface MlflowApi {
  readonly store: Store;
  readonly artifacts: Artifacts;
  readonly app: ReturnType<typeof createApiServer>;
  readonly url: string;
  /** Undefined where MLflow could not be installed. */
  readonly python: string | undefined;
}

/** What the real client saw, by check. */
export interface MlflowChecks {
  readonly api: () => MlflowApi;
  /** Of one check; skipped where no Python environment could be made. */
  readonly of: (name: string, context: { readonly skip: (reason: string) => void }) => Readonly<Record<string, unknown>>;
}

/** Starts an API before the tests of a file, and runs a script of this folder beside it: one Python process for all of its checks. */
export function mlflowChecks(script: string, prepare: (api: Omit<MlflowApi, 'python'>) => Promise<readonly string[]>): MlflowChecks {
  let api: MlflowApi | undefined;
  let folder: string;
  let seen: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {};
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'millrace-mlflow-'));
    const store = await freshStore();
    const artifacts = createArtifacts({ root: join(folder, 'artifacts') });
    const app = createApiServer({ store, artifacts, version: '1.2.3' });
    const made = { store, artifacts, app, url: await app.listen({ host: '127.0.0.1', port: 0 }) };
    api = { ...made, python: undefined };
    const parameters = await prepare(made);
    const python = await ensureMlflowPython().catch((error: unknown) => {
      if (process.env['CI'] === 'true') throw error;
      return undefined;
    });
    if (python === undefined) return;
    api = { ...made, python };
    const { stdout } = await promisify(execFile)(python, [join(import.meta.dirname, script), ...parameters], {
      env: { ...process.env, MLFLOW_TRACKING_URI: made.url, MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR: 'false', PYTHONDONTWRITEBYTECODE: '1' },
      cwd: folder,
      maxBuffer: 64 * 2 ** 20,
    });
    seen = JSON.parse(stdout.trim().split('\n').at(-1) ?? '{}') as typeof seen;
  }, INSTALL_AND_RUN_MS);
  afterAll(async () => {
    await api?.app.close();
    await rm(folder, { recursive: true, force: true });
  });
  return {
    api() {
      if (api === undefined) throw new Error('the API was not started');
      return api;
    },
    of(name, context) {
      if (api?.python === undefined) context.skip('MLflow could not be installed here');
      const found = seen[name] ?? {};
      expect(found).not.toHaveProperty('raised');
      return found;
    },
  };
}
