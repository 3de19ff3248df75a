import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '@temporalio/client';
import { ERRORS, type ErrorReport, describeError } from '../contracts/errors.ts';
import type { StageView } from '../contracts/run.ts';
import type { Invocation } from './command.ts';
import { toMillraceError } from './failure.ts';
import { createLiveView } from './live-view.ts';
import { createSnapshotReader, type RunSnapshot } from './run-snapshot.ts';
import { showElapsed } from './table.ts';

/** How a run ended, as `--json` prints it. */
export interface RunOutcome {
  /** 32 hex digits; null when the run failed before it had a record. */
  readonly run: string | null;
  readonly workflowId: string;
  readonly pipeline: string;
  readonly status: string;
  readonly seconds: number;
  readonly stages: readonly StageView[];
  readonly result: unknown;
  readonly error: ErrorReport | null;
  /** What could not be taken back. */
  readonly undoProblems: readonly string[];
}

const POLL_EVERY_MS = 400;
/** Temporal that does not answer for so long is told; a server that starts again needs a few seconds. */
const PATIENCE_MS = 30_000;

const STATUS: Readonly<Record<string, string>> = {
  COMPLETED: 'completed',
  FAILED: 'failed',
  CANCELLED: 'cancelled',
  TERMINATED: 'terminated',
  TIMED_OUT: 'failed',
};

async function outcomeOf(client: Client, snapshot: RunSnapshot, temporalRunId: string | undefined): Promise<RunOutcome> {
  let result: unknown = null;
  let error: ErrorReport | null = null;
  try {
    result = (await client.workflow.getHandle(snapshot.workflowId, temporalRunId).result()) ?? null;
  } catch (failure) {
    // Being cancelled or terminated is no error of the run: the status says it.
    if (snapshot.workflowStatus === 'FAILED' || snapshot.workflowStatus === 'TIMED_OUT') error = toMillraceError(failure).report();
  }
  return {
    run: snapshot.progress?.runId ? snapshot.progress.runId : null,
    workflowId: snapshot.workflowId,
    pipeline: snapshot.pipeline,
    status: STATUS[snapshot.workflowStatus] ?? snapshot.workflowStatus.toLowerCase(),
    seconds: (Date.parse(snapshot.endedAt ?? new Date().toISOString()) - Date.parse(snapshot.startedAt)) / 1000,
    stages: snapshot.progress?.stages ?? [],
    result,
    error: snapshot.progress?.error ?? error,
    undoProblems: snapshot.progress?.undoProblems ?? [],
  };
}

/**
 * Watches a run until it has ended, live on the terminal unless a machine reads.
 *
 * @returns The outcome, or null when `signal` was aborted first: the run goes on.
 */
export async function followRun(
  client: Client,
  at: { readonly workflowId: string; readonly temporalRunId?: string },
  invocation: Invocation,
  signal: AbortSignal,
): Promise<RunOutcome | null> {
  const handle = client.workflow.getHandle(at.workflowId, at.temporalRunId);
  const read = createSnapshotReader(handle, (deadlineMs, call) => client.connection.withDeadline(deadlineMs, call));
  const view = invocation.json ? null : createLiveView(invocation.terminal);
  let silentSinceMs: number | undefined;
  while (!signal.aborted) {
    let snapshot: RunSnapshot;
    try {
      snapshot = await read();
      silentSinceMs = undefined;
    } catch (failure) {
      silentSinceMs ??= Date.now();
      if (toMillraceError(failure).code !== 'TEMPORAL_UNAVAILABLE' || Date.now() - silentSinceMs > PATIENCE_MS) throw failure;
      await sleep(POLL_EVERY_MS);
      continue;
    }
    view?.show(snapshot, Date.now());
    if (!snapshot.isOpen) {
      view?.end();
      return outcomeOf(client, snapshot, at.temporalRunId);
    }
    await sleep(POLL_EVERY_MS, undefined, { signal }).catch(() => undefined);
  }
  view?.end();
  return null;
}

/** The last lines for people: how it ended, what was wrong, what was taken back. */
export function describeOutcome(outcome: RunOutcome): string {
  const lines: string[] = [];
  if (outcome.status === 'completed') lines.push(`Completed in ${showElapsed(new Date(0).toISOString(), new Date(outcome.seconds * 1000).toISOString(), 0)}.`);
  else if (outcome.error) lines.push(describeError(outcome.error));
  else lines.push(`The run was ${outcome.status}.`);
  if (outcome.status !== 'completed' && outcome.run !== null) {
    const published = outcome.stages.filter((s) => ['register', 'approve', 'deploy', 'monitor'].includes(s.kind) && s.status !== 'waiting');
    if (outcome.undoProblems.length > 0) lines.push(...outcome.undoProblems.map((problem) => `Could not be taken back: ${problem}`));
    else if (published.length > 0)
      lines.push(
        `Taken back: ${published
          .map((s) => s.name)
          .reverse()
          .join(', ')}. Nothing of this run is published.`,
      );
    else lines.push('Nothing had been published.');
  }
  if (outcome.run !== null)
    lines.push(
      `See it: millrace runs show ${outcome.run}${outcome.status === 'failed' ? `   Again, when it is mended: millrace runs retry ${outcome.run}` : ''}`,
    );
  return `${lines.join('\n')}\n`;
}

/** The exit code that a run's ending deserves. */
export function exitCodeOf(outcome: RunOutcome): number {
  if (outcome.status === 'completed') return 0;
  return outcome.error ? ERRORS[outcome.error.code].exit : 1;
}

/** Watches a run and tells how it ended, with its exit code; Ctrl-C leaves the run going and says how to find it again. */
export async function watchToEnd(client: Client, at: { readonly workflowId: string; readonly temporalRunId?: string }, invocation: Invocation): Promise<void> {
  const leaving = new AbortController();
  const onInterrupt = (): void => {
    leaving.abort();
  };
  process.once('SIGINT', onInterrupt);
  try {
    const outcome = await followRun(client, at, invocation, leaving.signal);
    if (outcome === null) {
      const text = `\nThe run goes on. Watch it: millrace runs show ${at.workflowId} --follow   Cancel it: millrace runs cancel ${at.workflowId}\n`;
      invocation.terminal.write(invocation.json ? `${JSON.stringify({ workflowId: at.workflowId, status: 'running' })}\n` : text);
      return;
    }
    invocation.terminal.write(invocation.json ? `${JSON.stringify(outcome)}\n` : describeOutcome(outcome));
    invocation.exit(exitCodeOf(outcome));
  } finally {
    process.off('SIGINT', onInterrupt);
  }
}
