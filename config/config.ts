/**
 * The environment and millrace.config.ts, as one frozen, validated object.
 *
 * Invariants:
 * 1. Each process reads its environment once, here; the object that comes out never changes.
 * 2. The environment wins over millrace.config.ts, and that over the default.
 * 3. Everything that is wrong is told at once, each with its variable or field.
 * 4. What is not loopback is never served without a token.
 */
import { existsSync } from 'node:fs';
import { availableParallelism, homedir, totalmem } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { type ClientConnectConfig, loadClientConnectConfig } from '@temporalio/envconfig';
import { z } from 'zod';
import { type AlertsConfig, AlertsSettingsSchema } from '../contracts/alerts.ts';
import { MillraceError, type Problem } from '../contracts/errors.ts';
import { type OpenLineageConfig, OpenLineageSettingsSchema } from '../contracts/open-lineage.ts';

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error';

export interface Ports {
  readonly temporal: number;
  readonly temporalUi: number;
  readonly postgres: number;
  readonly api: number;
  readonly serving: number;
}

/** The variable that moves each port, and where it stands when not moved. */
export const PORT_VARIABLES: Readonly<Record<keyof Ports, { readonly variable: string; readonly defaultPort: number }>> = {
  temporal: { variable: 'MILLRACE_TEMPORAL_PORT', defaultPort: 7233 },
  temporalUi: { variable: 'MILLRACE_TEMPORAL_UI_PORT', defaultPort: 8233 },
  postgres: { variable: 'MILLRACE_POSTGRES_PORT', defaultPort: 7432 },
  api: { variable: 'MILLRACE_API_PORT', defaultPort: 7400 },
  serving: { variable: 'MILLRACE_SERVING_PORT', defaultPort: 7500 },
};

