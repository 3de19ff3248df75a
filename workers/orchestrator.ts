import { watch } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Worker } from '@temporalio/worker';
import { announceReady } from '../config/ready.ts';
import { describeError, MillraceError } from '../contracts/errors.ts';
import { auditAnchorFile, keepAuditAnchor } from '../store/audit-anchors.ts';
import { createMlflowClient } from '../store/mlflow-client.ts';
import { prepareNamespace } from '../stack/temporal-namespace.ts';
import { closeAbandonedAlerts } from './abandoned-alerts.ts';
import { deliverDue, spreadAlerts } from './alert-delivery.ts';
import { proveStart, setCurrentBuild } from './deployment.ts';
import { createBuildWorker, ensureControllers } from './hosting.ts';
import { feedBack, tellAnswered } from './label-answers.ts';
import { every } from './every.ts';
import { mirrorRuns } from './mlflow-mirror.ts';
import { tellOpenLineage } from './open-lineage-delivery.ts';
import { buildProject } from './project-build.ts';
import { reconcile } from './reconciler.ts';
import { declareTriggers, watchTriggers } from './watch-triggers.ts';
import { watchSystem } from './system-alerts.ts';
import { runWorkerProcess } from './worker-process.ts';

/**
 * The process that hosts the workflows.
 *
 * Invariants:
 * 1. Every build that still has runs has a worker here, on the code it was built with; new runs take the newest.
 * 2. A broken edit changes nothing: the build before stays current, and the log says what is wrong.
 */
const RECONCILE_EVERY_MS = 10_000;
const ANSWERS_EVERY_MS = 1_000;
const ALERTS_EVERY_MS = 1_000;
const SYSTEM_LOOK_EVERY_MS = 10_000;
/** The end of the audit log can be taken away unseen for so long. */
const AUDIT_ANCHOR_EVERY_MS = 10_000;
const LINEAGE_EVERY_MS = 2_000;
const MIRROR_EVERY_MS = 2_000;
const MIRROR_TIMEOUT_MS = 30_000;
const ABANDONED_LOOK_EVERY_MS = 60_000;
const FORGET_EVERY_MS = 3_600_000;
const BUILD_IDLE_LOOK_MS = 60_000;
const SETTLE_MS = 300;

