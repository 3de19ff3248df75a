import { statSync, writeFileSync } from 'node:fs';

/** How often a process that is ready touches MILLRACE_READY_FILE. */
const TOUCH_EVERY_MS = 5_000;
/** A file touched longer ago than this belongs to a process that died or hangs. */
export const READY_FILE_MAX_AGE_MS = 30_000;

export interface ReadyDetails {
  /** The part: `orchestrator`, `cpu-worker`, … */
  readonly name: string;
  readonly [detail: string]: string | number | boolean;
}

/**
 * Tells whoever started this process that it is ready to work: one JSON line `{"ready":true,…}` on stdout, which the
 * supervisor reads. With MILLRACE_READY_FILE that file is touched from now on every 5 s, from the event loop, so that a
 * health check sees a process that hangs.
 */
export function announceReady(details: ReadyDetails): void {
  process.stdout.write(`${JSON.stringify({ ready: true, ...details })}\n`);
  const file = process.env['MILLRACE_READY_FILE'];
  if (!file) return;
  const touch = (): void => {
    writeFileSync(file, JSON.stringify({ ...details, pid: process.pid, at: new Date().toISOString() }));
  };
  touch();
  setInterval(touch, TOUCH_EVERY_MS).unref();
}

/** What a line of stdout announces, or undefined when it is any other line. */
export function parseReadyLine(line: string): ReadyDetails | undefined {
  if (!line.startsWith('{"ready":true')) return undefined;
  try {
    const { ready: _, ...details } = JSON.parse(line) as { ready: true } & ReadyDetails;
    return typeof details.name === 'string' ? details : undefined;
  } catch {
    return undefined;
  }
}

/** Whether the process behind a ready file was alive in the last 30 s. */
export function isReadyFileFresh(file: string, nowMs: number): boolean {
  try {
    return nowMs - statSync(file).mtimeMs < READY_FILE_MAX_AGE_MS;
  } catch {
    return false;
  }
}