/** Every variable that Millrace reads, with what it does. Temporal's own (`TEMPORAL_TLS_…` and the like) are read by Temporal's environment configuration. */
export const VARIABLES: Readonly<Record<string, string>> = {
  MILLRACE_PROJECT: 'the project folder; default: the working folder',
  MILLRACE_PIPELINES: "the folder of the project's pipelines; default: pipelines",
  MILLRACE_HOME: 'the state folder; default: .millrace in the project folder',
  MILLRACE_CACHE: 'what is slow to build; default: ~/.cache/millrace',
  MILLRACE_TEMPORAL_PORT: "port of the embedded Temporal's gRPC; default 7233",
  MILLRACE_TEMPORAL_UI_PORT: "port of the embedded Temporal's web page; default 8233",
  MILLRACE_POSTGRES_PORT: 'port of the embedded Postgres; default 7432',
  MILLRACE_API_PORT: 'port of the API; default 7400',
  MILLRACE_SERVING_PORT: 'port of the prediction server; default 7500',
  MILLRACE_HOST: 'the address on which the API and the prediction server listen; default 127.0.0.1; any that is not loopback needs MILLRACE_ADMIN_TOKEN',
  MILLRACE_ADMIN_TOKEN: 'the first token, an admin’s, needed when MILLRACE_HOST is not loopback; at least 8 characters',
  MILLRACE_TOKEN: 'the token that commands act with; default: MILLRACE_ADMIN_TOKEN',
  MILLRACE_TLS_CERT: 'a file with the certificate (PEM, with its chain) of the API and the prediction server; with MILLRACE_TLS_KEY they speak https',
  MILLRACE_TLS_KEY: 'the file with the key of that certificate',
  MILLRACE_API_URL: 'where other processes reach the API, when that is not where it listens',
  MILLRACE_SERVING_URL: 'where other processes reach the prediction server, when that is not where it listens',
  MILLRACE_ARTIFACTS: 'where artifacts are kept: a file:// address, or s3://BUCKET/PREFIX; default: artifacts in the state folder',
  MILLRACE_LOG_LEVEL: 'trace, debug, info, warn or error; default info',
  MILLRACE_CPU_SLOTS: 'activities at once on the pool cpu; default: the number of cores',
  MILLRACE_GPU_SLOTS: 'activities at once on the pool gpu; default: the number of devices',
  MILLRACE_SERVING_PROCESSES: 'processes of the prediction server behind its port; default: one a core, at most 8, and one a GiB of memory',
  MILLRACE_SERVING_MAX_MEMORY_MIB:
    "most mebibytes of models that the prediction server keeps loaded, in all its processes; default: half of the machine's memory",
  MILLRACE_SERVING_TIMEOUT_SECONDS: 'a prediction that takes longer is answered with 504; default 30',
  MILLRACE_SERVING_HANG_SECONDS: 'a process of the prediction server that does nothing for so long is killed and started again; default 10',
  MILLRACE_POOL: 'the pool that a worker process serves; set for it by whoever starts it',
  MILLRACE_HASH_KEY: 'the key for hashed columns; default: a random one, kept in the state folder',
  MILLRACE_SPOOL_GIB: 'most gigabytes that the files of one source may take while they are fetched; default 64',
  MILLRACE_WATCH: '1: the orchestrator takes edited pipelines while it runs; set by `millrace up --watch`',
  MILLRACE_READY_FILE: 'a file that a process touches every few seconds once it is ready; read by compose health checks',
  DATABASE_URL: 'a Postgres to use instead of the embedded one',
  SOURCE_DATABASE_URL: 'the Postgres that sources of format postgres ask when they name no other variable',
  S3_ENDPOINT: "the address of a store that speaks S3, for s3:// sources and artifacts; default: Amazon's",
  AWS_REGION: 'the region of s3:// sources and artifacts; default us-east-1',
  AWS_ACCESS_KEY_ID: 'the key for s3:// sources and artifacts; a profile or the role of the machine does too',
  AWS_SECRET_ACCESS_KEY: 'the secret of that key',
  AWS_PROFILE: 'a profile of the AWS configuration files',
  OPENLINEAGE_URL: 'the receiver of OpenLineage events, like http://host:5000; default: as millrace.config.ts says, else nowhere',
  OPENLINEAGE_ENDPOINT: 'the path at that address; default api/v1/lineage',
  OPENLINEAGE_API_KEY: 'the key that is sent to it as a bearer token',
  OPENLINEAGE_NAMESPACE: 'the namespace of jobs, datasets and models in OpenLineage events; default millrace',
  OPENLINEAGE_DISABLED: 'true: no OpenLineage events are sent, whatever else says so',
  MILLRACE_MLFLOW_MIRROR: 'an outside MLflow server to which every run is mirrored, like http://host:5000; default: none',
  MLFLOW_TRACKING_USERNAME: 'the user at an outside MLflow server, for the mirror',
  MLFLOW_TRACKING_PASSWORD: 'the password of that user',
  MLFLOW_TRACKING_TOKEN: 'a bearer token for an outside MLflow server, where there is no user',
  TEMPORAL_ADDRESS: 'a Temporal to use instead of the embedded one',
  TEMPORAL_NAMESPACE: 'the namespace of this project; default: default',
  TEMPORAL_API_KEY: 'the API key for TEMPORAL_ADDRESS',
  TEMPORAL_PROFILE: "a profile of Temporal's configuration file to use instead of the embedded server",
  TEMPORAL_CONFIG_FILE: "Temporal's configuration file, used instead of the embedded server",
  TEMPORAL_CLI: "Temporal's program, to start the embedded server with",
};

export interface PoolConfig {
  readonly name: string;
  readonly taskQueue: string;
  /** Activities at once; `devices`: as many as GPUs are found where the worker runs. */
  readonly slots: number | 'devices';
  readonly gpu: boolean;
  /** Most JavaScript heap of one stage's work; undefined: what Node gives. What runs over is OUT_OF_MEMORY. */
  readonly heapMib: number | undefined;
}

export interface Rates {
  readonly currency: string | undefined;
  /** Of one core. */
  readonly cpuHour: number;
  /** Of one device. */
  readonly gpuHour: number;
  /** Where a pool's machines cost another rate. */
  readonly pools: Readonly<Record<string, { readonly cpuHour?: number; readonly gpuHour?: number }>>;
}

export type DatabaseConfig = { readonly kind: 'embedded'; readonly port: number } | { readonly kind: 'external'; readonly url: string };

export interface TemporalConfig {
  /** `external` when the environment names a server, also in the processes that the embedded stack starts. */
  readonly kind: 'embedded' | 'external';
  readonly address: string;
  readonly namespace: string;
  /** Address, TLS and API key, as both `Connection.connect` and `NativeConnection.connect` take them. */
  readonly connection: ClientConnectConfig['connectionOptions'];
}

