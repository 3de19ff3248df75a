import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { createDeviceLeases } from '../../../workers/device-leases.ts';

const folders: string[] = [];
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-devices-'));
  folders.push(folder);
});
afterAll(async () => {
  for (const one of folders) await rm(one, { recursive: true, force: true });
});

const devices = [
  { index: 0, name: 'NVIDIA A10', memoryMib: 23_028, uuid: 'GPU-a' },
  { index: 1, name: 'NVIDIA A10', memoryMib: 23_028, uuid: 'GPU-b' },
];
const never = new AbortController().signal;
const leases = (slots: number) => createDeviceLeases({ devices, slots, folder, retryMs: 10 });
const claim = async (device: string, pid: number, born = ''): Promise<void> => {
  await mkdir(join(folder, device), { recursive: true });
  await writeFile(join(folder, device, `held.1.${String(pid)}.${born}.of-another`), '');
};
const ignore = (): void => undefined;

describe('leases of devices', () => {
  it('give each holder a device of its own, and let the next one wait until one is given back', async () => {
    const [here, there] = [leases(2), leases(2)]; // two worker processes of one machine look at the same folder
    const first = await here.acquire(never, ignore);
    const second = await there.acquire(never, ignore);
    expect([first.index, second.index]).toEqual([0, 1]);
    expect([first.ordinal, second.ordinal]).toEqual([0, 1]);
    let waited = 0;
    const third = here.acquire(never, () => waited++);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(waited).toBeGreaterThan(0);
    await second.release();
    expect((await third).index).toBe(1);
    await first.release();
    await first.release();
    expect((await there.acquire(never, ignore)).index).toBe(0);
  });

  it('share devices evenly where there are more slots', async () => {
    const pool = leases(4);
    const held = [];
    for (let i = 0; i < 4; i++) held.push(await pool.acquire(never, ignore));
    expect(held.map(({ index }) => index).sort()).toEqual([0, 0, 1, 1]);
    const stop = new AbortController();
    const fifth = pool.acquire(stop.signal, () => {
      stop.abort(new Error('enough'));
    });
    await expect(fifth).rejects.toThrow('enough');
  });

  it('of a process that was killed are free at once', async () => {
    const other = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' });
    await new Promise((resolve) => other.once('spawn', resolve));
    for (const { uuid } of devices) await claim(uuid, other.pid ?? 0);
    const stop = new AbortController();
    await expect(
      leases(2).acquire(stop.signal, () => {
        stop.abort(new Error('all are held'));
      }),
    ).rejects.toThrow('all are held');
    const ended = new Promise((resolve) => other.once('exit', resolve));
    other.kill('SIGKILL');
    await ended;
    const lease = await leases(2).acquire(never, ignore);
    expect(lease.index).toBe(0);
    await lease.release();
    expect(await readdir(join(folder, 'GPU-a'))).toEqual([]);
  });

  it('tell a process number that was used again from the holder', async () => {
    await claim('GPU-a', process.pid, '1');
    expect((await leases(2).acquire(never, ignore)).index).toBe(process.platform === 'linux' ? 0 : 1);
  });

  it('are given to one of many that ask at the same time', async () => {
    const pools = Array.from({ length: 8 }, () => leases(2));
    await claim('GPU-a', 2 ** 22 + 1);
    const taken: number[] = [];
    const stop = new AbortController();
    const all = pools.map((pool) =>
      pool.acquire(stop.signal, ignore).then(
        ({ index }) => taken.push(index),
        () => undefined,
      ),
    );
    await new Promise((resolve) => setTimeout(resolve, 300));
    stop.abort(new Error('enough'));
    await Promise.all(all);
    expect(taken.sort()).toEqual([0, 1]);
  });
});
