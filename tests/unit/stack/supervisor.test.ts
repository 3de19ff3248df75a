import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { packageRoot } from '../../../config/package-root.ts';
import { identifyProcess, isRunning } from '../../../stack/process-identity.ts';
import { type ChildSpec, createSupervisor, type Supervisor, type SupervisorEvent } from '../../../stack/supervisor.ts';
import { tieToParent } from '../../../stack/tied-command.ts';

let folder: string;
let events: SupervisorEvent[];
let supervisor: Supervisor;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'millrace-supervisor-'));
  events = [];
  supervisor = createSupervisor({ logsFolder: folder, onEvent: (event) => events.push(event) });
});
afterEach(async () => {
  await supervisor.stop();
  rmSync(folder, { recursive: true, force: true });
});

const READY = `echo '{"ready":true,"name":"x"}'`;
const shell = (name: string, script: string, more: Partial<ChildSpec> = {}): ChildSpec => ({
  name,
  command: '/bin/sh',
  args: ['-c', script],
  env: { PATH: process.env['PATH'] },
  deathSignal: 'SIGKILL',
  stopSignal: 'SIGTERM',
  stopGraceMs: 300,
  readiness: 'announcement',
  readyTimeoutMs: 20_000,
  ...more,
});
const pid = (name: string): number => supervisor.status().find((child) => child.name === name)?.process?.pid ?? 0;
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 20));
}

describe('the supervisor', () => {
  it('starts a child again when it dies, and writes down what it said', async () => {
    await supervisor.start(shell('worker', `echo hello; ${READY}; exec sleep 100`));
    const first = pid('worker');
    process.kill(first, 'SIGKILL');
    await until(() => events.filter((event) => event.type === 'ready').length === 2);
    expect(pid('worker')).not.toBe(first);
    expect(events.map((event) => event.type)).toEqual(['starting', 'ready', 'died', 'starting', 'ready']);
    expect(events[2]).toMatchObject({ exit: 'signal SIGKILL', nextStartInMs: 250 });
    expect(readFileSync(join(folder, 'worker.log'), 'utf8').match(/hello/g)).toHaveLength(2);
    expect(supervisor.status()).toMatchObject([{ name: 'worker', state: 'ready', restarts: 1 }]);
  });

  it('waits longer after each failure in a row', async () => {
    await supervisor.start(shell('worker', `test -e ${folder}/once && exit 3; touch ${folder}/once; ${READY}; sleep 0.1; exit 3`));
    const died = (): (SupervisorEvent & { type: 'died' })[] => events.filter((event) => event.type === 'died');
    await until(() => died().length === 3);
    expect(died().map((event) => event.nextStartInMs)).toEqual([250, 500, 1_000]);
  });

  it('kills what a dead child leaves behind', async () => {
    await supervisor.start(shell('worker', `sleep 100 & echo $! > ${folder}/orphan; ${READY}; wait`));
    const orphan = identifyProcess(Number(readFileSync(join(folder, 'orphan'), 'utf8')));
    if (orphan === undefined) throw new Error('the child of the child does not run');
    process.kill(pid('worker'), 'SIGKILL');
    await until(() => !isRunning(orphan));
    expect(isRunning(orphan)).toBe(false);
  });

  it('stops children in the reverse order of their start, with force when they do not listen', async () => {
    await supervisor.start(shell('first', `${READY}; exec sleep 100`));
    await supervisor.start(shell('second', `trap '' TERM; ${READY}; while :; do sleep 0.1; done`));
    await supervisor.start(shell('third', `${READY}; exec sleep 100`));
    await supervisor.stop();
    expect(events.filter((event) => event.type === 'stopped').map((event) => event.name)).toEqual(['third', 'second', 'first']);
    expect(supervisor.status().every((child) => child.state === 'stopped' && child.process === undefined)).toBe(true);
    await expect(supervisor.start(shell('late', READY))).rejects.toMatchObject({ code: 'NOT_RUNNING' });
  });

  it('says with the last lines of its log why a child cannot be started, and leaves nothing of it', async () => {
    await expect(supervisor.start(shell('broken', 'echo no such table >&2; exit 4'))).rejects.toMatchObject({
      code: 'SERVER_UNAVAILABLE',
      message: expect.stringContaining('exit code 4') as string,
      problems: [{ message: 'no such table' }, { message: 'no such table' }, { message: 'no such table' }],
    });
    expect(supervisor.status()).toEqual([]);
    await expect(supervisor.start(shell('missing', '', { command: '/nowhere/program', args: [] }))).rejects.toMatchObject({ code: 'SERVER_UNAVAILABLE' });
  });

  it('gives up on a child that never becomes ready, and ends it', async () => {
    await expect(supervisor.start(shell('mute', `echo $$ >> ${folder}/pids; exec sleep 100`, { readyTimeoutMs: 200 }))).rejects.toMatchObject({
      code: 'SERVER_UNAVAILABLE',
    });
    for (const line of readFileSync(join(folder, 'pids'), 'utf8').trim().split('\n')) expect(identifyProcess(Number(line))).toBeUndefined();
  });
});

describe.each(['kernel', 'launcher'] as const)('a child tied to its parent by the %s', (mechanism) => {
  it.skipIf(mechanism === 'kernel' && process.platform !== 'linux')('dies when the parent is killed', async () => {
    const program = `
      import { spawn } from 'node:child_process';
      import { tieToParent } from ${JSON.stringify(join(packageRoot, 'stack/tied-command.ts'))};
      const tied = tieToParent('/bin/sh', ['-c', 'echo $$; exec sleep 100'], 'SIGKILL', ${JSON.stringify(mechanism)});
      spawn(tied.command, tied.args, { detached: true, stdio: [tied.stdinPipe ? 'pipe' : 'ignore', 'inherit', 'inherit'] });
      setInterval(() => {}, 1000);`;
    const parent = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], {
      cwd: packageRoot,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const childPid = await new Promise<number>((resolve) =>
      parent.stdout.once('data', (chunk: Buffer) => {
        resolve(Number(chunk.toString()));
      }),
    );
    const child = identifyProcess(childPid);
    if (child === undefined) throw new Error('the child does not run');
    parent.kill('SIGKILL');
    await until(() => !isRunning(child));
    expect(isRunning(child)).toBe(false);
  });

  it.skipIf(mechanism === 'kernel' && process.platform !== 'linux')('ends with the exit code of its program', async () => {
    const tied = tieToParent('/bin/sh', ['-c', 'exit 7'], 'SIGKILL', mechanism);
    const child = spawn(tied.command, tied.args, { stdio: [tied.stdinPipe ? 'pipe' : 'ignore', 'ignore', 'inherit'] });
    expect(await new Promise((resolve) => child.once('exit', resolve))).toBe(7);
  });
});