export interface ServingConfig {
  /** Behind one port; 1: the server is one process. */
  readonly processes: number;
  /** Of models, in all processes. */
  readonly maxModelBytes: number;
  readonly timeoutMs: number;
  readonly hangMs: number;
}

export interface MillraceConfig {
  readonly projectFolder: string;
  readonly pipelinesFolder: string;
  /** The state folder. */
  readonly home: string;
  readonly cacheFolder: string;
  /** Most bytes that the files of one source may take while they are fetched. */
  readonly spoolBytes: number;
  /** Where the API and the prediction server listen. */
  readonly host: string;
  readonly adminToken: string | undefined;
  /** What commands act with. */
  readonly token: string | undefined;
  /** Files of the certificate and its key; undefined: the servers speak http. */
  readonly tls: { readonly certFile: string; readonly keyFile: string } | undefined;
  readonly logLevel: LogLevel;
  readonly ports: Ports;
  /** Where other processes reach the servers, without a slash at the end. */
  readonly urls: { readonly api: string; readonly serving: string };
  readonly serving: ServingConfig;
  readonly database: DatabaseConfig;
  readonly temporal: TemporalConfig;
  /** `folder`: what `openArtifacts` opens, a folder or the address of a bucket with its endpoint and the folder of its cache. */
  readonly artifacts: { readonly url: string; readonly folder: string };
  /** By name; `cpu` and `gpu` are always there. */
  readonly pools: Readonly<Record<string, PoolConfig>>;
  readonly schedules: { readonly catchupWindowSeconds: number | undefined; readonly timeZone: string };
  readonly alerts: AlertsConfig;
  /** Where OpenLineage events of runs go; undefined: nowhere. */
  readonly openLineage: OpenLineageConfig | undefined;
  /** The address of the outside MLflow server to which runs are mirrored; undefined: they are not. */
  readonly mlflowMirror: string | undefined;
  /** What an hour costs; no currency: costs are not kept. */
  readonly rates: Rates;
  readonly retention: {
    readonly datasets: { readonly keepLast: number; readonly olderThan: string };
    readonly predictions: { readonly keepMs: number | undefined };
    readonly figures: { readonly keepMs: number };
    readonly alerts: { readonly keepMs: number };
  };
  /** The pool that this worker process serves, when it is one. */
  readonly pool: string | undefined;
}

export type Environment = Readonly<Record<string, string | undefined>>;

export interface LoadConfigOptions {
  /** Default: this process's environment. */
  readonly env?: Environment;
  /** Where relative folders start, when MILLRACE_PROJECT is not set. Default: the working folder. */
  readonly cwd?: string;
  /** What millrace.config.ts says; `loadProjectConfig` reads it. */
  readonly settings?: unknown;
}

const port = z
  .string()
  .regex(/^\d{1,5}$/, 'must be a port number from 1 to 65535')
  .transform(Number)
  .refine((n) => n >= 1 && n <= 65_535, 'must be a port number from 1 to 65535')
  .optional();
const slots = z
  .string()
  .regex(/^[1-9]\d{0,3}$/, 'must be a whole number from 1 to 9999')
  .transform(Number)
  .optional();
const mebibytes = z
  .string()
  .regex(/^[1-9]\d{0,8}$/, 'must be a whole number of mebibytes')
  .transform(Number)
  .optional();
const seconds = z
  .string()
  .regex(/^\d{1,5}(?:\.\d{1,3})?$/, 'must be a number of seconds')
  .transform(Number)
  .refine((value) => value > 0, 'must be more than 0')
  .optional();
const text = z.string().optional();

const url = z
  .url({ protocol: /^https?$/, error: 'must be an address like http://host:7400' })
  .transform((value) => value.replace(/\/+$/, ''))
  .optional();

