import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Environment, isLoopback, loadConfig, PORT_VARIABLES, VARIABLES } from '../../../config/config.ts';
import { MillraceError, type Problem } from '../../../contracts/errors.ts';
import { parseS3Address } from '../../../store/s3-artifacts.ts';

const load = (env: Environment = {}, settings?: unknown): ReturnType<typeof loadConfig> =>
  loadConfig({ env, cwd: '/work/project', ...(settings === undefined ? {} : { settings }) });

function problemsOf(env: Environment, settings?: unknown): readonly Problem[] {
  try {
    load(env, settings);
  } catch (error) {
    expect(error).toBeInstanceOf(MillraceError);
    expect((error as MillraceError).code).toBe('INVALID_CONFIG');
    return (error as MillraceError).problems;
  }
  throw new Error('the configuration was taken');
}

describe('loadConfig', () => {
  it('has the documented defaults', () => {
    const config = load();
    expect(config.ports).toEqual({ temporal: 7233, temporalUi: 8233, postgres: 7432, api: 7400, serving: 7500 });
    expect(config).toMatchObject({
      projectFolder: '/work/project',
      pipelinesFolder: '/work/project/pipelines',
      home: '/work/project/.millrace',
      host: '127.0.0.1',
      logLevel: 'info',
      database: { kind: 'embedded', port: 7432 },
      temporal: { kind: 'embedded', address: '127.0.0.1:7233', namespace: 'default' },
      artifacts: { folder: '/work/project/.millrace/artifacts', url: 'file:///work/project/.millrace/artifacts' },
      pools: { cpu: { taskQueue: 'millrace-cpu', slots: availableParallelism(), gpu: false }, gpu: { taskQueue: 'millrace-gpu', slots: 'devices', gpu: true } },
    });
    expect(config.cacheFolder).toMatch(/\.cache\/millrace$/);
  });

  it('cannot be changed', () => {
    const config = load();
    for (const part of [config, config.ports, config.pools, config.database, config.temporal, config.artifacts, config.urls])
      expect(Object.isFrozen(part)).toBe(true);
  });

  it('takes an empty variable for one that is not set', () => {
    expect(load({ MILLRACE_API_PORT: '', DATABASE_URL: '', TEMPORAL_ADDRESS: '', MILLRACE_CPU_SLOTS: '' })).toEqual(load());
  });

  it('takes named servers instead of the embedded ones', () => {
    const config = load({ DATABASE_URL: 'postgres://u:p@db:5432/x', TEMPORAL_ADDRESS: 'temporal:7233', TEMPORAL_NAMESPACE: 'ml', TEMPORAL_API_KEY: 'key' });
    expect(config.database).toEqual({ kind: 'external', url: 'postgres://u:p@db:5432/x' });
    expect(config.temporal).toMatchObject({ kind: 'external', address: 'temporal:7233', namespace: 'ml', connection: { apiKey: 'key', tls: true } });
  });

  it('lets the environment win over millrace.config.ts, and that over the default', () => {
    const settings = { pipelines: 'ml', pools: { cpu: { slots: 3 }, large: { slots: 1 }, vision: { gpu: true } }, artifacts: 'file:///data/artifacts' };
    expect(load({}, settings)).toMatchObject({
      pipelinesFolder: '/work/project/ml',
      artifacts: { folder: '/data/artifacts' },
      pools: { cpu: { slots: 3 }, large: { slots: 1, taskQueue: 'millrace-large', gpu: false }, vision: { slots: 'devices', gpu: true } },
    });
    expect(load({ MILLRACE_PIPELINES: '/elsewhere', MILLRACE_CPU_SLOTS: '7', MILLRACE_ARTIFACTS: 'file:///other' }, settings)).toMatchObject({
      pipelinesFolder: '/elsewhere',
      artifacts: { folder: '/other' },
      pools: { cpu: { slots: 7 } },
    });
  });

  it('tells every problem at once, each by its variable or field', () => {
    const problems = problemsOf(
      {
        MILLRACE_API_PORT: '70000',
        MILLRACE_LOG_LEVEL: 'loud',
        MILLRACE_ARTIFACTS: 's3://',
        MILLRACE_HOST: '0.0.0.0',
        DATABASE_URL: 'mysql://secret@x',
        MILLRACE_CPU_SLOTS: '0',
      },
      { pools: { 'Big Pool': {} }, unknown: 1 },
    );
    const paths = problems.map((problem) => problem.path);
    for (const path of [
      'MILLRACE_API_PORT',
      'MILLRACE_LOG_LEVEL',
      'MILLRACE_ARTIFACTS',
      'MILLRACE_ADMIN_TOKEN',
      'DATABASE_URL',
      'MILLRACE_CPU_SLOTS',
      'millrace.config.ts',
      'millrace.config.ts: pools.Big Pool',
    ])
      expect(paths).toContain(path);
    expect(problems.every((problem) => problem.fix !== undefined)).toBe(true);
  });

  it('does not repeat a secret in what it says', () => {
    expect(JSON.stringify(problemsOf({ DATABASE_URL: 'mysql://user:hunter2@x', MILLRACE_ADMIN_TOKEN: 'short' }))).not.toMatch(/hunter2|"short"/);
  });

  it.each(['127.0.0.1', '127.8.8.8', 'localhost', '::1'])('needs no token on %s', (host) => {
    expect(isLoopback(host)).toBe(true);
    expect(load({ MILLRACE_HOST: host }).adminToken).toBeUndefined();
  });

  it.each(['0.0.0.0', '::', '192.168.1.5', '10.0.0.1', 'my-machine', '128.0.0.1', '127.0.0.1.example.org'])('needs a token on %s', (host) => {
    expect(problemsOf({ MILLRACE_HOST: host }).map((problem) => problem.path)).toEqual(['MILLRACE_ADMIN_TOKEN']);
    expect(load({ MILLRACE_HOST: host, MILLRACE_ADMIN_TOKEN: 'a-long-token' }).host).toBe(host);
  });

  it('refuses two servers on one port', () => {
    expect(problemsOf({ MILLRACE_API_PORT: '7500' })).toMatchObject([{ path: 'MILLRACE_SERVING_PORT', message: 'is the same port as MILLRACE_API_PORT' }]);
  });

  it('takes a bucket for artifacts, with the endpoint and region of the environment and a cache in the state folder', () => {
    const { home, artifacts } = load({ MILLRACE_ARTIFACTS: 's3://bucket/team/a b/', S3_ENDPOINT: 'http://store:9000', AWS_DEFAULT_REGION: 'eu-west-1' });
    expect(artifacts.url).toBe('s3://bucket/team/a b/');
    expect(parseS3Address(artifacts.folder)).toEqual({
      bucket: 'bucket',
      prefix: 'team/a b',
      endpoint: 'http://store:9000',
      region: 'eu-west-1',
      cache: join(home, 'artifacts-cache'),
    });
    expect(problemsOf({ MILLRACE_ARTIFACTS: 's3://Not_A_Bucket/x' })[0]?.fix).toContain('s3://BUCKET');
  });

  it('refuses a pool that nobody named', () => {
    expect(problemsOf({ MILLRACE_POOL: 'large' })).toMatchObject([{ path: 'MILLRACE_POOL', found: 'large' }]);
    expect(load({ MILLRACE_POOL: 'large' }, { pools: { large: {} } }).pool).toBe('large');
  });

  it("says so when a file of Temporal's configuration cannot be read", () => {
    expect(problemsOf({ TEMPORAL_CONFIG_FILE: '/nowhere/temporal.toml', TEMPORAL_PROFILE: 'cloud' })).toHaveLength(1);
  });

  it('explains every variable that moves a port', () => {
    for (const { variable, defaultPort } of Object.values(PORT_VARIABLES)) expect(VARIABLES[variable]).toContain(String(defaultPort));
  });
});

