import pg from 'pg';

export interface ChannelListener {
  readonly close: () => Promise<void>;
}

export interface ListenChannelOptions {
  readonly databaseUrl: string;
  readonly channel: string;
  /** As the server's list of connections shows it. */
  readonly applicationName: string;
  /** Called with the payload of each notification, at most 8,000 bytes. */
  readonly onNotice: (payload: string) => void;
  /** Called after every (re)connect: what was notified meanwhile is lost. */
  readonly onConnect?: () => void;
  /** Told of every connection that could not be made or was lost; it is tried again. */
  readonly onError?: (error: unknown) => void;
}

const FIRST_RETRY_MS = 200;
const LAST_RETRY_MS = 5_000;

/** Hears of notifications as they commit, through one connection of its own that is made again whenever it breaks. */
export function listenChannel({ databaseUrl, channel, applicationName, onNotice, onConnect, onError }: ListenChannelOptions): ChannelListener {
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
    const mine = new pg.Client({ connectionString: databaseUrl, application_name: applicationName, keepAlive: true, connectionTimeoutMillis: 5_000 });
    client = mine;
    mine.on('notification', ({ payload }) => onNotice(payload ?? ''));
    mine.on('error', (error) => lost(mine, error));
    mine.on('end', () => lost(mine, new Error('the connection ended')));
    mine
      .connect()
      .then(() => mine.query(`listen ${pg.escapeIdentifier(channel)}`))
      .then(() => {
        retryMs = FIRST_RETRY_MS;
        onConnect?.();
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
