import pg from 'pg';
import { ROUTES_CHANNEL } from './endpoints.ts';

export interface RouteListener {
  readonly close: () => Promise<void>;
}

export interface ListenRoutesOptions {
  readonly databaseUrl: string;
  /**
   * Called with the endpoint whose route changed; with null after every (re)connect, because changes may have been missed:
   * read all routes then.
   */
  readonly onChange: (endpoint: string | null) => void;
  /** Told of every connection that could not be made or was lost; it is tried again. */
  readonly onError?: (error: unknown) => void;
}

const FIRST_RETRY_MS = 200;
const LAST_RETRY_MS = 5_000;

/** Hears of route changes as they commit, through one connection of its own that is made again whenever it breaks. */
export function listenRoutes({ databaseUrl, onChange, onError }: ListenRoutesOptions): RouteListener {
  let closed = false;
  let client: pg.Client | undefined;
  let timer: NodeJS.Timeout | undefined;
  let retryMs = FIRST_RETRY_MS;

  const lost = (of: pg.Client, error: unknown): void => {
    if (client !== of) return;
    client = undefined;
    of.end().catch(() => undefined);
    if (closed) return;
    onError?.(error);
    timer = setTimeout(connect, retryMs);
    retryMs = Math.min(retryMs * 2, LAST_RETRY_MS);
  };
  const connect = (): void => {
    const mine = new pg.Client({ connectionString: databaseUrl, application_name: 'millrace routes', keepAlive: true, connectionTimeoutMillis: 5_000 });
    client = mine;
    mine.on('notification', ({ payload }) => onChange(payload ?? null));
    mine.on('error', (error) => lost(mine, error));
    mine.on('end', () => lost(mine, new Error('the connection ended')));
    mine
      .connect()
      .then(() => mine.query(`listen ${ROUTES_CHANNEL}`))
      .then(() => {
        retryMs = FIRST_RETRY_MS;
        onChange(null);
      })
      .catch((error: unknown) => lost(mine, error));
  };
  connect();

  return {
    async close(): Promise<void> {
      closed = true;
      clearTimeout(timer);
      const last = client;
      client = undefined;
      await last?.end().catch(() => undefined);
    },
  };
}
