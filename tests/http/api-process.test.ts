import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, it, onTestFinished } from 'vitest';
import { packageRoot } from '../../config/package-root.ts';
import { freePort } from '../../stack/ports.ts';
import { freshDatabase } from '../support/database.ts';

/** The API's process as the stack starts it, but from source. */
function startApi(env: Readonly<Record<string, string>>) {
  const home = mkdtempSync(join(tmpdir(), 'millrace-api-'));
  const { PATH = '' } = process.env;
  const child = spawn(process.execPath, ['--import', 'tsx', join(packageRoot, 'api/main.ts')], {
    cwd: packageRoot,
    env: { PATH, MILLRACE_HOME: home, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stderr = '';
  child.stderr.on('data', (data: Buffer) => (stderr += data.toString()));
  const exited = once(child, 'exit') as Promise<[number | null, string | null]>;
  onTestFinished(async () => {
    if (child.exitCode === null) child.kill('SIGKILL');
    await exited;
    rmSync(home, { recursive: true, force: true });
  });
  return { child, exited, stderr: () => stderr };
}

it('announces that it is ready, answers, and ends with 0 on SIGTERM', async () => {
  const port = await freePort();
  const api = startApi({ DATABASE_URL: await freshDatabase(), MILLRACE_API_PORT: String(port) });
  const [line] = (await once(createInterface(api.child.stdout), 'line')) as [string];
  expect(JSON.parse(line)).toMatchObject({ ready: true, name: 'api', port });
  expect((await fetch(`http://127.0.0.1:${port}/readyz`)).status).toBe(200);
  expect(await (await fetch(`http://127.0.0.1:${port}/api/v1/runs`)).json()).toEqual({ items: [], next: null });
  api.child.kill('SIGTERM');
  expect(await api.exited).toEqual([0, null]);
});

it('says which variable moves it when its port is taken', async () => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  onTestFinished(() => void taken.close());
  const { port } = taken.address() as { port: number };
  const api = startApi({ DATABASE_URL: await freshDatabase(), MILLRACE_API_PORT: String(port) });
  expect((await api.exited)[0]).toBe(1);
  expect(api.stderr()).toContain('PORT_IN_USE');
  expect(api.stderr()).toContain('MILLRACE_API_PORT');
});

it('refuses to listen beyond loopback without a token', async () => {
  const api = startApi({ DATABASE_URL: 'postgres://u:p@127.0.0.1:1/none', MILLRACE_HOST: '0.0.0.0', MILLRACE_API_PORT: String(await freePort()) });
  expect((await api.exited)[0]).toBe(1);
  expect(api.stderr()).toContain('MILLRACE_ADMIN_TOKEN');
});
