import { spawn } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { identifyProcess, isRunning } from '../../../stack/process-identity.ts';

describe('a process identity', () => {
  it('is running for as long as its process is', async () => {
    const child = spawn('sleep', ['60']);
    const identity = identifyProcess(child.pid ?? 0);
    if (identity === undefined) throw new Error('sleep does not run');
    expect(isRunning(identity)).toBe(true);
    const exit = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await exit;
    expect(isRunning(identity)).toBe(false);
  });

  it('is not that of a later process with the same pid', () => {
    const self = identifyProcess(process.pid);
    expect(self?.pid).toBe(process.pid);
    expect(isRunning({ pid: process.pid, started: 'another boot 1' })).toBe(false);
  });
});
