import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer, request as httpRequest } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { createApiServer } from '../../api/server.ts';
import { runCommandLine } from '../../cli/program.ts';
import { packageRoot } from '../../config/package-root.ts';
import { createArtifacts } from '../../store/artifacts.ts';
import type { ImportReport } from '../../store/import-mlflow.ts';
import { openStore } from '../../store/store.ts';
import { freshDatabase } from '../support/database.ts';
import { startMlflowServer } from '../support/mlflow-server.ts';
import { recordedTerminal } from '../unit/cli/recorded-terminal.ts';

const INSTALL_MS = 15 * 60_000;
const client = join(import.meta.dirname, '../support/mlflow-import-client.py');

let folder: string;
let mlflow: Awaited<ReturnType<typeof startMlflowServer>> | undefined;
let filled: { readonly runs: readonly string[]; readonly running: string };
/** What MLflow's client sees of the server. */
let there: unknown;

/** A Millrace with nothing in it: the command line works on it, and MLflow's client sees it. */
interface House {
  readonly url: string;
  readonly env: Readonly<Record<string, string>>;
  readonly artifacts: ReturnType<typeof createArtifacts>;
  readonly store: ReturnType<typeof openStore>;
}
const houses: (() => Promise<void>)[] = [];

async function house(name: string): Promise<House> {
  const databaseUrl = await freshDatabase();
  const home = join(folder, name);
  const store = openStore({ databaseUrl, poolSize: 3 });
  const artifacts = createArtifacts({ root: join(home, 'artifacts') });
  const app = createApiServer({ store, artifacts, version: '1.2.3' });
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  houses.push(async () => {
    await app.close();
    await store.close();
  });
  const env = {
    DATABASE_URL: databaseUrl,
    MILLRACE_PROJECT: folder,
    MILLRACE_HOME: home,
    MILLRACE_ARTIFACTS: `file://${join(home, 'artifacts')}`,
  };
  return { url, env, artifacts, store };
}

const python = async (url: string, what: 'fill' | 'look'): Promise<unknown> => {
  const { stdout } = await promisify(execFile)(mlflow?.python ?? 'python3', [client, what], {
    env: { ...process.env, MLFLOW_TRACKING_URI: url, MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR: 'false', MLFLOW_HTTP_REQUEST_MAX_RETRIES: '1', HOME: folder },
    cwd: folder,
    maxBuffer: 64 * 2 ** 20,
  });
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? 'null') as unknown;
};

/** The command, as a person types it in that house. */
async function millrace(of: House, ...args: readonly string[]): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
  for (const [name, value] of Object.entries(of.env)) vi.stubEnv(name, value);
  const terminal = recordedTerminal();
  const code = await runCommandLine(args, terminal).finally(() => {
    vi.unstubAllEnvs();
  });
  return { code, out: terminal.out(), err: terminal.err() };
}

const reportOf = ({ out, err }: { readonly out: string; readonly err: string }): ImportReport => {
  expect(err).toBe('');
  return JSON.parse(out) as ImportReport;
};

