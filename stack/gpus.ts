import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Gpu {
  /** As `CUDA_VISIBLE_DEVICES` counts. */
  readonly index: number;
  readonly name: string;
  /** Undefined when only the kernel's driver was asked. */
  readonly memoryMib: number | undefined;
  /** As the driver names it, the same in every process; undefined when only the kernel's driver was asked. */
  readonly uuid?: string;
}

/**
 * Where CUDA finds the device in a process of this environment: its place among those that `CUDA_VISIBLE_DEVICES` names, or
 * its number where all are seen. Holds where `CUDA_DEVICE_ORDER` is `PCI_BUS_ID`, as `nvidia-smi` counts.
 */
export function cudaOrdinal({ index, uuid }: Gpu, env: NodeJS.ProcessEnv = process.env): number {
  const named = env['CUDA_VISIBLE_DEVICES']?.split(',').map((one) => one.trim());
  const place = named?.findIndex((one) => one === String(index) || (one !== '' && uuid?.startsWith(one) === true)) ?? -1;
  return place === -1 ? index : place;
}

/** The devices in what `nvidia-smi --query-gpu=index,name,memory.total,uuid --format=csv,noheader,nounits` prints. */
export function parseNvidiaSmi(output: string): readonly Gpu[] {
  return output
    .split('\n')
    .map((line) => line.split(',').map((cell) => cell.trim()))
    .filter((cells) => /^\d+$/.test(cells[0] ?? ''))
    .map(([index = '', name = '', memory = '', uuid = '']) => ({
      index: Number(index),
      name,
      memoryMib: /^\d+$/.test(memory) ? Number(memory) : undefined,
      ...(uuid === '' ? {} : { uuid }),
    }));
}

/**
 * The NVIDIA GPUs of this machine: by `nvidia-smi`, else by what the kernel's driver lists. Empty when there is none.
 * `CUDA_VISIBLE_DEVICES` hides those that it does not name (by number or UUID), as it does from CUDA; `''` or `-1` hides all.
 */
export function detectGpus(env: NodeJS.ProcessEnv = process.env): readonly Gpu[] {
  const visible = env['CUDA_VISIBLE_DEVICES'];
  if (visible !== undefined && (visible.trim() === '' || visible.trim().startsWith('-'))) return [];
  const named = visible?.split(',').map((one) => one.trim());
  const isVisible = ({ index, uuid }: Gpu): boolean =>
    named === undefined || named.includes(String(index)) || (uuid !== undefined && named.some((one) => one !== '' && uuid.startsWith(one)));
  try {
    return parseNvidiaSmi(
      execFileSync('nvidia-smi', ['--query-gpu=index,name,memory.total,uuid', '--format=csv,noheader,nounits'], {
        encoding: 'utf8',
        timeout: 10_000,
        stdio: ['ignore', 'pipe', 'ignore'],
        env,
      }),
    ).filter(isVisible);
  } catch {
    const folder = '/proc/driver/nvidia/gpus';
    if (!existsSync(folder)) return [];
    return readdirSync(folder)
      .map((device, index) => ({
        index,
        name: /^Model:\s*(.+)$/m.exec(readFileSync(join(folder, device, 'information'), 'utf8'))?.[1] ?? 'NVIDIA GPU',
        memoryMib: undefined,
      }))
      .filter(isVisible);
  }
}
