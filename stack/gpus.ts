import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Gpu {
  /** As `CUDA_VISIBLE_DEVICES` counts. */
  readonly index: number;
  readonly name: string;
  /** Undefined when only the kernel's driver was asked. */
  readonly memoryMib: number | undefined;
}

/** The devices in what `nvidia-smi --query-gpu=index,name,memory.total --format=csv,noheader,nounits` prints. */
export function parseNvidiaSmi(output: string): readonly Gpu[] {
  return output
    .split('\n')
    .map((line) => line.split(',').map((cell) => cell.trim()))
    .filter((cells) => /^\d+$/.test(cells[0] ?? ''))
    .map(([index = '', name = '', memory = '']) => ({ index: Number(index), name, memoryMib: /^\d+$/.test(memory) ? Number(memory) : undefined }));
}

/**
 * The NVIDIA GPUs of this machine: by `nvidia-smi`, else by what the kernel's driver lists. Empty when there is none.
 * `CUDA_VISIBLE_DEVICES=''` or `-1` hides them all, as it does from CUDA.
 */
export function detectGpus(env: NodeJS.ProcessEnv = process.env): readonly Gpu[] {
  const visible = env['CUDA_VISIBLE_DEVICES'];
  if (visible !== undefined && (visible.trim() === '' || visible.trim().startsWith('-'))) return [];
  try {
    return parseNvidiaSmi(
      execFileSync('nvidia-smi', ['--query-gpu=index,name,memory.total', '--format=csv,noheader,nounits'], {
        encoding: 'utf8',
        timeout: 10_000,
        stdio: ['ignore', 'pipe', 'ignore'],
        env,
      }),
    );
  } catch {
    const folder = '/proc/driver/nvidia/gpus';
    if (!existsSync(folder)) return [];
    return readdirSync(folder).map((device, index) => ({
      index,
      name: /^Model:\s*(.+)$/m.exec(readFileSync(join(folder, device, 'information'), 'utf8'))?.[1] ?? 'NVIDIA GPU',
      memoryMib: undefined,
    }));
  }
}