/** Hands requests on, and calls `onRequest` with each path first; where that says so, the answer never comes. */
async function between(to: string, onRequest: (path: string) => 'pass' | 'hang'): Promise<{ readonly url: string; readonly close: () => void }> {
  const server = createServer((incoming, outgoing) => {
    if (onRequest(incoming.url ?? '') === 'hang') return;
    const onward = httpRequest(
      `${to}${incoming.url ?? ''}`,
      { method: incoming.method, headers: { ...incoming.headers, host: new URL(to).host } },
      (answer) => {
        outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
        answer.pipe(outgoing);
      },
    );
    onward.on('error', () => outgoing.destroy());
    incoming.pipe(onward);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${String((server.address() as AddressInfo).port)}`,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-import-'));
  mlflow = await startMlflowServer().catch((error: unknown) => {
    if (process.env['CI'] === 'true') throw error;
    return undefined;
  });
  const clean = async (): Promise<void> => {
    await mlflow?.stop();
    for (const close of houses) await close();
    await rm(folder, { recursive: true, force: true });
  };
  if (mlflow !== undefined)
    try {
      filled = (await python(mlflow.url, 'fill')) as typeof filled;
      there = await python(mlflow.url, 'look');
    } catch (error) {
      await clean();
      throw error;
    }
  return clean;
}, INSTALL_MS);

/** The server's address; the test is skipped where MLflow cannot be installed. */
function server(context: { readonly skip: (reason: string) => void }): string {
  if (mlflow === undefined) context.skip('MLflow could not be installed here');
  return mlflow?.url ?? '';
}

let first: House;

describe('import from an MLflow server', () => {
  it('goes on where it was killed, and ends with all that the server has, nothing twice', async (context) => {
    const url = server(context);
    first = await house('first');
    let downloads = 0;
    let reached = (): void => undefined;
    const isReached = new Promise<void>((resolve) => {
      reached = resolve;
    });
    const proxy = await between(url, (path) => {
      if (/mlflow-artifacts\/artifacts\/\d/.test(path) && ++downloads > 12) {
        reached();
        return 'hang';
      }
      return 'pass';
    });
    const killed = spawn(process.execPath, ['--import', 'tsx', join(packageRoot, 'cli/main.ts'), 'import', 'mlflow', '--from', proxy.url, '--json'], {
      env: { ...process.env, ...first.env },
      cwd: packageRoot,
      stdio: 'ignore',
    });
    await isReached;
    killed.kill('SIGKILL');
    await once(killed, 'close');
    proxy.close();
    const whole = await first.store.trackedRuns.jsons(filled.runs);
    expect(whole.length).toBeLessThan(filled.runs.length);

    const report = reportOf(await millrace(first, 'import', 'mlflow', '--from', url, '--json'));
    expect(report.target).toEqual(report.source);
    expect(report.matches).toBe(true);
    expect(report.source).toMatchObject({ experiments: 5, runs: 8, loggedModels: 1, modelMetrics: 1, models: 2, versions: 3, aliases: 2, datasets: 1 });
    expect(report.alreadyThere).toBe(whole.length);
    expect(report.leftOut).toEqual(['the files of bare version 1, which lie at s3://bucket/of/others']);
    expect(await python(first.url, 'look')).toEqual(there);
  });

  it('leaves alone what is there with the same content, and says so', async (context) => {
    const url = server(context);
    const report = reportOf(await millrace(first, 'import', 'mlflow', '--from', url, '--json'));
    expect(report.target).toEqual(report.source);
    expect(report).toMatchObject({ matches: true, imported: 0, alreadyThere: 12, checkedFiles: 0 });
  });
});

describe('an export as a folder', () => {
  let out: string;
  const artifactPaths = async (): Promise<readonly string[]> =>
    (await readdir(join(out, 'artifacts'), { recursive: true, withFileTypes: true }))
      .filter((one) => one.isFile())
      .map((one) => join(one.parentPath, one.name));

  it('holds all of a store, and fills another one with it', async (context) => {
    server(context);
    out = join(folder, 'export');
    const { counts } = JSON.parse((await millrace(first, 'export', out, '--json')).out) as { counts: Record<string, number> };
    expect(counts).toMatchObject({ experiments: 5, runs: 8, loggedModels: 1, models: 2, versions: 3 });

    const second = await house('second');
    const report = reportOf(await millrace(second, 'import', 'folder', out, '--json'));
    expect(report.target).toEqual(report.source);
    expect(report).toMatchObject({ matches: true, alreadyThere: 0 });
    expect(report.source.metrics).toBe(counts['metrics']);
    expect(await python(second.url, 'look')).toEqual(there);
    const table = await millrace(second, 'import', 'folder', out);
    expect(table).toMatchObject({ code: 0, err: '' });
    expect(table.out).toMatch(/runs +8 +8\n/);
    expect(table.out).toContain('the same');
  });

  it('is made again by what it lacks alone', async (context) => {
    server(context);
    const before = await artifactPaths();
    const [broken = ''] = before;
    await chmod(broken, 0o600);
    await writeFile(broken, 'cut');
    await rm(join(out, 'manifest.json'));
    await rm(join(out, 'runs.jsonl'));
    const refused = await millrace(first, 'import', 'folder', out);
    expect(refused).toMatchObject({ code: 2, err: expect.stringContaining('it has no manifest.json') as string });
    const made = JSON.parse((await millrace(first, 'export', out, '--json')).out) as { kept: number };
    expect(made.kept).toBe(before.length - 1);
    expect(await artifactPaths()).toEqual(before);
    const again = reportOf(await millrace(first, 'import', 'folder', out, '--json'));
    expect(again).toMatchObject({ matches: true, imported: 0 });
  });

  it('is refused with each file that has changed, before anything is written', async (context) => {
    server(context);
    const [changed = '', removed = '', linked = ''] = await artifactPaths();
    const bytes = await readFile(changed);
    await writeFile(changed, Buffer.concat([bytes.subarray(1), Buffer.from([(bytes[0] ?? 0) ^ 1])]));
    await rm(removed);
    await rm(linked);
    await symlink(join(out, 'manifest.json'), linked);
    const third = await house('third');
    const refused = await millrace(third, 'import', 'folder', out);
    expect(refused.code).toBe(1);
    for (const path of [changed, removed, linked]) expect(refused.err).toContain(path.slice(out.length + 1));
    expect(await third.store.trackedRuns.jsons(filled.runs)).toEqual([]);

    await writeFile(join(out, 'runs.jsonl'), (await readFile(join(out, 'runs.jsonl'), 'utf8')).replace('run 1', 'run 9'));
    expect((await millrace(third, 'import', 'folder', out)).err).toMatch(/runs\.jsonl: has changed/);
    expect((await millrace(third, 'export', folder)).err).toContain('something that is no export');
  });
});
