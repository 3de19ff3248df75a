import { ALERT_SEVERITIES, type AlertChannel, type AlertLine, type AlertMessage, type AlertsConfig } from '../contracts/alerts.ts';
import type { Store } from '../store/store.ts';
import { ChannelFailure, sendAlert } from './alert-channels.ts';

const AT_ONCE = 20;
/** A process that was killed while it sent holds its message no longer than an attempt takes and this. */
const LEASE_SECONDS = 5;

export interface DeliveryDeps {
  readonly store: Pick<Store, 'alerts'>;
  readonly alerts: AlertsConfig;
  readonly apiUrl: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly log: (level: 'warn', message: string, details?: Readonly<Record<string, unknown>>) => void;
}

/** Writes what there is to tell, and gives every message that has no deliveries yet one for each channel that takes it. */
export async function spreadAlerts({ store, alerts }: DeliveryDeps): Promise<void> {
  await store.alerts.gather(alerts);
  await store.alerts.spread(alerts.channels.map((channel) => ({ name: channel.name, takes: (message) => messageFor(channel, message) !== null })));
}

function isTaken({ only }: AlertChannel, { kind, severity, endpoint, pipeline }: AlertLine): boolean {
  if (only === undefined) return true;
  return (
    (only.kinds?.includes(kind) ?? true) &&
    (only.severity === undefined || ALERT_SEVERITIES.indexOf(severity) >= ALERT_SEVERITIES.indexOf(only.severity)) &&
    (only.endpoints === undefined || (endpoint !== null && only.endpoints.includes(endpoint))) &&
    (only.pipelines === undefined || (pipeline !== null && only.pipelines.includes(pipeline)))
  );
}

/** What of a message a channel takes; null when nothing. A test is for everyone, and so is a message from before alerts had a state. */
function messageFor(channel: AlertChannel, message: AlertMessage): AlertMessage | null {
  if (message.alerts === undefined || channel.only === undefined) return message;
  const taken = message.alerts.filter((line) => isTaken(channel, line));
  const [first] = taken;
  if (first === undefined) return null;
  if (taken.length === message.alerts.length) return message;
  const { kind, since, until, look, command } = first;
  const said = first.state === 'recovered' ? `Recovered: ${first.what}` : first.what;
  // what is left out for its number is not known to fit this channel
  return { kind, what: taken.length === 1 ? said : `${String(taken.length)} alerts: ${said}`, since, until, look, command, alerts: taken };
}

/**
 * Sends what is due on one channel. Channels are delivered side by side by whoever calls this, so that one that hangs
 * holds up only itself. A message may come twice, never not at all: the receiver knows it by its key.
 *
 * @returns How many it tried.
 */
export async function deliverDue(deps: DeliveryDeps, channel: AlertChannel): Promise<number> {
  const { alerts } = deps.store;
  const leaseSeconds = Math.ceil(channel.timeoutMs / 1000) + LEASE_SECONDS;
  for (let tried = 0; tried < AT_ONCE; tried++) {
    const delivery = await alerts.claim(channel.name, { leaseSeconds });
    if (delivery === null) return tried;
    try {
      const message = messageFor(channel, delivery.message);
      // null: the channel takes less than when the message was spread
      if (message !== null) await sendAlert(channel, { key: delivery.key, message, apiUrl: deps.apiUrl }, deps.env);
    } catch (error) {
      if (!(error instanceof ChannelFailure)) throw error;
      deps.log('warn', `the alert channel ${channel.name} did not take a message; it is tried again`, {
        key: delivery.key,
        attempt: delivery.attempt,
        why: error.message,
      });
      await alerts.failed(delivery, error.message);
      continue;
    }
    await alerts.delivered(delivery);
  }
  return AT_ONCE;
}