const EnvironmentSchema = z.object({
  MILLRACE_PROJECT: text,
  MILLRACE_PIPELINES: text,
  MILLRACE_HOME: text,
  MILLRACE_CACHE: text,
  MILLRACE_TEMPORAL_PORT: port,
  MILLRACE_TEMPORAL_UI_PORT: port,
  MILLRACE_POSTGRES_PORT: port,
  MILLRACE_API_PORT: port,
  MILLRACE_SERVING_PORT: port,
  MILLRACE_HOST: text,
  MILLRACE_ADMIN_TOKEN: z.string().min(8, 'must have at least 8 characters').optional(),
  MILLRACE_TOKEN: text,
  MILLRACE_TLS_CERT: text,
  MILLRACE_TLS_KEY: text,
  MILLRACE_API_URL: url,
  MILLRACE_SERVING_URL: url,
  MILLRACE_ARTIFACTS: text,
  OPENLINEAGE_URL: text,
  OPENLINEAGE_ENDPOINT: text,
  OPENLINEAGE_NAMESPACE: text,
  OPENLINEAGE_DISABLED: text,
  MILLRACE_MLFLOW_MIRROR: text,
  MILLRACE_LOG_LEVEL: z.enum(['trace', 'debug', 'info', 'warn', 'error'], { error: 'must be trace, debug, info, warn or error' }).optional(),
  MILLRACE_CPU_SLOTS: slots,
  MILLRACE_GPU_SLOTS: slots,
  MILLRACE_SPOOL_GIB: z
    .string()
    .regex(/^\d{1,7}(?:\.\d{1,6})?$/, 'must be a number of gigabytes')
    .transform(Number)
    .refine((value) => value > 0, 'must be more than 0')
    .optional(),
  MILLRACE_SERVING_PROCESSES: slots.refine((value) => value === undefined || value <= 64, 'must be at most 64'),
  MILLRACE_SERVING_MAX_MEMORY_MIB: mebibytes,
  MILLRACE_SERVING_TIMEOUT_SECONDS: seconds,
  MILLRACE_SERVING_HANG_SECONDS: seconds,
  MILLRACE_POOL: text,
  DATABASE_URL: z
    .string()
    .regex(/^postgres(ql)?:\/\/[^/]+\/.+/, 'must be an address like postgres://user:password@host:5432/database')
    .optional(),
});

const age = z.string().regex(/^\d+(?:\.\d+)? ?(?:h|hours?|d|days?)$/, 'must be hours or days, like 90 days');
const poolName = z.string().regex(/^[a-z][a-z0-9-]{0,62}$/, 'must be lower case letters, digits and hyphens, starting with a letter');
const SettingsSchema = z.strictObject({
  pipelines: z.string().min(1).optional(),
  pools: z
    .record(
      poolName,
      z.strictObject({ slots: z.int().min(1).max(9999).optional(), gpu: z.boolean().optional(), heapMib: z.int().min(32).max(1_048_576).optional() }),
    )
    .optional(),
  artifacts: z.string().min(1).optional(),
  alerts: AlertsSettingsSchema.optional(),
  openLineage: OpenLineageSettingsSchema.optional(),
  retention: z
    .strictObject({
      datasets: z
        .strictObject({
          keepLast: z.int().min(1).optional(),
          olderThan: age.optional(),
        })
        .optional(),
      predictions: z.strictObject({ keep: age }).optional(),
      figures: z.strictObject({ keep: age }).optional(),
      alerts: z.strictObject({ keep: age }).optional(),
    })
    .optional(),
  rates: z
    .strictObject({
      currency: z.string().regex(/^[A-Z]{3}$/, 'must be three capital letters, like EUR'),
      cpuHour: z.number().min(0).optional(),
      gpuHour: z.number().min(0).optional(),
      pools: z.record(poolName, z.strictObject({ cpuHour: z.number().min(0).optional(), gpuHour: z.number().min(0).optional() })).optional(),
    })
    .optional(),
  schedules: z.strictObject({ catchupWindowSeconds: z.number().min(10).optional(), timeZone: z.string().min(1).optional() }).optional(),
});

const SECRETS = new Set(['MILLRACE_ADMIN_TOKEN', 'MILLRACE_TOKEN', 'MILLRACE_HASH_KEY', 'DATABASE_URL', 'TEMPORAL_API_KEY']);

/** Whether only this machine can reach what listens on `host`. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host === '[::1]' || /^127(\.\d{1,3}){3}$/.test(host);
}

/** How this machine reaches what listens on `host`, without a slash at the end. */
export function listenUrl(host: string, serverPort: number, tls = false): string {
  const reachable = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '[::1]' : host.includes(':') && !host.startsWith('[') ? `[${host}]` : host;
  return `${tls ? 'https' : 'http'}://${reachable}:${serverPort}`;
}

