import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv } from 'ajv';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { loadConfig, PORT_VARIABLES, VARIABLES } from '../../config/config.ts';
import { packageRoot, packageVersion } from '../../config/package-root.ts';
import { builtEntry, NODE_PARTS } from '../../stack/parts.ts';
import { findPostgresBinaries } from '../../stack/postgres.ts';
import { TEMPORAL_SERVER_VERSION, TEMPORAL_UI_VERSION } from '../../stack/temporal-binary.ts';
import { DYNAMIC_CONFIG_FILE, dynamicConfigArguments } from '../../stack/temporal-dynamic-config.ts';
import { RETENTION_DAYS } from '../../stack/temporal-namespace.ts';

interface Service {
  readonly image: string;
  readonly build?: string;
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
  readonly healthcheck?: { readonly test: readonly string[] };
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  readonly profiles?: readonly string[];
  readonly deploy?: { readonly resources: { readonly reservations: { readonly devices: readonly { readonly capabilities: readonly string[] }[] } } };
}

const text = readFileSync(join(packageRoot, 'docker-compose.yml'), 'utf8');
const compose = parse(text, { merge: true }) as { services: Readonly<Record<string, Service>>; volumes: Readonly<Record<string, unknown>> };
const services = Object.entries(compose.services);
const ours = NODE_PARTS.map((part) => ({ part, service: compose.services[part.name] }));
const dockerfile = readFileSync(join(packageRoot, 'Dockerfile'), 'utf8');

/** `${NAME:-default}` and `${NAME:?message}` as compose fills them in, with the needed ones given. */
const GIVEN: Readonly<Record<string, string>> = { MILLRACE_ADMIN_TOKEN: 'a-long-random-token', POSTGRES_PASSWORD: 'secret' };
const fill = (value: string): string =>
  value.replace(/\$\{(\w+)(?::-([^}]*)|:\?[^}]*)?\}/g, (_, name: string, standard: string | undefined) => GIVEN[name] ?? standard ?? '');
const environmentOf = (service: Service | undefined): Record<string, string> =>
  Object.fromEntries(Object.entries(service?.environment ?? {}).map(([name, value]) => [name, fill(value)]));

function schemaErrors(document: unknown): readonly string[] {
  const schema = JSON.parse(readFileSync(join(packageRoot, 'tests/support/compose-spec.json'), 'utf8')) as Record<string, unknown>;
  // Formats (durations and the like) are plain strings to this check; `$schema` as written there has https, which ajv does not know.
  const { $schema: _, ...draft7 } = schema;
  const ajv = new Ajv({ strict: false, validateFormats: false, allErrors: true });
  const validate = ajv.compile(draft7);
  return validate(document) ? [] : (validate.errors ?? []).map((error) => `${error.instancePath} ${error.message ?? ''}`);
}

