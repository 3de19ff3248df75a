import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { afterEach, beforeAll, beforeEach, describe, expect, inject, it, vi } from 'vitest';
import { runCommandLine } from '../../cli/program.ts';
import type { Reproduction } from '../../cli/reproduce-command.ts';
import type { TestEnvironment } from '../../testing/test-environment.ts';
import { setCurrentBuild } from '../../workers/deployment.ts';
import { buildProject } from '../../workers/project-build.ts';
import { freshDatabase } from '../support/database.ts';
import { recordedTerminal } from '../unit/cli/recorded-terminal.ts';
import { flightsCsv, hostBuild, openEnvironment } from './test-project.ts';

let env: TestEnvironment & { readonly project: string };
let databaseUrl: string;
let first: string;
beforeAll(async () => {
  databaseUrl = await freshDatabase();
  env = await openEnvironment({ databaseUrl });
  first = String((await env.run('trained')).runId);
});
beforeEach(() => {
  const { config } = env.deps;
  vi.stubEnv('MILLRACE_PROJECT', env.project);
  vi.stubEnv('MILLRACE_HOME', config.home);
  vi.stubEnv('DATABASE_URL', databaseUrl);
  vi.stubEnv('TEMPORAL_ADDRESS', inject('temporalAddress'));
  vi.stubEnv('TEMPORAL_NAMESPACE', config.temporal.namespace);
});
afterEach(() => {
  vi.unstubAllEnvs();
});

const millrace = async (...args: string[]): Promise<{ readonly code: number; readonly out: string; readonly err: string }> => {
  const terminal = recordedTerminal({ columns: 200 });
  const code = await runCommandLine(args, terminal);
  return { code, out: terminal.out(), err: terminal.err() };
};
const reproduce = async (...args: string[]): Promise<Reproduction & { readonly code: number }> => {
  const { code, out } = await millrace('runs', 'reproduce', ...args, '--json');
  return { code, ...(JSON.parse(out) as Reproduction) };
};
const verdicts = ({ stages }: Reproduction): Readonly<Record<string, string>> => Object.fromEntries(stages.map(({ stage, verdict }) => [stage, verdict]));
const SAME = {
  ingest: 'same',
  validate: 'same',
  convertDistance: 'same',
  inspect: 'same',
  split: 'same',
  'train-linear': 'same',
  evaluate: 'same',
  register: 'not done',
};

describe('millrace runs reproduce', () => {
  it('gives the same bytes in every stage, without the cache, and publishes nothing', async () => {
    const done = await reproduce(first);
    expect(done).toMatchObject({ code: 0, of: first, same: true, build: { kept: true, changedSteps: [] } });
    expect(verdicts(done)).toEqual(SAME);
    const { store } = env.deps;
    const again = await store.runs.get(done.run);
    expect(again).toMatchObject({ pipeline: 'reproduce', status: 'completed', trigger: { kind: 'reproduce', source: first } });
    expect((await store.stages.list(again.id)).map(({ name, cachedFrom, missReason }) => [name, cachedFrom, missReason?.kind])).toEqual(
      Object.keys(SAME)
        .filter((name) => name !== 'register')
        .map((name) => [name, null, 'notAsked']),
    );
    expect(await store.models.versionsOfRun(again.id)).toEqual([]);
    // its own id tells the result again
    const { code, out } = await millrace('runs', 'reproduce', done.run);
    expect(code).toBe(0);
    expect(out).toContain(`Run ${first.slice(0, 12)} is reproduced: 7 of 7 stages gave the same bytes`);
    expect(out).toMatch(/train-linear +same bytes/);
  });

  it('names a source that has changed; what came after it is as it was', async () => {
    const source = join(env.project, 'data', 'flights.csv');
    const original = await readFile(source, 'utf8');
    await writeFile(source, flightsCsv(500, 9));
    const done = await reproduce(first);
    await writeFile(source, original);
    expect(done).toMatchObject({ code: 1, same: false });
    expect(verdicts(done)).toEqual({ ...SAME, ingest: 'different' });
    const [ingest] = done.stages;
    expect(ingest?.differs).toContain('source.sha256');
    expect(ingest).toMatchObject({ note: 'the source has changed', before: { rows: 600 }, now: { rows: 500 } });
  });

  it('runs the recorded code of a step that has changed since, and names the step; with --current the new one', async () => {
    const helper = join(env.project, 'pipelines', 'trained', 'rounding.ts');
    await writeFile(helper, (await readFile(helper, 'utf8')).replace('= 3', '= 1'));
    const { id } = await buildProject(env.deps);
    await hostBuild(env, id);
    await setCurrentBuild(env.client, env.deps.config.temporal.namespace, id);
    const recorded = await reproduce(first);
    expect(recorded).toMatchObject({
      code: 0,
      same: true,
      build: { recorded: env.buildId, current: id, changedSteps: ['convertDistance', 'convertForTraining'] },
    });
    const { code, out } = await millrace('runs', 'reproduce', first, '--current', '--stage', 'convertDistance');
    expect(code).toBe(1);
    expect(out).toMatch(/convertDistance +different +the step's code has changed\n/);
    expect(out).toContain('Code of the project that has changed since build');
    expect(out).not.toContain('train-linear');
  });

  it('says that the build of a run is gone, and which code ran in its place', async () => {
    const client = new pg.Client({ connectionString: databaseUrl });
    await client.connect();
    await client.query('delete from builds where id = $1', [env.buildId]);
    await client.end();
    const done = await reproduce(first, '--stage', 'convertDistance');
    expect(done).toMatchObject({ code: 1, build: { recorded: env.buildId, kept: false } });
    expect(done.stages).toMatchObject([{ verdict: 'different', differs: ['step'] }]);
    expect((await millrace('runs', 'reproduce', done.run)).out).toContain(`Its build ${env.buildId.slice(0, 12)} is gone`);
  });

  it('refuses what cannot be done again', async () => {
    const nothing = await millrace('runs', 'reproduce', first, '--stage', 'nothing');
    expect(nothing.code).toBe(2);
    expect(nothing.err).toContain('has no stage nothing');
    const publishes = await millrace('runs', 'reproduce', first, '--stage', 'register');
    expect(publishes.code).toBe(1);
    expect(publishes.err).toContain('it publishes');
  });
});
