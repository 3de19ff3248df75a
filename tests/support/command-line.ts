import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, vi } from 'vitest';
import { runCommandLine } from '../../cli/program.ts';
import { type Artifacts, openArtifacts } from '../../store/artifacts.ts';
import type { Store } from '../../store/store.ts';
import { recordedTerminal } from '../unit/cli/recorded-terminal.ts';
import { freshStore } from './database.ts';

export interface CommandFolder {
  /** Of the project; its state lies in `state`, and its artifacts in `artifacts`. */
  readonly folder: string;
  readonly store: Store & { readonly databaseUrl: string };
  readonly artifacts: Artifacts;
}

/** An empty project with a database of its own, which `millrace` then works on. Gone when the file ends. */
export async function commandFolder(): Promise<CommandFolder> {
  const folder = await mkdtemp(join(tmpdir(), 'millrace-commands-'));
  afterAll(async () => {
    vi.unstubAllEnvs();
    await rm(folder, { recursive: true, force: true });
  });
  const store = await freshStore();
  const artifacts = await openArtifacts(join(folder, 'artifacts'));
  // a test before may have set others
  vi.unstubAllEnvs();
  vi.stubEnv('MILLRACE_PROJECT', folder);
  vi.stubEnv('MILLRACE_HOME', join(folder, 'state'));
  vi.stubEnv('MILLRACE_ARTIFACTS', `file://${join(folder, 'artifacts')}`);
  vi.stubEnv('DATABASE_URL', store.databaseUrl);
  return { folder, store, artifacts };
}

/** The command, as a person types it. */
export async function millrace(...args: readonly string[]): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
  const terminal = recordedTerminal();
  const code = await runCommandLine(args, terminal);
  return { code, out: terminal.out(), err: terminal.err() };
}
