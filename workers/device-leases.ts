/**
 * Leases of GPUs: which stage may use which device.
 *
 * Invariants:
 * 1. A device has at most as many holders at once as the pool has slots for each device, over all worker processes of the
 *    machine that share a cache folder.
 * 2. Whoever wants a device puts a claim, a file named by its process and the machine's clock, and waits until it is among
 *    the first; then it marks its claim as held and counts what is held: with one too many it takes its own back. Of two
 *    that mark at the same time, the later to count sees both, so never do both stay.
 * 3. A claim of a process that is gone counts for nothing.
 * 4. Of the free devices the one with the fewest holders here is taken, of equal ones the first.
 */
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DeviceFigures, DeviceLease, DeviceLeases } from '../contracts/devices.ts';
import { cudaOrdinal, type Gpu } from '../stack/gpus.ts';

export interface DeviceLeasesOptions {
  readonly devices: readonly Gpu[];
  /** Holders at once, over all devices: divided evenly, rounded up. */
  readonly slots: number;
  /** Shared by the workers of one machine. */
  readonly folder: string;
  /** How often a busy machine is looked at again. Default 1 s. */
  readonly retryMs?: number;
  /** How often a held device is looked at. Default 5 s. */
  readonly sampleMs?: number;
}

export function createDeviceLeases({ devices, slots, folder, retryMs = 1_000, sampleMs = 5_000 }: DeviceLeasesOptions): DeviceLeases {
  const seats = Math.max(1, Math.ceil(slots / Math.max(1, devices.length)));
  const mine = new Map<number, number>(devices.map(({ index }) => [index, 0]));

  const tryOnce = async (): Promise<DeviceLease | undefined> => {
    const byLoad = [...devices].sort((a, b) => (mine.get(a.index) ?? 0) - (mine.get(b.index) ?? 0) || a.index - b.index);
    for (const device of byLoad) {
      const claim = await claimDevice(join(folder, deviceKey(device)), seats);
      if (claim === undefined) continue;
      mine.set(device.index, (mine.get(device.index) ?? 0) + 1);
      const watch = watchDevice(device, sampleMs);
      let held = true;
      return {
        index: device.index,
        ordinal: cudaOrdinal(device),
        name: device.name,
        figures: watch.figures,
        shown: watch.shown,
        release: async () => {
          if (!held) return;
          held = false;
          watch.stop();
          mine.set(device.index, (mine.get(device.index) ?? 1) - 1);
          await rm(claim, { force: true });
        },
      };
    }
    return undefined;
  };

  return {
    acquire: async (signal, onWait) => {
      await mkdir(folder, { recursive: true });
      for (;;) {
        signal.throwIfAborted();
        const lease = await tryOnce();
        if (lease !== undefined) return lease;
        onWait();
        // not in step with another that took its claim back at the same time
        await sleep(retryMs * (0.5 + Math.random()), undefined, { signal }).catch(() => {
          signal.throwIfAborted();
        });
      }
    },
  };
}

const deviceKey = ({ index, uuid }: Gpu): string => (uuid ?? `device-${String(index)}`).replaceAll(/[^a-zA-Z0-9-]/g, '_');

/** The claim's path, or undefined where the device has as many holders as it may. */
async function claimDevice(claims: string, most: number): Promise<string | undefined> {
  await mkdir(claims, { recursive: true });
  const name = `${process.hrtime.bigint().toString().padStart(20, '0')}.${String(process.pid)}.${(await bornOf(process.pid)) ?? ''}.${randomUUID()}`;
  const [wanted, held] = [join(claims, `want.${name}`), join(claims, `held.${name}`)];
  await writeFile(wanted, '', { flag: 'wx', mode: 0o600 });
  const before = (await livingClaims(claims)).filter((other) => other.startsWith('held.') || other < `want.${name}`);
  if (before.length < most) {
    await rename(wanted, held);
    const holders = (await livingClaims(claims)).filter((other) => other.startsWith('held.'));
    if (holders.length <= most) return held;
  }
  await rm(wanted, { force: true });
  await rm(held, { force: true });
  return undefined;
}

async function livingClaims(claims: string): Promise<readonly string[]> {
  const living: string[] = [];
  for (const name of await readdir(claims)) {
    if (await isAlive(name)) living.push(name);
    else await rm(join(claims, name), { force: true });
  }
  return living;
}

/** A process number that is used again is another process: it began at another time. */
async function isAlive(claim: string): Promise<boolean> {
  const [, , pid = '', born = ''] = claim.split('.');
  const now = await bornOf(Number(pid));
  return now !== undefined && (born === '' || now === '' || born === now);
}

/** When the process began; empty where the kernel does not say, undefined when there is none. */
async function bornOf(pid: number): Promise<string | undefined> {
  try {
    const stat = await readFile(`/proc/${String(pid)}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
  } catch {
    try {
      process.kill(pid, 0);
      return '';
    } catch (error) {
      return error instanceof Error && 'code' in error && error.code === 'EPERM' ? '' : undefined;
    }
  }
}

interface DeviceWatch {
  readonly figures: () => DeviceFigures | undefined;
  readonly shown: () => string;
  readonly stop: () => void;
}

function watchDevice({ index, name }: Gpu, sampleMs: number): DeviceWatch {
  let samples = 0;
  let sum = 0;
  let peakMib = 0;
  let last: { readonly utilisation: number; readonly memoryMib: number } | undefined;
  const look = (): void => {
    execFile(
      'nvidia-smi',
      ['--query-gpu=utilization.gpu,memory.used', '--format=csv,noheader,nounits', '-i', String(index)],
      { timeout: sampleMs },
      (error, stdout) => {
        const [, utilisation = '', memory = ''] = /^\s*(\d+)\s*,\s*(\d+)/.exec(stdout) ?? [];
        if (error !== null || utilisation === '') return;
        last = { utilisation: Number(utilisation) / 100, memoryMib: Number(memory) };
        samples++;
        sum += last.utilisation;
        peakMib = Math.max(peakMib, last.memoryMib);
      },
    );
  };
  look();
  const timer = setInterval(look, sampleMs).unref();
  return {
    figures: () => (samples === 0 ? undefined : { utilisation: sum / samples, peakMib }),
    shown: () =>
      last === undefined
        ? `GPU ${String(index)} (${name})`
        : `GPU ${String(index)} ${(100 * last.utilisation).toFixed(0)} %, ${last.memoryMib.toLocaleString('en')} MiB`,
    stop: () => {
      clearInterval(timer);
    },
  };
}