describe('docker-compose.yml', () => {
  it('meets the schema of the compose specification', () => {
    expect(schemaErrors(compose)).toEqual([]);
  });

  it('would not, with a field of the wrong type or name', () => {
    const { api } = compose.services;
    expect(schemaErrors({ ...compose, services: { api: { ...api, ports: 7400 } } })).not.toEqual([]);
    expect(schemaErrors({ ...compose, services: { api: { ...api, comand: [] } } })).not.toEqual([]);
  });

  it('names every image with the exact version that the code is made for', () => {
    const images = Object.fromEntries(services.map(([name, service]) => [name, service.image]));
    for (const image of Object.values(images)) expect(image).toMatch(/^[\w./-]+:\d+\.\d+(\.\d+)?$/);
    expect(images['temporal']).toBe(`temporalio/auto-setup:${TEMPORAL_SERVER_VERSION}`);
    expect(images['temporal-ui']).toBe(`temporalio/ui:${TEMPORAL_UI_VERSION}`);
    expect(images['postgres']).toMatch(new RegExp(`^postgres:${findPostgresBinaries().version.split('.')[0] ?? ''}\\.`));
    for (const { part } of ours) expect(images[part.name]).toBe(`millrace:${packageVersion}`);
  });

  it('runs each part of the stack by the command that the stack runs it by', () => {
    for (const { part, service } of ours) {
      expect(service?.command, part.name).toEqual(['node', builtEntry(part)]);
      expect(existsSync(join(packageRoot, part.entry)), part.entry).toBe(true);
    }
    expect(Object.keys(compose.services).toSorted()).toEqual(['postgres', 'temporal', 'temporal-ui', ...NODE_PARTS.map((part) => part.name)].toSorted());
  });

  it('publishes on loopback only, at the default ports, each moved by its variable', () => {
    const published = services.flatMap(([name, service]) => (service.ports ?? []).map((port) => ({ name, port })));
    const names = { postgres: 'postgres', temporal: 'temporal', 'temporal-ui': 'temporalUi', api: 'api', serving: 'serving' } as const;
    expect(published.map(({ name }) => name).toSorted()).toEqual(Object.keys(names).toSorted());
    for (const { name, port } of published) {
      const { variable, defaultPort } = PORT_VARIABLES[names[name as keyof typeof names]];
      expect(port).toMatch(new RegExp(`^127\\.0\\.0\\.1:\\$\\{${variable}:-${defaultPort}\\}:\\d+$`));
    }
  });

  it('gives our processes variables that the configuration knows, and values that it takes', () => {
    for (const { part, service } of ours) {
      const env = environmentOf(service);
      for (const name of Object.keys(env)) expect(name in VARIABLES || name === 'NVIDIA_DRIVER_CAPABILITIES', `${part.name}: ${name}`).toBe(true);
      const config = loadConfig({ env: { ...env, MILLRACE_PROJECT: '/millrace', MILLRACE_HOME: '/state', MILLRACE_CACHE: '/state/cache' } });
      expect(config.database).toEqual({ kind: 'external', url: 'postgres://millrace:secret@postgres:5432/millrace' });
      expect(config.temporal).toMatchObject({ kind: 'external', address: 'temporal:7233', namespace: 'default' });
      expect(config.artifacts.folder).toBe('/state/artifacts');
      expect(config.host).toBe('0.0.0.0');
      expect(config.urls).toEqual({ api: `http://api:${PORT_VARIABLES.api.defaultPort}`, serving: `http://serving:${PORT_VARIABLES.serving.defaultPort}` });
      expect(config.pool).toBe(part.pool);
    }
  });

  it('fills in only variables that the configuration knows, or that its example file explains', () => {
    const example = readFileSync(join(packageRoot, 'deploy/compose.env.example'), 'utf8');
    for (const [, name = ''] of text.matchAll(/(?<!\$)\$\{(\w+)/g)) expect(name in VARIABLES || example.includes(`\n${name}=`), name).toBe(true);
    const offered = [...example.matchAll(/^#?([A-Z_]+)=/gm)].map(([, name = '']) => name);
    for (const name of offered) expect(text, name).toContain(`\${${name}`);
  });

  it('cannot be started without a token', () => {
    for (const { service } of ours) expect(service?.environment?.['MILLRACE_ADMIN_TOKEN']).toMatch(/^\$\{MILLRACE_ADMIN_TOKEN:\?.+\}$/);
  });

  it('asks each server of ours for its readiness where it listens, and each worker for its ready file', () => {
    for (const { part, service } of ours) {
      const test = service?.healthcheck?.test.join(' ') ?? '';
      if (part.port !== undefined) {
        expect(test).toContain(`http://127.0.0.1:${PORT_VARIABLES[part.port].defaultPort}${part.readyPath ?? ''}'`);
        expect(service?.ports?.[0]).toMatch(new RegExp(`:${PORT_VARIABLES[part.port].defaultPort}$`));
      } else {
        expect(test).toBe('CMD node dist/config/check-ready.js');
        expect(existsSync(join(packageRoot, 'config/check-ready.ts'))).toBe(true);
        expect(service?.environment?.['MILLRACE_READY_FILE']).toBe('/tmp/ready');
      }
    }
  });

  it('starts nothing before what it needs is healthy', () => {
    for (const { service } of ours)
      expect(service?.depends_on).toEqual({ postgres: { condition: 'service_healthy' }, temporal: { condition: 'service_healthy' } });
    for (const [name, service] of services) {
      for (const needed of Object.keys(service.depends_on ?? {})) expect(compose.services[needed]?.healthcheck, `${name} needs ${needed}`).toBeDefined();
    }
  });

  it("gives Temporal's server the file that the embedded one reads, and the same retention", () => {
    const temporal = compose.services['temporal'];
    const [mount] = temporal?.volumes ?? [];
    expect(mount).toBe('./stack/temporal-dynamic-config.yaml:/etc/temporal/config/dynamicconfig/millrace.yaml:ro');
    expect(`/etc/temporal/${temporal?.environment?.['DYNAMIC_CONFIG_FILE_PATH'] ?? ''}`).toBe(mount?.split(':')[1]);
    expect(join(packageRoot, mount?.split(':')[0] ?? '')).toBe(DYNAMIC_CONFIG_FILE);
    const settings = parse(readFileSync(DYNAMIC_CONFIG_FILE, 'utf8')) as Record<string, readonly { value: unknown }[]>;
    const asArguments = Object.entries(settings).flatMap(([key, values]) => ['--dynamic-config-value', `${key}=${JSON.stringify(values[0]?.value)}`]);
    expect(dynamicConfigArguments()).toEqual(asArguments);
    expect(settings['history.transferProcessorMaxPollRPS']).toEqual([{ value: 1000 }]);
    expect(temporal?.environment?.['DEFAULT_NAMESPACE_RETENTION']).toBe(`${RETENTION_DAYS * 24}h`);
  });

  it('keeps what must last in volumes that it declares', () => {
    const used = services.flatMap(([, service]) => (service.volumes ?? []).map((volume) => volume.split(':')[0] ?? '')).filter((name) => !name.startsWith('.'));
    expect([...new Set(used)].toSorted()).toEqual(Object.keys(compose.volumes).toSorted());
    for (const { service } of ours) expect(service?.volumes).toEqual(['state:/state']);
  });

  it('reserves a GPU for the GPU worker alone, which runs only when asked for', () => {
    for (const [name, service] of services) {
      const capabilities = service.deploy?.resources.reservations.devices.flatMap((device) => device.capabilities);
      expect(capabilities, name).toEqual(name === 'gpu-worker' ? ['gpu'] : undefined);
      expect(service.profiles, name).toEqual(name === 'gpu-worker' ? ['gpu'] : undefined);
    }
  });
});

describe('the Dockerfile', () => {
  it('starts from exact versions of a Node that package.json takes', () => {
    const bases = [...dockerfile.matchAll(/^FROM (\S+)/gm)].map(([, base = '']) => base);
    expect(new Set(bases).size).toBe(1);
    const [, major = '', minor = ''] = /^node:(\d+)\.(\d+)\.\d+-bookworm-slim$/.exec(bases[0] ?? '') ?? [];
    expect(Number(major) > 20 || (Number(major) === 20 && Number(minor) >= 19)).toBe(true);
  });

  it('copies files that are there, runs as a user without rights, and keeps state where compose mounts it', () => {
    const ignored = readFileSync(join(packageRoot, '.dockerignore'), 'utf8').split('\n');
    for (const [, sources = ''] of dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)) {
      for (const source of sources.split(' ')) {
        expect(existsSync(join(packageRoot, source)), source).toBe(true);
        expect(ignored, source).not.toContain(source);
      }
    }
    expect([...dockerfile.matchAll(/^USER (.+)$/gm)].map(([, user]) => user)).toEqual(['node']);
    expect(dockerfile).toMatch(/MILLRACE_HOME=\/state\b/);
    expect(dockerfile).toMatch(/^VOLUME \["\/state"\]$/m);
  });

  it('does not carry secrets, state or built files of this machine into the image', () => {
    expect(readFileSync(join(packageRoot, '.dockerignore'), 'utf8').split('\n')).toEqual(
      expect.arrayContaining(['.env', '.millrace', 'node_modules', 'dist', '.git']),
    );
  });
});
