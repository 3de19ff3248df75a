import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { cudaOrdinal, detectGpus, parseNvidiaSmi } from '../../../stack/gpus.ts';

describe('GPU detection', () => {
  it('reads the devices that nvidia-smi prints', () => {
    expect(parseNvidiaSmi('0, NVIDIA H200, 143771, GPU-5a\n1, Tesla T4, [N/A]\n')).toEqual([
      { index: 0, name: 'NVIDIA H200', memoryMib: 143_771, uuid: 'GPU-5a' },
      { index: 1, name: 'Tesla T4', memoryMib: undefined },
    ]);
    expect(parseNvidiaSmi('No devices were found\n')).toEqual([]);
  });

  it('knows where CUDA finds a device among those that it sees', () => {
    const gpu = { index: 3, name: 'NVIDIA A10', memoryMib: 23_028, uuid: 'GPU-3c7f' };
    expect(cudaOrdinal(gpu, {})).toBe(3);
    expect(cudaOrdinal(gpu, { CUDA_VISIBLE_DEVICES: '2, 3' })).toBe(1);
    expect(cudaOrdinal(gpu, { CUDA_VISIBLE_DEVICES: 'GPU-3c,GPU-9' })).toBe(0);
  });

  it('asks the nvidia-smi on PATH, and sees none where CUDA is told to see none', () => {
    const folder = mkdtempSync(join(tmpdir(), 'millrace-gpu-'));
    try {
      writeFileSync(join(folder, 'nvidia-smi'), '#!/bin/sh\necho "0, NVIDIA A10, 23028, GPU-1a"\necho "1, NVIDIA A10, 23028, GPU-2b"\n');
      chmodSync(join(folder, 'nvidia-smi'), 0o755);
      const env = { PATH: `${folder}:${process.env['PATH'] ?? ''}` };
      expect(detectGpus(env)).toEqual([
        { index: 0, name: 'NVIDIA A10', memoryMib: 23_028, uuid: 'GPU-1a' },
        { index: 1, name: 'NVIDIA A10', memoryMib: 23_028, uuid: 'GPU-2b' },
      ]);
      expect(detectGpus({ ...env, CUDA_VISIBLE_DEVICES: '1' }).map(({ index }) => index)).toEqual([1]);
      expect(detectGpus({ ...env, CUDA_VISIBLE_DEVICES: 'GPU-1a' }).map(({ index }) => index)).toEqual([0]);
      expect(detectGpus({ ...env, CUDA_VISIBLE_DEVICES: '' })).toEqual([]);
      expect(detectGpus({ ...env, CUDA_VISIBLE_DEVICES: '-1' })).toEqual([]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
