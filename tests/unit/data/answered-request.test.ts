import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findAnsweredRequest } from '../../../data/answered-request.ts';

let home: string;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'millrace-answered-'));
});
afterEach(async () => {
  await rm(home, { recursive: true, force: true });
});

const STARTED_MS = Date.parse('2026-01-01T00:00:00Z');
const HOURS = 30;
/** A segment of an hour, with a request of two rows. */
async function segment(endpoint: string, hour: number, requestId: string): Promise<void> {
  const at = new Date(STARTED_MS + hour * 3_600_000).toISOString();
  const lines = [0, 1].map((row) =>
    JSON.stringify({
      requestId,
      row,
      at,
      model: `${endpoint}-model`,
      version: 1 + hour,
      challenger: false,
      inputs: { n: row },
      output: [0.5, 0.5],
      latencyMs: 1,
    }),
  );
  const folder = join(home, 'predictions', endpoint);
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, `${at.slice(0, 13)}-server.jsonl`), `${lines.join('\n')}\n`);
}

describe('a request out of the prediction logs', () => {
  it('is found in the newest segment, in the oldest one, and in whose log it is', async () => {
    for (let hour = 0; hour < HOURS; hour++) await segment('busy', hour, `r${hour}`);
    await segment('quiet', 0, 'q0');
    const found = (id: string, endpoint: string | null = null) => findAnsweredRequest(home, id, endpoint);
    expect(await found(`r${HOURS - 1}`)).toMatchObject({ endpoint: 'busy', model: 'busy-model', version: HOURS, at: '2026-01-02T05:00:00.000Z', rows: 2 });
    expect(await found('r0')).toMatchObject({ endpoint: 'busy', version: 1, rows: 2 });
    expect(await found('q0')).toMatchObject({ endpoint: 'quiet', model: 'quiet-model', rows: 2 });
    expect(await found('q0', 'quiet')).toMatchObject({ endpoint: 'quiet' });
    expect(await found('q0', 'busy')).toBeNull();
    expect(await found('r99')).toBeNull();
  });

  it('is told by its last answer where an id came twice', async () => {
    for (let hour = 0; hour < HOURS; hour++) await segment('busy', hour, hour === 0 || hour === HOURS - 1 ? 'twice' : `r${hour}`);
    expect(await findAnsweredRequest(home, 'twice', null)).toMatchObject({ version: HOURS, rows: 2 });
  });

  it('is none where nothing was logged', async () => {
    expect(await findAnsweredRequest(home, 'r0', null)).toBeNull();
  });
});
