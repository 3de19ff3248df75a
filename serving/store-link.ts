/**
 * Keeps this server and the store in step, beside the requests.
 *
 * Invariants:
 * 1. Nothing here delays or fails a prediction: a store that is down or hangs leaves the routes as they are.
 * 2. Of each kind of call one is under way at most, and none is waited for longer than its time.
 * 3. Figures that could not be sent are sent again with the next ones, up to a bound; then the oldest go.
 */
import type { ChallengerBreak, Route, ServingStats } from '../contracts/routes.ts';
import type { EndpointTable } from './endpoint-table.ts';
import type { RouteSource, ServerRegistry, ServingLog, StatsSink } from './ports.ts';
import type { ServingFigures } from './serving-figures.ts';

export interface StoreLinkDeps {
  readonly serverId: string;
  readonly url: () => string;
  readonly routes: RouteSource;
  readonly registry: ServerRegistry;
  readonly stats: StatsSink;
  readonly table: EndpointTable;
  readonly figures: ServingFigures;
  readonly log: ServingLog;
  /** Default 1,000. */
  readonly everyMs?: number;
  /** Default 10. */
  readonly leaseSeconds?: number;
}

export interface StoreLink {
  /** Reads the routes once. False when the store did not answer in time. Resolves when they are in service or failed. */
  refresh(): Promise<boolean>;
  start(): void;
  /** Tells the store at once what is held here. */
  announce(): void;
  /** Ends the loops and sends the last figures, if the store answers. */
  stop(): Promise<void>;
}

const CALL_TIMEOUT_MS = 3_000;
/** Ten minutes of one version, or some seconds of hundreds. */
const MAX_UNSENT = 2_000;

async function within<T>(work: Promise<T>, timeoutMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

export function createStoreLink(deps: StoreLinkDeps): StoreLink {
  const everyMs = deps.everyMs ?? 1_000;
  const leaseSeconds = deps.leaseSeconds ?? 10;
  const underWay = new Map<string, Promise<boolean>>();
  const down = new Set<string>();
  let unsent: ServingStats[] = [];
  let untold: ChallengerBreak[] = [];
  let listener: { close(): Promise<void> } | undefined;
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  let applying: Promise<void> = Promise.resolve();

  /** Runs a call of a kind unless one is under way; says in the log when the store goes and when it is back. */
  function once(kind: string, call: () => Promise<void>): Promise<boolean> {
    const running = underWay.get(kind);
    if (running !== undefined) return running;
    const attempt = within(call(), CALL_TIMEOUT_MS)
      .then(
        () => {
          if (down.delete(kind)) deps.log('info', 'the store answers again', { call: kind });
          return true;
        },
        (error: unknown) => {
          if (!down.has(kind))
            deps.log('warn', 'the store does not answer; serving goes on with what is known', {
              call: kind,
              error: error instanceof Error ? error.message : String(error),
            });
          down.add(kind);
          return false;
        },
      )
      .finally(() => underWay.delete(kind));
    underWay.set(kind, attempt);
    return attempt;
  }

  async function refresh(): Promise<boolean> {
    let routes: readonly Route[] = [];
    const answered = await once('routes', async () => {
      routes = await deps.routes.listRoutes();
      if (!stopped) applying = deps.table.apply(routes, true);
    });
    await applying;
    return answered;
  }

  const heartbeat = (): Promise<boolean> =>
    once('heartbeat', () =>
      deps.registry.heartbeat({ serverId: deps.serverId, url: deps.url(), holding: deps.table.holding(), failures: deps.table.failures(), leaseSeconds }),
    );

  async function sendStats(): Promise<void> {
    unsent.push(...deps.figures.takeInterval(Date.now()));
    if (unsent.length > MAX_UNSENT) unsent = unsent.slice(-MAX_UNSENT);
    if (unsent.length === 0 || underWay.has('stats')) return;
    const batch = unsent;
    unsent = [];
    if (!(await once('stats', () => deps.stats.add(batch)))) unsent = [...batch, ...unsent];
  }

  /** Tells the store of challengers that got no more traffic here: the endpoint's workflow takes them back everywhere. */
  async function sendBreaks(): Promise<void> {
    untold.push(...deps.table.takeBreaks().map((broken) => ({ server: deps.serverId, ...broken })));
    if (untold.length === 0 || underWay.has('breaks')) return;
    const batch = untold;
    untold = [];
    const told = await once('breaks', async () => {
      for (const broken of batch) await deps.stats.addBreak(broken);
    });
    if (!told) untold = [...batch, ...untold].slice(-MAX_UNSENT);
  }

  function routesChanged(): void {
    // A listing under way may have been read before the change: another follows it.
    void (underWay.get('routes')?.then(refresh) ?? refresh());
  }

  return {
    refresh,
    start() {
      listener = deps.routes.listen?.(routesChanged);
      void heartbeat();
      timer = setInterval(() => {
        void refresh();
        void heartbeat();
        void sendStats();
        void sendBreaks();
      }, everyMs);
    },
    announce() {
      if (timer === undefined || stopped) return;
      // One that is under way may have read the state from before: another follows it.
      const running = underWay.get('heartbeat');
      void (running === undefined ? heartbeat() : running.then(heartbeat));
    },
    async stop() {
      stopped = true;
      clearInterval(timer);
      await underWay.get('stats');
      await sendStats();
      await Promise.allSettled(underWay.values());
      await once('leave', () => deps.registry.leave(deps.serverId));
      await within(listener?.close() ?? Promise.resolve(), CALL_TIMEOUT_MS).catch(() => undefined);
    },
  };
}
