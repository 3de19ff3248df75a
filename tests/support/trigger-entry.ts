import type { TriggerEntry } from '../../contracts/retraining.ts';

/** An entry of the ledger that waits, with what a test states. */
export const triggerEntry = (stated: Partial<TriggerEntry> = {}): TriggerEntry => ({
  number: 1,
  key: null,
  source: 'a test',
  reason: 'new data',
  condition: null,
  at: '2026-01-01T00:00:00.000Z',
  receivedAt: '2026-01-01T00:00:00.000Z',
  times: 1,
  fate: 'waiting',
  because: 'cool-down until 2026-01-01T00:01:00.000Z',
  heldBy: [],
  workflowId: null,
  runId: null,
  mergedInto: null,
  settledAt: null,
  timing: null,
  ...stated,
});
