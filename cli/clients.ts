import { userInfo } from 'node:os';
import type { Client } from '@temporalio/client';
import type { MillraceConfig } from '../config/config.ts';
import { MillraceError } from '../contracts/errors.ts';
import { type Identity, projectsOf, type Role, type VoucherAction } from '../contracts/identity.ts';
import type { Store } from '../store/store.ts';
import { roleNeeded } from './command-roles.ts';

/** What commands talk to; each is opened when it is first asked for. */
export interface Clients {
  readonly config: MillraceConfig;
  /** @throws DATABASE_UNAVAILABLE, NOT_RUNNING, SCHEMA_TOO_NEW */
  store(): Promise<Store>;
  /** @throws TEMPORAL_UNAVAILABLE, NOT_RUNNING */
  temporal(): Promise<Client>;
  /**
   * Who acts on what is of the pipeline, model or endpoint `name`: the token's person, or where no token is configured `by`
   * and then the user of this machine.
   * @throws NOT_ALLOWED for another project's name, INVALID_REQUEST for a `by` that is not the token's
   */
  actor(name: string | undefined, by?: string): Promise<Actor>;
  /** The projects whose things lists show: the token's; undefined for all, and where no token is configured. */
  projects(): Promise<readonly string[] | undefined>;
}

export interface Actor {
  readonly who: string;
  /** Of the token; undefined where none is configured. */
  readonly roles?: readonly Role[];
  /** What a message to a workflow carries beside its own fields: a voucher where tokens are configured, else nothing. */
  readonly voucher: (action: VoucherAction, workflowId: string, name: string) => Promise<{ readonly voucher?: string }>;
}

const CONNECT_TIMEOUT_MS = 5_000;

/**
 * The project's configuration, with the ports of the stack that runs in its state folder: a stack that was started with
 * moved ports is found without repeating their variables.
 */
export async function loadCliConfig(env: NodeJS.ProcessEnv = process.env): Promise<MillraceConfig> {
  const { loadProjectConfig } = await import('../config/load-project-config.ts');
  const { PORT_VARIABLES } = await import('../config/config.ts');
  const { stackStatus } = await import('../stack/stack.ts');
  const config = await loadProjectConfig({ env });
  const running = stackStatus(config.home);
  if (running === undefined) return config;
  const moved = Object.entries(PORT_VARIABLES).filter(
    ([name]) => running.ports[name as keyof typeof PORT_VARIABLES] !== config.ports[name as keyof typeof PORT_VARIABLES],
  );
  if (moved.length === 0) return config;
  const ports = Object.fromEntries(moved.map(([name, { variable }]) => [variable, String(running.ports[name as keyof typeof PORT_VARIABLES])]));
  return loadProjectConfig({ env: { ...env, ...ports } });
}

/** Whether the server is one of ours that nobody has started. */
async function isDown(config: MillraceConfig, kind: 'embedded' | 'external'): Promise<boolean> {
  const { stackStatus } = await import('../stack/stack.ts');
  return kind === 'embedded' && stackStatus(config.home) === undefined;
}

async function connectTemporal(config: MillraceConfig): Promise<Client> {
  const { Client, Connection } = await import('@temporalio/client');
  try {
    const connection = await Connection.connect({
      ...(config.temporal.connection as Parameters<typeof Connection.connect>[0]),
      connectTimeout: CONNECT_TIMEOUT_MS,
    });
    return new Client({ connection, namespace: config.temporal.namespace });
  } catch (error) {
    if (await isDown(config, config.temporal.kind)) throw new MillraceError('NOT_RUNNING', `No stack is running in ${config.home}.`, { cause: error });
    throw new MillraceError('TEMPORAL_UNAVAILABLE', `No Temporal answers at ${config.temporal.address}.`, { cause: error });
  }
}

async function connectStore(config: MillraceConfig): Promise<Store> {
  const { databaseUrl } = await import('../config/service-addresses.ts');
  const { openStore } = await import('../store/store.ts');
  const store = openStore({ databaseUrl: databaseUrl(config), poolSize: 2 });
  const health = await store.health();
  if (health.reachable && health.schemaCurrent) return store;
  await store.close();
  if (!health.reachable) {
    if (await isDown(config, config.database.kind)) throw new MillraceError('NOT_RUNNING', `No stack is running in ${config.home}.`);
    throw new MillraceError('DATABASE_UNAVAILABLE', health.problem);
  }
  throw new MillraceError(health.problem.includes('newer') ? 'SCHEMA_TOO_NEW' : 'DATABASE_UNAVAILABLE', health.problem, {
    fix: 'Use the version of millrace that the stack runs; `millrace up` brings an older database up to date.',
  });
}

/** Who the command's token stands for; null where no token is configured. @throws TOKEN_NEEDED, NOT_ALLOWED */
async function identityOf({ token }: MillraceConfig, store: Store): Promise<Identity | null> {
  const { needed, identity } = await store.tokens.identify(token);
  if (!needed) return null;
  if (identity === null)
    throw new MillraceError('TOKEN_NEEDED', token === undefined ? undefined : 'The token of MILLRACE_TOKEN is not known, has expired or was revoked.');
  const { requireMay } = await import('../store/tokens.ts');
  requireMay(identity, roleNeeded());
  return identity;
}

/** Runs a piece of work with clients, and closes what it opened. */
export async function withClients<T>(work: (clients: Clients) => Promise<T>, config?: MillraceConfig): Promise<T> {
  const settings = config ?? (await loadCliConfig());
  let store: Promise<Store> | undefined;
  let temporal: Promise<Client> | undefined;
  let identity: Identity | null = null;
  // what the command needs is looked at when it first asks for anything
  const allowed = async (): Promise<Store> => {
    store ??= connectStore(settings);
    const open = await store;
    looked ??= identityOf(settings, open);
    identity = await looked;
    return open;
  };
  let looked: Promise<Identity | null> | undefined;
  const { actAs } = await import('../store/acting.ts');
  const clients: Clients = {
    config: settings,
    store: allowed,
    async temporal() {
      // what is not reachable is told before who may
      temporal ??= connectTemporal(settings);
      const client = await temporal;
      await allowed();
      return client;
    },
    async projects() {
      await allowed();
      return identity === null ? undefined : projectsOf(identity);
    },
    async actor(name, by) {
      const open = await allowed();
      if (identity === null) return { who: by ?? userInfo().username, voucher: () => Promise.resolve({}) };
      const { requireMay } = await import('../store/tokens.ts');
      requireMay(identity, roleNeeded(), name);
      if (by !== undefined && by !== identity.who)
        throw new MillraceError('INVALID_REQUEST', `--by: the token is ${identity.who}'s, and what is done with it stands under that name.`, {
          fix: 'Leave --by out.',
        });
      const sender = identity;
      return {
        who: identity.who,
        roles: identity.roles,
        voucher: async (action, workflowId, of) => ({ voucher: await open.tokens.issueVoucher({ identity: sender, action, workflowId, name: of }) }),
      };
    },
  };
  try {
    return await actAs(userInfo().username, () => work(clients));
  } finally {
    // What could not be opened was told where it was asked for, and is not there to close.
    await Promise.allSettled([store?.then((s) => s.close()), temporal?.then((t) => t.connection.close())]);
  }
}