await runWorkerProcess('orchestrator', async (context) => {
  const { config, deps, log, stopped } = context;
  await deps.store.migrate();
  await prepareNamespace(context.clientConnection, config.temporal.namespace);
  const hosted = new Map<string, { worker: Worker; running: Promise<void> }>();

  const host = async (buildId: string): Promise<void> => {
    if (hosted.has(buildId)) return;
    const worker = await createBuildWorker(context, buildId);
    const running = worker.run().catch((error: unknown) => {
      log('error', `the worker of build ${buildId} ended`, { error: error instanceof Error ? (error.stack ?? error.message) : String(error) });
      process.exitCode = 1;
      process.kill(process.pid, 'SIGTERM');
    });
    hosted.set(buildId, { worker, running });
  };
  let watching: AbortController | undefined;
  let watched = Promise.resolve();
  let pipelines: readonly string[] = [];
  const takeNewest = async (): Promise<string> => {
    const built = await buildProject(deps);
    await host(built.id);
    await setCurrentBuild(deps.client, config.temporal.namespace, built.id);
    pipelines = built.pipelines.map(({ name }) => name);
    await ensureControllers(deps, built.pipelines);
    await declareTriggers(deps, built.pipelines);
    watching?.abort();
    watching = new AbortController();
    watched = Promise.all([watched, watchTriggers(deps, AbortSignal.any([stopped, watching.signal]), log)]).then(() => undefined);
    return built.id;
  };

  let current = await takeNewest();
  for (const buildId of await deps.store.runs.openBuilds()) {
    await host(buildId).catch((error: unknown) => {
      log('error', `build ${buildId} has runs, but its code cannot be loaded`, { error: String(error) });
    });
  }
  await proveStart(deps.client);
  announceReady({ name: 'orchestrator', build: current });

  const background: Promise<void>[] = [
    every(RECONCILE_EVERY_MS, stopped, log, async () => {
      const { closed, undone } = await reconcile(deps);
      if (closed.length + undone.length > 0) log('warn', 'closed the records of runs that ended from outside', { closed, undone });
    }),
    every(BUILD_IDLE_LOOK_MS, stopped, log, async () => {
      const open = new Set(await deps.store.runs.openBuilds());
      for (const [buildId, { worker, running }] of hosted) {
        if (buildId === current || open.has(buildId)) continue;
        hosted.delete(buildId);
        worker.shutdown();
        await running;
      }
    }),
  ];
  const delivery = { store: deps.store, alerts: config.alerts, apiUrl: config.urls.api, env: process.env, log };
  background.push(
    every(ANSWERS_EVERY_MS, stopped, log, async () => {
      await tellAnswered(deps);
      await feedBack(deps);
    }),
    every(AUDIT_ANCHOR_EVERY_MS, stopped, log, async () => keepAuditAnchor(auditAnchorFile(config.home), await deps.store.audit.head())),
    every(ALERTS_EVERY_MS, stopped, log, () => spreadAlerts(delivery)),
    every(SYSTEM_LOOK_EVERY_MS, stopped, log, watchSystem({ store: deps.store, channels: config.alerts.channels.map(({ name }) => name) }).look),
    every(ABANDONED_LOOK_EVERY_MS, stopped, log, async () => {
      const closed = await closeAbandonedAlerts(deps, pipelines);
      if (closed.length > 0) log('info', 'closed alerts that nobody looks at any more', { closed });
    }),
    every(FORGET_EVERY_MS, stopped, log, async () => {
      await deps.store.alerts.forget(new Date(Date.now() - config.retention.alerts.keepMs).toISOString());
    }),
    ...config.alerts.channels.map((channel) =>
      every(ALERTS_EVERY_MS, stopped, log, async () => {
        await deliverDue(delivery, channel);
      }),
    ),
  );
  if (config.openLineage !== undefined) {
    const lineage = { store: deps.store, artifacts: deps.artifacts, openLineage: config.openLineage, env: process.env, log };
    background.push(
      every(LINEAGE_EVERY_MS, stopped, log, async () => {
        await tellOpenLineage(lineage);
      }),
    );
  }
  if (config.mlflowMirror !== undefined) {
    const client = createMlflowClient({ address: config.mlflowMirror, env: process.env, timeoutMs: MIRROR_TIMEOUT_MS });
    background.push(
      every(MIRROR_EVERY_MS, stopped, log, async () => {
        await mirrorRuns({ store: deps.store, client, log, stopped });
      }),
    );
  } else {
    background.push(
      every(ABANDONED_LOOK_EVERY_MS, stopped, log, async () => {
        if (await deps.store.mlflowMirror.turnOff()) log('warn', 'runs are mirrored no more: MILLRACE_MLFLOW_MIRROR is not set');
      }),
    );
  }
  if (process.env['MILLRACE_WATCH'] === '1') {
    background.push(
      onChange(config.pipelinesFolder, stopped, async () => {
        try {
          const before = current;
          current = await takeNewest();
          if (current !== before) log('info', 'new runs take the edited pipelines', { build: current });
        } catch (error) {
          log('error', error instanceof MillraceError ? describeError(error.report()) : String(error));
        }
      }),
    );
  }
  await new Promise<void>((resolve) => {
    if (stopped.aborted) resolve();
    stopped.addEventListener('abort', () => resolve());
  });
  for (const { worker } of hosted.values()) if (worker.getState() === 'RUNNING') worker.shutdown();
  await Promise.all([...background, watched, ...[...hosted.values()].map((h) => h.running)]);
});

/** Calls `work` once for edits that come together, never twice at a time. */
async function onChange(folder: string, stopped: AbortSignal, work: () => Promise<void>): Promise<void> {
  let dirty = false;
  const watcher = watch(folder, { recursive: true }, () => {
    dirty = true;
  });
  const isDirty = (): boolean => dirty;
  while (!stopped.aborted) {
    await sleep(SETTLE_MS, undefined, { signal: stopped }).catch(() => undefined); // only the stop ends it early
    if (!isDirty()) continue;
    dirty = false;
    await sleep(SETTLE_MS).then(work);
  }
  watcher.close();
}
