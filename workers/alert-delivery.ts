import type { AlertChannel } from '../contracts/alerts.ts';
import type { Store } from '../store/store.ts';
import { ChannelFailure, sendAlert } from './alert-channels.ts';

const AT_ONCE = 20;

export interface DeliveryDeps {
  readonly store: Pick<Store, 'alerts'>;
  readonly channels: readonly AlertChannel[];
  readonly apiUrl: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly log: (level: 'warn', message: string, details?: Readonly<Record<string, unknown>>) => void;
}

/** Gives every message that has no deliveries yet one for each channel. */
export async function spreadAlerts({ store, channels }: DeliveryDeps): Promise<void> {
  await store.alerts.spread(channels.map(({ name }) => name));
}

/**
 * Sends what is due on one channel. Channels are delivered side by side by whoever calls this, so that one that hangs
 * holds up only itself. A message may come twice, never not at all: the receiver knows it by its key.
 *
 * @returns How many it tried.
 */
export async function deliverDue(deps: DeliveryDeps, channel: AlertChannel): Promise<number> {
  const leaseSeconds = Math.ceil((channel.timeoutMs * AT_ONCE) / 1000) + 30;
  const due = await deps.store.alerts.claim(channel.name, { limit: AT_ONCE, leaseSeconds });
  for (const delivery of due) {
    try {
      await sendAlert(channel, { key: delivery.key, message: delivery.message, apiUrl: deps.apiUrl }, deps.env);
    } catch (error) {
      if (!(error instanceof ChannelFailure)) throw error;
      deps.log('warn', `the alert channel ${channel.name} did not take a message; it is tried again`, {
        key: delivery.key,
        attempt: delivery.attempt,
        why: error.message,
      });
      await deps.store.alerts.failed(delivery, error.message);
      continue;
    }
    await deps.store.alerts.delivered(delivery.alert, channel.name);
  }
  return due.length;
}
