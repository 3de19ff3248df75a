import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { runCommandLine } from '../../../cli/program.ts';
import type { SimulationResult } from '../../../contracts/simulation.ts';
import { recordedTerminal } from './recorded-terminal.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace-simulate-test-'));
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});
const ELEC2 = fileURLToPath(new URL('../../fixtures/data/elec2-twelfth.csv', import.meta.url));
const file = (name: string, text: string): string => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};
const SIMULATION = { target: 'class', blocks: { count: 10 }, start: 1, trainer: { name: 'gbdt', parameters: { trees: 10, leaves: 7 } } };
const quality = file(
  'quality.ts',
  `interface Policy { readonly name: string; readonly retrain: object; readonly train: object; readonly gate: object }
const policy: Policy = { name: 'on quality', train: { window: 'sliding', blocks: 1 }, retrain: { quality: { below: 0.75 } }, gate: { worseBy: 0, enforced: false, holdout: 0.3 } };
export default { simulation: ${JSON.stringify(SIMULATION)}, policies: [policy] };`,
);
const often = file('often.json', JSON.stringify([{ name: 'often', train: { window: 'sliding', blocks: 1 }, retrain: { every: 1 } }]));

async function simulate(...args: readonly string[]): Promise<{ readonly exit: number; readonly out: string; readonly err: string }> {
  const terminal = recordedTerminal();
  const exit = await runCommandLine(['simulate', 'price', ...args], terminal);
  return { exit, out: terminal.out(), err: terminal.err() };
}

describe('millrace simulate', { timeout: 120_000 }, () => {
  it('replays policies of JSON and of TypeScript over a file without a stack, and writes a page', async () => {
    const out = join(folder, 'page.html');
    const { exit, out: text, err } = await simulate('--policy', quality, '--policy', often, '--data', ELEC2, '--out', out);
    expect({ exit, err }).toEqual({ exit: 0, err: '' });
    expect(text).toContain('3,776 rows in 10 blocks, scored on 2 to 10');
    expect(text).toMatch(/on quality +0\.\d+ +0\.\d+ +\d+ +\d+ +[\d.]+ s/);
    expect(text).toMatch(/often +0\.\d+ +0\.\d+ +8 +8/);
    expect(text).toMatch(/rule: same as the last label +0\.\d+/);
    expect(text).toMatch(
      /on quality: the gate would have blocked v\d+ at block \d+ \(accuracy .* of the version that served\); in that block 0\.\d+ beside 0\.\d+/,
    );
    const page = readFileSync(out, 'utf8');
    expect(page.match(/<svg /g)).toHaveLength(3);
    for (const said of ['Policies of retraining: price', 'on quality', 'would be blocked', 'rule: same as the last label']) expect(page).toContain(said);
    expect(page).not.toMatch(/<script|https?:/);
  });

  it('prints one JSON document, with the comparison where it is asked for', async () => {
    const { out } = await simulate('--policy', quality, '--data', ELEC2, '--compare', '--json', '--blocks', '6', '--seed', '3');
    const result = JSON.parse(out) as SimulationResult & { readonly page: string | null };
    expect(result).toMatchObject({ metric: 'accuracy', blocks: 6, seed: 3, page: null });
    expect(result.policies.map(({ name }) => name)).toEqual([
      'static',
      'every block',
      ...[2, 3, 4, 6, 8].map((k) => `every ${String(k)} blocks`),
      'on quality',
    ]);
    expect(result.hindsight).toHaveLength(5);
  });

  it('says all that is wrong with its files', async () => {
    const wrong = file('wrong.json', JSON.stringify({ name: 'a', retrain: { every: -1 }, serve: { bestOf: 1 } }));
    const told = await simulate('--policy', wrong, '--data', ELEC2);
    expect(told.exit).toBe(2);
    expect(told.err).toMatch(/retrain\.every[\s\S]*serve/);
    const other = file('other.json', JSON.stringify({ simulation: { target: 'period' }, policies: [{ name: 'often' }] }));
    const apart = await simulate('--policy', quality, '--policy', often, '--policy', other, '--data', ELEC2);
    expect(apart.err).toMatch(/another file has a policy often[\s\S]*simulation\.target/);
    for (const [text, said] of [
      ['{', 'cannot be read as policies'],
      ['export const policy = 1;', 'has no default export'],
      ['export default {', 'found end of file'],
    ] as const)
      expect((await simulate('--policy', file(text === '{' ? 'broken.json' : 'broken.ts', text), '--data', ELEC2)).err).toContain(said);
    expect((await simulate('--policy', join(folder, 'none.json'), '--data', ELEC2)).err).toContain('There is no policy file');
    expect((await simulate('--policy', quality, '--data', join(folder, 'none.csv'))).err).toContain('There is no file');
  });

  it('needs a column of times for a window of time', async () => {
    const told = await simulate('--policy', quality, '--data', ELEC2, '--from', '2026-01-01');
    expect(told).toMatchObject({ exit: 2 });
    expect(told.err).toContain('--time COLUMN');
    const hours = Array.from(
      { length: 400 },
      (_, i) => `${new Date(Date.UTC(2026, 0, 1, i)).toISOString()},${String(i % 7)},${i % 3 === 0 ? 'yes' : i % 5 === 0 ? '' : 'no'}`,
    );
    const timed = file('timed.csv', `at,x,bought\n${hours.join('\n')}\n`);
    const policy = file(
      'timed.json',
      JSON.stringify({ simulation: { ...SIMULATION, target: 'bought', time: 'at', blocks: { hours: 24 } }, policies: [{ name: 'never' }] }),
    );
    const { exit, out, err } = await simulate('--policy', policy, '--data', timed, '--from', '2026-01-03', '--to', '2026-01-12T12:00:00Z');
    expect({ exit, err }).toEqual({ exit: 0, err: '' });
    expect(out).toMatch(/timed\.csv \(\d+ rows without a label left out\): \d+ rows in 9 blocks, scored on 2 to 9/);
  });
});
