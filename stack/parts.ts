import { join } from 'node:path';
import { listenUrl, type MillraceConfig, type Ports } from '../config/config.ts';
import { packageRoot } from '../config/package-root.ts';

/** Every part of a stack, in the order of their start. */
export const PART_NAMES = ['postgres', 'temporal', 'orchestrator', 'cpu-worker', 'gpu-worker', 'serving', 'api'] as const;
export type PartName = (typeof PART_NAMES)[number];

/** A part that is a Node process of ours. */
export interface NodePart {
  readonly name: Exclude<PartName, 'postgres' | 'temporal'>;
  /** Its source file, relative to the package; `dist/` has the built one. */
  readonly entry: string;
  /** The pool that a worker serves. */
  readonly pool?: 'cpu' | 'gpu';
  readonly port?: keyof Ports;
  /** The path that answers 200 once it is ready; without one the process announces itself (config/ready.ts). */
  readonly readyPath?: string;
}

export const NODE_PARTS: readonly NodePart[] = [
  { name: 'orchestrator', entry: 'workers/orchestrator.ts' },
  { name: 'cpu-worker', entry: 'workers/cpu.ts', pool: 'cpu' },
  { name: 'gpu-worker', entry: 'workers/gpu.ts', pool: 'gpu' },
  { name: 'serving', entry: 'serving/main.ts', port: 'serving', readyPath: '/v2/health/ready' },
  { name: 'api', entry: 'api/main.ts', port: 'api', readyPath: '/readyz' },
];

/** The built file of a part, as `node` is given it, relative to the package. */
export function builtEntry(part: NodePart): string {
  return `dist/${part.entry.replace(/\.ts$/, '.js')}`;
}

export function builtEntryPath(part: NodePart): string {
  return join(packageRoot, builtEntry(part));
}

/** The address to ask whether a part is ready: where it listens, whatever others are told. */
export function readyUrl(part: NodePart, config: MillraceConfig): string | undefined {
  if (part.readyPath === undefined || part.port === undefined) return undefined;
  return `${listenUrl(config.host, config.ports[part.port], config.tls !== undefined)}${part.readyPath}`;
}

/** What a child process is told in its environment: the whole configuration, with the addresses of the embedded parts. */
export function childEnvironment(
  config: MillraceConfig,
  services: { readonly databaseUrl: string; readonly temporalAddress: string },
  base: NodeJS.ProcessEnv = process.env,
): NodeJS.ProcessEnv {
  const cpu = config.pools['cpu'];
  const gpu = config.pools['gpu'];
  return {
    ...base,
    MILLRACE_PROJECT: config.projectFolder,
    MILLRACE_PIPELINES: config.pipelinesFolder,
    MILLRACE_HOME: config.home,
    MILLRACE_CACHE: config.cacheFolder,
    MILLRACE_HOST: config.host,
    MILLRACE_ARTIFACTS: config.artifacts.url,
    MILLRACE_LOG_LEVEL: config.logLevel,
    MILLRACE_TEMPORAL_PORT: String(config.ports.temporal),
    MILLRACE_TEMPORAL_UI_PORT: String(config.ports.temporalUi),
    MILLRACE_POSTGRES_PORT: String(config.ports.postgres),
    MILLRACE_API_PORT: String(config.ports.api),
    MILLRACE_SERVING_PORT: String(config.ports.serving),
    ...(typeof cpu?.slots === 'number' ? { MILLRACE_CPU_SLOTS: String(cpu.slots) } : {}),
    ...(typeof gpu?.slots === 'number' ? { MILLRACE_GPU_SLOTS: String(gpu.slots) } : {}),
    ...(config.adminToken === undefined ? {} : { MILLRACE_ADMIN_TOKEN: config.adminToken }),
    ...(config.tls === undefined ? {} : { MILLRACE_TLS_CERT: config.tls.certFile, MILLRACE_TLS_KEY: config.tls.keyFile }),
    DATABASE_URL: services.databaseUrl,
    TEMPORAL_NAMESPACE: config.temporal.namespace,
    // An external server's own variables (TLS, key, profile) are in `base` already and stay as they are.
    ...(config.temporal.kind === 'embedded' ? { TEMPORAL_ADDRESS: services.temporalAddress } : {}),
  };
}