it('logged predictions stay unless the configuration says how long, in hours or days', () => {
  const keepMs = (settings: unknown): number | undefined => loadConfig({ env: {}, settings }).retention.predictions.keepMs;
  expect(keepMs({})).toBeUndefined();
  expect(keepMs({ retention: { predictions: { keep: '90 days' } } })).toBe(90 * 86_400_000);
  expect(keepMs({ retention: { predictions: { keep: '1.5 h' } } })).toBe(5_400_000);
  expect(() => keepMs({ retention: { predictions: { keep: 'a while' } } })).toThrow(expect.objectContaining({ code: 'INVALID_CONFIG' }) as Error);
});

it('alerts that are over stay for a year unless the configuration says how long', () => {
  const keepMs = (settings: unknown): number => loadConfig({ env: {}, settings }).retention.alerts.keepMs;
  expect(keepMs({})).toBe(365 * 86_400_000);
  expect(keepMs({ retention: { alerts: { keep: '30 days' } } })).toBe(30 * 86_400_000);
  expect(() => keepMs({ retention: { alerts: { keep: 30 } } })).toThrow(expect.objectContaining({ code: 'INVALID_CONFIG' }) as Error);
});

it('mirrors to an MLflow server outside of this stack, whose address holds no password', () => {
  expect(load().mlflowMirror).toBeUndefined();
  expect(load({ MILLRACE_MLFLOW_MIRROR: 'http://mlflow:5000/' }).mlflowMirror).toBe('http://mlflow:5000');
  const refused = (address: string, more: Environment = {}): readonly string[] =>
    problemsOf({ MILLRACE_MLFLOW_MIRROR: address, ...more }).map(({ path, message }) => `${path} ${message}`);
  expect(refused('mlflow:5000')).toEqual(['MILLRACE_MLFLOW_MIRROR is not an address of http or https']);
  expect(refused('http://ada:s3cret@mlflow:5000')).toEqual(['MILLRACE_MLFLOW_MIRROR holds a user or a password']);
  const isOwn = ['MILLRACE_MLFLOW_MIRROR is the API of this stack'];
  expect(refused('http://127.0.0.1:7400')).toEqual(isOwn);
  expect(refused('https://millrace.example.com/', { MILLRACE_API_URL: 'https://millrace.example.com' })).toEqual(isOwn);
});
