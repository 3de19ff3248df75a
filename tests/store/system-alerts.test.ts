import pg from 'pg';
import { beforeAll, expect, it, vi } from 'vitest';
import { createApiServer } from '../../api/server.ts';
import { AlertsSettingsSchema } from '../../contracts/alerts.ts';
import { MillraceError } from '../../contracts/errors.ts';
import { createArtifacts } from '../../store/artifacts.ts';
import type { Store } from '../../store/store.ts';
import { deliverDue, spreadAlerts } from '../../workers/alert-delivery.ts';
import { watchSystem } from '../../workers/system-alerts.ts';
import { webhookReceiver } from '../support/alert-receivers.ts';
import { freshStore } from '../support/database.ts';
import { recordRun } from '../support/recorded-run.ts';

const PATIENCE_MS = 60_000;
let store: Store;
let mirrored: Store & { readonly databaseUrl: string };
beforeAll(async () => {
  [store, mirrored] = await Promise.all([freshStore(), freshStore()]);
  const champion = { model: 'm', version: 1, predictor: 'a'.repeat(64) };
  const route = { endpoint: 'late', epoch: 1, champion, challenger: null, log: true };
  await store.endpoints.setRoute({ route, expectedEpoch: 0, rolloutId: null, reason: 'run a', by: 'run a' });
});
const standing = async (): Promise<readonly string[]> =>
  (await store.alerts.list({ kind: 'system' })).map(({ severity, subject, what }) => `${severity} ${subject}: ${what}`).sort();

it('an endpoint that nobody serves is told of after the grace, and resolved when a server lives', async () => {
  await watchSystem({ store, channels: [] }).look();
  expect(await standing()).toEqual([]);
  const watch = watchSystem({ store, channels: [], graceMs: 0 });
  await watch.look();
  await watch.look();
  const troubles = ['critical prediction servers: No prediction server is alive: 1 endpoint is not served.'];
  expect(await standing()).toEqual(troubles);
  // a watcher that has only begun to look does not take back what stands
  await watchSystem({ store, channels: [] }).look();
  expect(await standing()).toEqual(troubles);
  await store.servers.heartbeat({ serverId: 's1', url: 'http://s1', holding: [{ endpoint: 'late', epoch: 1 }], leaseSeconds: 3_600 });
  await watch.look();
  expect(await standing()).toEqual([]);
});

it('a server that cannot take a route up is told of with its reason, until the route is another', async () => {
  const watch = watchSystem({ store, channels: [], graceMs: 0 });
  const error = new MillraceError('ARTIFACT_MISSING', 'The predictor is not there.').report();
  await store.servers.heartbeat({ serverId: 's2', url: 'http://s2', holding: [], failures: [{ endpoint: 'late', epoch: 1, error }], leaseSeconds: 3_600 });
  await watch.look();
  expect(await standing()).toEqual(['warning route of late: 1 of 2 prediction servers cannot take up what late should serve: The predictor is not there.']);
  await store.servers.heartbeat({ serverId: 's2', url: 'http://s2', holding: [{ endpoint: 'late', epoch: 1 }], leaseSeconds: 3_600 });
  await watch.look();
  expect(await standing()).toEqual([]);
});

it('a channel that takes nothing is told of over the others, until it takes something', async () => {
  const down = await webhookReceiver([500]);
  const alerts = AlertsSettingsSchema.parse({ groupWaitSeconds: 0, channels: [{ kind: 'webhook', name: 'down', url: down.url }] });
  const deps = { store, alerts, apiUrl: 'http://api.example', env: {}, log: () => undefined };
  const [channel] = alerts.channels;
  if (channel === undefined) throw new Error('there is no channel');
  await store.alerts.raise({
    kind: 'drift',
    endpoint: 'late',
    subject: 'x',
    what: 'x drifted',
    since: '2026-01-01T00:00:00.000Z',
    against: null,
    sure: null,
    look: '/x',
    command: 'millrace alerts list',
  });
  await spreadAlerts(deps);
  expect(await deliverDue(deps, channel)).toBeGreaterThanOrEqual(1);
  await watchSystem({ store, channels: ['another'], graceMs: 0 }).look();
  expect(await standing()).toEqual([]);
  const watch = watchSystem({ store, channels: ['down'], graceMs: 0 });
  await watch.look();
  expect(await standing()).toEqual(['warning alert channel down: The alert channel down takes nothing: 1 message waits. The receiver answered 500.']);
  await vi.waitUntil(
    async () => {
      await deliverDue(deps, channel);
      await watch.look();
      return (await standing()).length === 0;
    },
    { timeout: PATIENCE_MS, interval: 100 },
  );
  expect(down.received.length).toBeGreaterThanOrEqual(2);
});

it('a mirror that is behind for long, or refuses runs, is told of with what its server said', async () => {
  const { mlflowMirror, databaseUrl } = mirrored;
  await mlflowMirror.turnOn('http://mlflow.example:5000');
  const watch = watchSystem({ store: mirrored, channels: [], graceMs: 0 });
  const told = async (): Promise<readonly string[]> => {
    await watch.look();
    return (await mirrored.alerts.list({ kind: 'system' })).filter(({ status }) => status !== 'resolved').map(({ what }) => what);
  };
  const change = async (text: string): Promise<void> => {
    const client = new pg.Client({ connectionString: databaseUrl });
    await client.connect();
    await client.query(text);
    await client.end();
  };
  const { runId } = await recordRun(mirrored, { name: 'behind' }, []);
  await mlflowMirror.notReached('It could not be reached.');
  expect(await told()).toEqual([]);
  await change(`update mlflow_mirror set failing_since = now() - interval '20 minutes'`);
  expect(await told()).toEqual([
    'The MLflow server http://mlflow.example:5000 takes nothing: something of 1 run is not mirrored yet. It could not be reached.',
  ]);
  await mlflowMirror.reached();
  expect(await told()).toEqual([]);
  await change(`update mirror_feed set at = now() - interval '2 hours'`);
  expect(await told()).toEqual(['The mirror to http://mlflow.example:5000 is behind: something of 1 run is not there yet.']);
  const run = await mlflowMirror.read(runId);
  await mlflowMirror.sent({ runId, notes: (run?.notes ?? []).map(({ id }) => id), facts: 'f', tags: [] });
  expect(await told()).toEqual([]);
  await mlflowMirror.refused(runId, 'It says: no.');
  expect(await told()).toEqual(['The MLflow server http://mlflow.example:5000 refuses 1 run. It says: no.']);
  const app = createApiServer({ store: mirrored, artifacts: createArtifacts({ root: '/nowhere' }), version: '1' });
  const { body } = await app.inject({ url: '/metrics' });
  await app.close();
  expect(body).toContain('\nmillrace_mlflow_mirror_refused_runs 1\n');
  expect(body).toContain('\nmillrace_mlflow_mirror_waiting_runs 0\n');
  expect(body).toContain('\nmillrace_mlflow_mirror_behind_seconds 0\n');
});
