import { randomBytes } from 'node:crypto';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { type CommandFolder, commandFolder, millrace } from '../support/command-line.ts';

let store: CommandFolder['store'];
let token: string;
let all: string;
beforeAll(async () => {
  ({ store } = await commandFolder());
  for (const pipeline of ['flights', 'fraud']) {
    const runId = randomBytes(16).toString('hex');
    await store.runs.begin({ runId, workflowId: `w-${pipeline}`, temporalRunId: 't', pipeline, params: {}, trigger: { kind: 'cli', by: 'ada' } });
    await store.models.register({ model: `${pipeline}-model`, predictor: 'a'.repeat(64), metrics: {}, evaluation: null });
    await store.approvals.request({ runId, gate: 'production', evidence: {}, expiresAt: null, model: `${pipeline}-model` });
    const champion = { model: `${pipeline}-model`, version: 1, predictor: 'a'.repeat(64) };
    await store.endpoints.setRoute({
      route: { endpoint: `${pipeline}-api`, epoch: 1, champion, challenger: null, log: true },
      expectedEpoch: 0,
      rolloutId: null,
    });
  }
  const experiment = await store.experiments.create({ name: 'flights by hand', tags: {} });
  await store.trackedRuns.create({ id: randomBytes(16).toString('hex'), experimentId: experiment, name: 'r', tags: {} });
  // the first token has to be an admin's
  ({ token: all } = await store.tokens.create({ who: 'ada', roles: ['admin'], expiresAt: null, by: 'root' }));
  ({ token } = await store.tokens.create({ who: 'fly', roles: ['viewer'], projects: ['flights*'], expiresAt: null, by: 'root' }));
  vi.stubEnv('MILLRACE_TOKEN', token);
});

const listed = async (...command: readonly string[]): Promise<readonly Readonly<Record<string, unknown>>[]> => {
  const { code, out, err } = await millrace(...command, '--json');
  expect([command.join(' '), code, err]).toEqual([command.join(' '), 0, '']);
  return JSON.parse(out) as readonly Readonly<Record<string, unknown>>[];
};

describe('lists of commands with a token of some projects', () => {
  it('show what is of them, as many as are asked for', async () => {
    // the last one made is another project's run: it takes no place in the list
    expect((await listed('runs', 'list')).map(({ pipeline }) => pipeline)).toEqual(['', 'flights']);
    expect(await listed('runs', 'list', '--limit', '2')).toHaveLength(2);
    expect((await listed('models', 'list')).map(({ name }) => name)).toEqual(['flights-model']);
    expect((await listed('endpoints', 'list')).map(({ endpoint }) => endpoint)).toEqual(['flights-api']);
    expect((await listed('approvals', 'list')).map(({ model }) => model)).toEqual(['flights-model']);
    expect((await listed('alerts', 'list')).map(({ pipeline }) => pipeline)).toEqual(['flights']);
    expect(await listed('datasets', 'list')).toEqual([]);
  });

  it('show everything with a token of all', async () => {
    vi.stubEnv('MILLRACE_TOKEN', all);
    expect(new Set((await listed('runs', 'list')).map(({ pipeline }) => pipeline))).toEqual(new Set(['', 'flights', 'fraud']));
    expect(await listed('models', 'list')).toHaveLength(2);
    expect(await listed('endpoints', 'list')).toHaveLength(2);
    vi.stubEnv('MILLRACE_TOKEN', token);
  });
});
