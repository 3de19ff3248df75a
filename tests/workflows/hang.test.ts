import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import type { TestEnvironment } from '../../testing/test-environment.ts';
import { openEnvironment, PATIENCE_MS, stageOf } from './test-project.ts';

let env: TestEnvironment & { readonly project: string };
beforeAll(async () => {
  env = await openEnvironment();
});

describe('work that hangs while its worker lives', () => {
  it('is given to another attempt when it has told of no progress, and its thread ends', async () => {
    const file = join(env.project, 'turns.txt');
    const result = await env.run('hanging', { file });
    expect(result['rows']).toBe(600);
    expect(await stageOf(env, String(result['runId']), 'hangOnce')).toMatchObject({ status: 'completed', attempts: 2 });
    const turns = () => readFile(file, 'utf8');
    await vi.waitUntil(
      async () => {
        const before = await turns();
        await sleep(500);
        return (await turns()) === before;
      },
      { timeout: PATIENCE_MS },
    );
  });
});
