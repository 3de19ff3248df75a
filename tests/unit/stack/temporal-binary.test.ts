import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { MillraceError } from '../../../contracts/errors.ts';
import { cachedTemporalPath, findTemporalBinary, temporalVersion } from '../../../stack/temporal-binary.ts';

let folder: string;
let cacheFolder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'millrace-temporal-'));
  cacheFolder = join(folder, 'cache');
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

function program(path: string, body: string): string {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `#!/bin/sh\n${body}\n`);
  chmodSync(path, 0o755);
  return path;
}

describe("finding Temporal's program", () => {
  it('takes the one that is named before the one on PATH before the cached one', async () => {
    const named = program(join(folder, 'named'), 'echo named');
    const onPath = program(join(folder, 'bin/temporal'), 'echo path');
    const cached = program(cachedTemporalPath(cacheFolder), 'echo cached');
    const PATH = join(folder, 'bin');
    expect(await findTemporalBinary({ cacheFolder, env: { TEMPORAL_CLI: named, PATH } })).toEqual({ path: named, source: 'TEMPORAL_CLI' });
    expect(await findTemporalBinary({ cacheFolder, env: { PATH } })).toEqual({ path: onPath, source: 'PATH' });
    expect(await findTemporalBinary({ cacheFolder, env: { PATH: '/nowhere' } })).toEqual({ path: cached, source: 'cache' });
    expect(temporalVersion(cached)).toBe('cached');
  });

  it('lists each way that was tried and why it failed', async () => {
    const failure: unknown = await findTemporalBinary({ cacheFolder, env: { TEMPORAL_CLI: '/nowhere/temporal', PATH: '/nowhere' }, fetch: false }).catch(
      (error: unknown) => error,
    );
    expect(failure).toMatchObject({ code: 'PROGRAM_MISSING', problems: [{ path: 'TEMPORAL_CLI' }, { path: 'PATH' }, { path: 'cache' }] });
    expect((failure as MillraceError).fix).toMatch(/TEMPORAL_ADDRESS/);
  });
});