/** Both files or none; each must be there. */
function tlsFrom(values: z.output<typeof EnvironmentSchema>, projectFolder: string, problems: Problem[]): MillraceConfig['tls'] {
  const { MILLRACE_TLS_CERT: cert, MILLRACE_TLS_KEY: key } = values;
  if (cert === undefined && key === undefined) return undefined;
  const files = Object.entries({ MILLRACE_TLS_CERT: cert, MILLRACE_TLS_KEY: key }).map(([variable, file]) => {
    const path = file === undefined ? undefined : resolve(projectFolder, file);
    if (path === undefined)
      problems.push({
        path: variable,
        message: 'is missing: a certificate needs its key',
        fix: 'Set both MILLRACE_TLS_CERT and MILLRACE_TLS_KEY, or neither.',
      });
    else if (!existsSync(path)) problems.push({ path: variable, message: 'names a file that is not there', found: path });
    return path ?? '';
  });
  return Object.freeze({ certFile: files[0] ?? '', keyFile: files[1] ?? '' });
}

function artifactsFrom(value: string | undefined, source: string, home: string, env: Environment, problems: Problem[]): { url: string; folder: string } {
  const folder = join(home, 'artifacts');
  const standard = { url: pathToFileURL(folder).href, folder };
  if (value === undefined) return standard;
  if (value.startsWith('s3://')) {
    const [, bucket, prefix = ''] = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/([^?#]*))?$/.exec(value) ?? [];
    if (bucket !== undefined) {
      const query = new URLSearchParams({
        cache: join(home, 'artifacts-cache'),
        region: env['AWS_REGION'] ?? env['AWS_DEFAULT_REGION'] ?? 'us-east-1',
        ...(env['S3_ENDPOINT'] === undefined ? {} : { endpoint: env['S3_ENDPOINT'] }),
      });
      return { url: value, folder: `s3://${bucket}/${prefix.replace(/\/+$/, '')}?${query.toString()}` };
    }
    problems.push({ path: source, message: 'is not an address of a bucket', found: value, fix: 'Write it as s3://BUCKET or s3://BUCKET/PREFIX.' });
    return standard;
  }
  try {
    const url = new URL(value);
    if (url.protocol === 'file:') return { url: url.href, folder: fileURLToPath(url) };
  } catch {
    // said below, with what was found
  }
  problems.push({ path: source, message: 'is not an address of a folder', found: value, fix: `Write it as ${pathToFileURL(resolve(value)).href}.` });
  return standard;
}

function temporalFrom(env: Environment, temporalPort: number, problems: Problem[]): TemporalConfig {
  const namespace = env['TEMPORAL_NAMESPACE'] ?? 'default';
  const embedded: TemporalConfig = { kind: 'embedded', address: `127.0.0.1:${temporalPort}`, namespace, connection: { address: `127.0.0.1:${temporalPort}` } };
  if (!env['TEMPORAL_ADDRESS'] && !env['TEMPORAL_PROFILE'] && !env['TEMPORAL_CONFIG_FILE']) return embedded;
  try {
    const present = Object.fromEntries(Object.entries(env).filter((pair): pair is [string, string] => pair[1] !== undefined));
    const loaded = loadClientConnectConfig({ overrideEnvVars: present, disableFile: !env['TEMPORAL_PROFILE'] && !env['TEMPORAL_CONFIG_FILE'] });
    const address = loaded.connectionOptions.address;
    if (!address) {
      problems.push({ path: 'TEMPORAL_ADDRESS', message: 'the profile names no address', fix: 'Set TEMPORAL_ADDRESS, or the address in the profile.' });
      return embedded;
    }
    return { kind: 'external', address, namespace: loaded.namespace ?? namespace, connection: loaded.connectionOptions };
  } catch (error) {
    problems.push({
      path: 'TEMPORAL_…',
      message: `Temporal's environment configuration cannot be read: ${error instanceof Error ? error.message : String(error)}`,
      fix: 'Check the TEMPORAL_ variables, and the files that they name.',
    });
    return embedded;
  }
}

function poolsFrom(
  settings: z.infer<typeof SettingsSchema>,
  cpuSlots: number | undefined,
  gpuSlots: number | undefined,
  problems: Problem[],
): Record<string, PoolConfig> {
  const pools: Record<string, PoolConfig> = {};
  for (const [name, pool] of Object.entries({ cpu: {}, gpu: {}, ...settings.pools })) {
    const given: { slots?: number | undefined; gpu?: boolean | undefined; heapMib?: number | undefined } = pool;
    if ((name === 'cpu' && given.gpu === true) || (name === 'gpu' && given.gpu === false))
      problems.push({
        path: `millrace.config.ts: pools.${name}.gpu`,
        message: `the pool ${name} cannot be the other kind`,
        fix: 'Give the pool another name.',
      });
    const gpu = name === 'gpu' || given.gpu === true;
    const fromEnvironment = name === 'cpu' ? cpuSlots : name === 'gpu' ? gpuSlots : undefined;
    pools[name] = Object.freeze({
      name,
      taskQueue: `millrace-${name}`,
      slots: fromEnvironment ?? given.slots ?? (gpu ? 'devices' : availableParallelism()),
      gpu,
      heapMib: given.heapMib,
    });
  }
  return pools;
}

/** Where OpenLineage events go: the variables of OpenLineage's own clients win over millrace.config.ts. */
function openLineageFrom(
  values: z.output<typeof EnvironmentSchema>,
  settings: z.output<typeof OpenLineageSettingsSchema> | undefined,
  projectFolder: string,
  problems: Problem[],
): OpenLineageConfig | undefined {
  if (/^(?:true|1)$/i.test(values.OPENLINEAGE_DISABLED ?? '')) return undefined;
  const variable = values.OPENLINEAGE_URL?.replace(/\/+$/, '');
  if (variable !== undefined && !/^https?:\/\//.test(variable)) {
    problems.push({
      path: 'OPENLINEAGE_URL',
      message: 'is not an address of http or https',
      found: variable,
      fix: 'Write it as http://host:5000, or name a file in millrace.config.ts.',
    });
    return undefined;
  }
  const url = variable === undefined ? settings?.url : `${variable}/${(values.OPENLINEAGE_ENDPOINT ?? 'api/v1/lineage').replace(/^\/+/, '')}`;
  const namespace = values.OPENLINEAGE_NAMESPACE ?? settings?.namespace ?? 'millrace';
  const { keyVariable = 'OPENLINEAGE_API_KEY', timeoutMs = 10_000 } = settings ?? {};
  if (url !== undefined) return Object.freeze({ kind: 'http', url, namespace, keyVariable, timeoutMs });
  return settings?.file === undefined ? undefined : Object.freeze({ kind: 'file', path: resolve(projectFolder, settings.file), namespace });
}

/** The outside MLflow server; not the API itself, where every mirrored run would be a run to mirror. */
function mlflowMirrorFrom(value: string | undefined, ownUrls: readonly string[], problems: Problem[]): string | undefined {
  if (value === undefined) return undefined;
  const url = URL.canParse(value) ? new URL(value) : undefined;
  const [message, fix] =
    url === undefined || !/^https?:$/.test(url.protocol)
      ? ['is not an address of http or https', 'Write it as http://host:5000.']
      : url.username !== '' || url.password !== ''
        ? ['holds a user or a password', 'Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, instead.']
        : ownUrls.some((own) => URL.canParse(own) && new URL(own).origin === url.origin)
          ? ['is the API of this stack', 'Name an MLflow server outside of it.']
          : [];
  if (url === undefined || message !== undefined) {
    problems.push({ path: 'MILLRACE_MLFLOW_MIRROR', message: message ?? '', fix: fix ?? '' });
    return undefined;
  }
  return `${url.origin}${url.pathname}`.replace(/\/+$/, '');
}

/** An age as `age` takes it. */
const ageMs = (text: string): number => Number.parseFloat(text) * (/d/.test(text) ? 24 : 1) * 3_600_000;

function ratesFrom(given: z.infer<typeof SettingsSchema>['rates']): Rates {
  const pools = Object.entries(given?.pools ?? {}).map(([name, { cpuHour, gpuHour }]) => [
    name,
    Object.freeze({ ...(cpuHour === undefined ? {} : { cpuHour }), ...(gpuHour === undefined ? {} : { gpuHour }) }),
  ]);
  return Object.freeze<Rates>({
    currency: given?.currency,
    cpuHour: given?.cpuHour ?? 0,
    gpuHour: given?.gpuHour ?? 0,
    pools: Object.freeze(Object.fromEntries(pools) as Rates['pools']),
  });
}

const MOST_SERVING_PROCESSES = 8;

/** The memory that this process may use: the container's, where there is a limit, else the machine's. */
function memoryBytes(): number {
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}

function servingFrom(values: z.output<typeof EnvironmentSchema>): ServingConfig {
  const memory = memoryBytes();
  const byMachine = Math.max(1, Math.min(availableParallelism(), MOST_SERVING_PROCESSES, Math.floor(memory / 1024 ** 3)));
  return Object.freeze<ServingConfig>({
    processes: values.MILLRACE_SERVING_PROCESSES ?? byMachine,
    maxModelBytes: values.MILLRACE_SERVING_MAX_MEMORY_MIB === undefined ? Math.floor(memory / 2) : values.MILLRACE_SERVING_MAX_MEMORY_MIB * 1024 ** 2,
    timeoutMs: (values.MILLRACE_SERVING_TIMEOUT_SECONDS ?? 30) * 1_000,
    hangMs: (values.MILLRACE_SERVING_HANG_SECONDS ?? 10) * 1_000,
  });
}

/**
 * Reads and checks the configuration; the result is frozen.
 *
 * @throws MillraceError INVALID_CONFIG with every problem, each named by its variable or field.
 */
export function loadConfig(options: LoadConfigOptions = {}): MillraceConfig {
  // An empty variable is an unset one: compose files and shells write `NAME=` for that.
  const env: Environment = Object.fromEntries(Object.entries(options.env ?? process.env).filter(([, value]) => value !== undefined && value !== ''));
  const problems: Problem[] = [];

  const parsed = EnvironmentSchema.safeParse(env);
  for (const issue of parsed.error?.issues ?? []) {
    const variable = String(issue.path[0]);
    problems.push({
      path: variable,
      message: issue.message,
      ...(SECRETS.has(variable) ? {} : { found: env[variable] ?? '' }),
      fix: `${variable}: ${VARIABLES[variable] ?? 'see the documentation'}.`,
    });
  }
  const broken = new Set(parsed.error?.issues.map((issue) => String(issue.path[0])));
  const values = parsed.data ?? EnvironmentSchema.parse(Object.fromEntries(Object.entries(env).filter(([name]) => !broken.has(name))));

  const settingsParsed = SettingsSchema.safeParse(options.settings ?? {});
  for (const issue of settingsParsed.error?.issues ?? []) {
    problems.push({
      path: `millrace.config.ts${issue.path.length > 0 ? `: ${issue.path.join('.')}` : ''}`,
      message: issue.message,
      fix: 'The type of defineConfig lists the fields.',
    });
  }
  const settings = settingsParsed.data ?? {};

  const cwd = options.cwd ?? process.cwd();
  const projectFolder = resolve(cwd, values.MILLRACE_PROJECT ?? '.');
  const home = resolve(projectFolder, values.MILLRACE_HOME ?? '.millrace');
  const host = values.MILLRACE_HOST ?? '127.0.0.1';
  if (!isLoopback(host) && values.MILLRACE_ADMIN_TOKEN === undefined && !broken.has('MILLRACE_ADMIN_TOKEN')) {
    problems.push({
      path: 'MILLRACE_ADMIN_TOKEN',
      message: `is needed because MILLRACE_HOST is not a loopback address`,
      found: `MILLRACE_HOST=${host}`,
      fix: 'Set MILLRACE_ADMIN_TOKEN to a long random text, for instance from `openssl rand -hex 32`.',
    });
  }

  const tls = tlsFrom(values, projectFolder, problems);
  const ports: Ports = {
    temporal: values.MILLRACE_TEMPORAL_PORT ?? PORT_VARIABLES.temporal.defaultPort,
    temporalUi: values.MILLRACE_TEMPORAL_UI_PORT ?? PORT_VARIABLES.temporalUi.defaultPort,
    postgres: values.MILLRACE_POSTGRES_PORT ?? PORT_VARIABLES.postgres.defaultPort,
    api: values.MILLRACE_API_PORT ?? PORT_VARIABLES.api.defaultPort,
    serving: values.MILLRACE_SERVING_PORT ?? PORT_VARIABLES.serving.defaultPort,
  };
  const seen = new Map<number, string>();
  for (const name of Object.keys(PORT_VARIABLES) as (keyof Ports)[]) {
    const { variable } = PORT_VARIABLES[name];
    const other = seen.get(ports[name]);
    if (other !== undefined)
      problems.push({ path: variable, message: `is the same port as ${other}`, found: String(ports[name]), fix: 'Give each server a port of its own.' });
    seen.set(ports[name], variable);
  }

  const artifacts = artifactsFrom(
    values.MILLRACE_ARTIFACTS ?? settings.artifacts,
    values.MILLRACE_ARTIFACTS === undefined ? 'millrace.config.ts: artifacts' : 'MILLRACE_ARTIFACTS',
    home,
    env,
    problems,
  );
  const openLineage = openLineageFrom(values, settings.openLineage, projectFolder, problems);
  const urls = Object.freeze({
    api: values.MILLRACE_API_URL ?? listenUrl(host, ports.api, tls !== undefined),
    serving: values.MILLRACE_SERVING_URL ?? listenUrl(host, ports.serving, tls !== undefined),
  });
  const mlflowMirror = mlflowMirrorFrom(values.MILLRACE_MLFLOW_MIRROR, [urls.api, listenUrl(host, ports.api, tls !== undefined)], problems);
  const temporal = temporalFrom(env, ports.temporal, problems);
  const pools = poolsFrom(settings, values.MILLRACE_CPU_SLOTS, values.MILLRACE_GPU_SLOTS, problems);
  if (values.MILLRACE_POOL !== undefined && pools[values.MILLRACE_POOL] === undefined)
    problems.push({
      path: 'MILLRACE_POOL',
      message: 'there is no pool of that name',
      found: values.MILLRACE_POOL,
      fix: `Use one of ${Object.keys(pools).join(', ')}, or name it in millrace.config.ts.`,
    });

  if (problems.length > 0)
    throw new MillraceError('INVALID_CONFIG', problems.length === 1 ? undefined : `The configuration has ${problems.length} problems.`, { problems });

  const pipelines = values.MILLRACE_PIPELINES ?? settings.pipelines ?? 'pipelines';
  return Object.freeze<MillraceConfig>({
    projectFolder,
    pipelinesFolder: isAbsolute(pipelines) ? pipelines : join(projectFolder, pipelines),
    home,
    cacheFolder: resolve(projectFolder, values.MILLRACE_CACHE ?? join(homedir(), '.cache', 'millrace')),
    spoolBytes: (values.MILLRACE_SPOOL_GIB ?? 64) * 1024 ** 3,
    host,
    adminToken: values.MILLRACE_ADMIN_TOKEN,
    token: values.MILLRACE_TOKEN ?? values.MILLRACE_ADMIN_TOKEN,
    tls,
    logLevel: values.MILLRACE_LOG_LEVEL ?? 'info',
    ports: Object.freeze(ports),
    urls,
    serving: servingFrom(values),
    database: Object.freeze<DatabaseConfig>(
      values.DATABASE_URL === undefined ? { kind: 'embedded', port: ports.postgres } : { kind: 'external', url: values.DATABASE_URL },
    ),
    temporal: Object.freeze(temporal),
    artifacts: Object.freeze(artifacts),
    pools: Object.freeze(pools),
    schedules: Object.freeze({ catchupWindowSeconds: settings.schedules?.catchupWindowSeconds, timeZone: settings.schedules?.timeZone ?? 'UTC' }),
    alerts: Object.freeze(settings.alerts ?? AlertsSettingsSchema.parse({})),
    openLineage,
    mlflowMirror,
    rates: ratesFrom(settings.rates),
    retention: Object.freeze({
      datasets: Object.freeze({ keepLast: settings.retention?.datasets?.keepLast ?? 3, olderThan: settings.retention?.datasets?.olderThan ?? '90 days' }),
      predictions: Object.freeze({ keepMs: settings.retention?.predictions === undefined ? undefined : ageMs(settings.retention.predictions.keep) }),
      figures: Object.freeze({ keepMs: ageMs(settings.retention?.figures?.keep ?? '400 days') }),
      alerts: Object.freeze({ keepMs: ageMs(settings.retention?.alerts?.keep ?? '365 days') }),
    }),
    pool: values.MILLRACE_POOL,
  });
}
