import { announceReady } from '../../config/ready.ts';
import { createMlflowClient } from '../../store/mlflow-client.ts';
import { openStore } from '../../store/store.ts';
import { every } from '../../workers/every.ts';
import { mirrorRuns } from '../../workers/mlflow-mirror.ts';

/** Mirrors the runs of DATABASE_URL to MILLRACE_MLFLOW_MIRROR, as the orchestrator does, until it is killed. */
const INTERVAL_MS = 100;
const store = openStore({ databaseUrl: process.env['DATABASE_URL'] ?? '', poolSize: 3 });
const client = createMlflowClient({ address: process.env['MILLRACE_MLFLOW_MIRROR'] ?? '', env: process.env });
const settleMs = Number(process.env['SETTLE_MS']);
announceReady({ name: 'mirror' });
await every(
  INTERVAL_MS,
  new AbortController().signal,
  () => undefined,
  async () => {
    await mirrorRuns({ store, client, settleMs, log: () => undefined });
  },
);
