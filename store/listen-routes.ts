import { ROUTES_CHANNEL } from './endpoints.ts';
import { type ChannelListener, listenChannel } from './listen-channel.ts';

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

/** Hears of route changes as they commit. */
export function listenRoutes({ databaseUrl, onChange, onError }: ListenRoutesOptions): ChannelListener {
  return listenChannel({
    databaseUrl,
    channel: ROUTES_CHANNEL,
    applicationName: 'millrace routes',
    onNotice: (payload) => onChange(payload === '' ? null : payload),
    onConnect: () => onChange(null),
    ...(onError === undefined ? {} : { onError }),
  });
}
