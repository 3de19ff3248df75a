import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { lastLogLines, openLogFile } from '../../../stack/log-file.ts';

it('a log keeps its newest lines within its bound, and goes on where it was', () => {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-log-'));
  try {
    const path = join(folder, 'logs/x.log');
    for (let opened = 0; opened < 2; opened++) {
      const log = openLogFile(path, { maxBytes: 100, keep: 2 });
      for (let i = 0; i < 20; i++) log.write(`line ${opened} ${String(i).padStart(2, '0')} padding\n`);
      log.close();
      log.write('after the end\n');
    }
    expect(readdirSync(join(folder, 'logs')).toSorted()).toEqual(['x.log', 'x.log.1', 'x.log.2']);
    for (const name of readdirSync(join(folder, 'logs'))) expect(readFileSync(join(folder, 'logs', name)).byteLength).toBeLessThanOrEqual(100);
    expect(lastLogLines(path, 2)).toEqual(['line 1 18 padding', 'line 1 19 padding']);
    expect(lastLogLines(join(folder, 'none.log'), 2)).toEqual([]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
