import type { AlertToRaise } from '../contracts/alerts.ts';
import type { MirrorStanding } from '../store/mlflow-mirror.ts';
import type { Store } from '../store/store.ts';

/** A restart takes no longer. */
const DEFAULT_GRACE_MS = 60_000;
const MOST_ENDPOINTS = 1_000;
/** An outside server may be restarted. */
const MIRROR_AWAY_MS = 15 * 60_000;
const MIRROR_BEHIND_MS = 60 * 60_000;

export interface SystemWatch {
  /** Looks once: raises what has been so for longer than the grace, and resolves what is not so any more. */
  readonly look: () => Promise<void>;
}

export interface SystemWatchDeps {
  readonly store: Pick<Store, 'alerts' | 'endpoints' | 'servers' | 'mlflowMirror'>;
  /** Names of the channels that the project has. */
  readonly channels: readonly string[];
  /** How long a trouble is left alone: servers restart, receivers too. Default one minute. */
  readonly graceMs?: number;
}

/**
 * Watches what a monitor of one endpoint cannot see: endpoints that no prediction server serves, or whose route a server
 * cannot take up, alert channels that take nothing (of which the others are told), and a mirror that is behind. After a restart of the watcher
 * the grace begins anew.
 */
export function watchSystem({ store, channels, graceMs = DEFAULT_GRACE_MS }: SystemWatchDeps): SystemWatch {
  const since = new Map<string, string>();
  const alert = (subject: string, what: string, more: Pick<AlertToRaise, 'look' | 'command'> & Partial<AlertToRaise>): AlertToRaise => ({
    kind: 'system',
    subject,
    what,
    since: since.get(subject) ?? new Date().toISOString(),
    against: null,
    sure: null,
    group: 'system',
    ...more,
  });

  async function troubles(): Promise<readonly AlertToRaise[]> {
    const routes = (await store.endpoints.listRoutes()).slice(0, MOST_ENDPOINTS);
    const servers = await store.servers.live();
    const found: AlertToRaise[] = [];
    if (routes.length > 0 && servers.length === 0)
      found.push(
        alert(
          'prediction servers',
          `No prediction server is alive: ${String(routes.length)} ${routes.length === 1 ? 'endpoint is' : 'endpoints are'} not served.`,
          {
            severity: 'critical',
            look: '/api/v1/endpoints',
            command: 'millrace status',
          },
        ),
      );
    for (const { endpoint, epoch } of routes) {
      const failing = servers.flatMap(({ id, failures }) =>
        failures.filter((failure) => failure.endpoint === endpoint && failure.epoch === epoch).map(({ error }) => ({ id, error })),
      );
      const [first] = failing;
      if (first === undefined) continue;
      found.push(
        alert(
          `route of ${endpoint}`,
          `${String(failing.length)} of ${String(servers.length)} prediction servers cannot take up what ${endpoint} should serve: ${first.error.message}`,
          {
            severity: failing.length === servers.length ? 'critical' : 'warning',
            look: `/api/v1/endpoints/${endpoint}`,
            command: `millrace endpoints show ${endpoint}`,
          },
        ),
      );
    }
    for (const { channel, waiting, oldest, lastError } of await store.alerts.failing(graceMs)) {
      if (!channels.includes(channel)) continue;
      found.push(
        alert(
          `alert channel ${channel}`,
          `The alert channel ${channel} takes nothing: ${String(waiting)} ${waiting === 1 ? 'message waits' : 'messages wait'}. ${lastError}`,
          {
            since: oldest,
            look: '/api/v1/alerts',
            command: `millrace alerts test ${channel}`,
          },
        ),
      );
    }
    const mirror = await store.mlflowMirror.standing();
    if (mirror !== null) found.push(...mirrorTroubles(mirror));
    return found;
  }

  function mirrorTroubles({ target, waitingRuns, oldest, failingSince, refusedRuns, lastError }: MirrorStanding): readonly AlertToRaise[] {
    const lastsMs = (from: string | null): number => (from === null ? 0 : Date.now() - Date.parse(from));
    const trouble = (subject: string, what: string, from?: string | null): AlertToRaise =>
      alert(subject, `${what} ${lastError}`.trim(), { look: '/metrics', command: 'millrace status', ...(from == null ? {} : { since: from }) });
    const runs = (count: number): string => `${String(count)} ${count === 1 ? 'run' : 'runs'}`;
    return [
      ...(lastsMs(failingSince) > MIRROR_AWAY_MS
        ? [trouble('mirror', `The MLflow server ${target} takes nothing: something of ${runs(waitingRuns)} is not mirrored yet.`, failingSince)]
        : lastsMs(oldest) > MIRROR_BEHIND_MS
          ? [trouble('mirror', `The mirror to ${target} is behind: something of ${runs(waitingRuns)} is not there yet.`, oldest)]
          : []),
      ...(refusedRuns > 0 ? [trouble('mirrored runs', `The MLflow server ${target} refuses ${runs(refusedRuns)}.`)] : []),
    ];
  }

  return {
    async look() {
      const now = new Date().toISOString();
      const found = await troubles();
      for (const subject of since.keys()) if (!found.some((trouble) => trouble.subject === subject)) since.delete(subject);
      for (const { subject } of found) if (!since.has(subject)) since.set(subject, now);
      const isLasting = ({ subject }: AlertToRaise): boolean => Date.parse(now) - Date.parse(since.get(subject) ?? now) >= graceMs;
      const standing = await store.alerts.list({ kind: 'system', limit: 1_000 });
      // one that stands goes on standing while the trouble does, also when this process has only begun to look
      const firing = found.filter(
        (trouble) => isLasting(trouble) || standing.some(({ subject, endpoint }) => endpoint === null && subject === trouble.subject),
      );
      await store.alerts.settle({ kinds: ['system'], firing });
    },
  };
}
