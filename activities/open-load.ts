/**
 * Requests at a rate, whatever the answers do: an open loop.
 *
 * Invariants:
 * 1. Request i is due at i / rate. Its latency is counted from then on, not from when a connection was free for it: a server that
 *    stalls is charged with all that were due meanwhile (no coordinated omission).
 * 2. Every request that was due is counted once: answered, answered with an error, or never answered.
 */
import { connect, type Socket } from 'node:net';
import { answerEnd, answerStatus } from './http-wire.ts';

export interface OpenLoad {
  readonly host: string;
  readonly port: number;
  /** Whole requests, head and body, sent in turn. */
  readonly requests: readonly string[];
  readonly requestsPerSecond: number;
  readonly seconds: number;
  /** Sent at the same rate before, and not counted. */
  readonly warmUpSeconds: number;
  readonly connections: number;
  /** Answers that come so long after the last request was due still count as in time. */
  readonly inTimeMs: number;
  /** How long answers are waited for after the last request. */
  readonly graceSeconds: number;
}

export interface OpenLoadResult {
  /** Requests that were due. */
  readonly requests: number;
  /** Answered with 200. */
  readonly answered: number;
  /** Answered otherwise, or on a connection that broke. */
  readonly failed: number;
  /** Not answered when the time was over. */
  readonly unanswered: number;
  /** Answers (200) that came in time, by the measured seconds. */
  readonly answeredPerSecond: number;
  /** Of those answered with 200, and of those never answered as far as they waited. */
  readonly p50Ms: number;
  readonly p95Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** How late requests left this process though a connection was free, 99th percentile: what the generator itself added. */
  readonly generatorP99Ms: number;
  /** Statuses of failed answers, most frequent first. */
  readonly statuses: readonly (readonly [status: string, count: number])[];
}

const TICK_MS = 1;
/** A generator that was held up sends what is due in pieces, so that answers are read in between. */
const SENT_AT_ONCE = 256;

interface Connection {
  readonly socket: Socket;
  /** Number of the request under way; −1: none. */
  request: number;
  pending: Buffer | undefined;
}

const quantile = (sorted: Float64Array, fraction: number): number => sorted[Math.max(0, Math.ceil(sorted.length * fraction) - 1)] ?? 0;

/** Sends the load from this process; a server's figures are its own only when it runs in another. */
export async function runOpenLoad(load: OpenLoad, onProgress: (fraction: number) => void = () => undefined): Promise<OpenLoadResult> {
  const { requestsPerSecond, seconds, warmUpSeconds } = load;
  const wire = load.requests.map((request) => Buffer.from(request, 'utf8'));
  const warm = Math.round(warmUpSeconds * requestsPerSecond);
  const total = warm + Math.max(1, Math.round(seconds * requestsPerSecond));
  const latencies: number[] = [];
  const lags: number[] = [];
  const statuses = new Map<string, number>();
  const free: Connection[] = [];
  const busy = new Set<Connection>();
  /** Due requests that no connection is free for: the first of them. */
  let next = 0;
  let due = 0;
  let answered = 0;
  let answeredInTime = 0;
  let failed = 0;
  let open = 0;
  const startedMs = performance.now() + 10;
  const dueMs = (request: number): number => startedMs + (request * 1_000) / requestsPerSecond;
  const endMs = dueMs(total);
  let waitsForConnection = false;

  const settle = (request: number, status: string): void => {
    if (request < warm) return;
    const nowMs = performance.now();
    if (status === '200') {
      answered += 1;
      if (nowMs <= endMs + load.inTimeMs) answeredInTime += 1;
      latencies.push(nowMs - dueMs(request));
      return;
    }
    failed += 1;
    statuses.set(status, (statuses.get(status) ?? 0) + 1);
  };
  const send = (connection: Connection): void => {
    const request = next++;
    connection.request = request;
    busy.add(connection);
    // one that waited for a connection is late by the server's doing
    if (request >= warm && !waitsForConnection) lags.push(Math.max(0, performance.now() - dueMs(request)));
    connection.socket.write(wire[request % wire.length] ?? '');
  };
  const drop = (connection: Connection): void => {
    open -= 1;
    const at = free.indexOf(connection);
    if (at >= 0) free.splice(at, 1);
    if (busy.delete(connection)) settle(connection.request, 'connection');
  };
  const addConnection = (): void => {
    open += 1;
    const socket = connect({ host: load.host, port: load.port, noDelay: true });
    const connection: Connection = { socket, request: -1, pending: undefined };
    socket.on('connect', () => {
      free.push(connection);
      pump();
    });
    socket.on('data', (chunk: Buffer) => {
      const bytes = connection.pending === undefined ? chunk : Buffer.concat([connection.pending, chunk]);
      if (answerEnd(bytes) === 0) {
        connection.pending = bytes;
        return;
      }
      connection.pending = undefined;
      busy.delete(connection);
      settle(connection.request, answerStatus(bytes));
      connection.request = -1;
      free.push(connection);
      pump();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      drop(connection);
    });
  };
  const pump = (): void => {
    const sendable = Math.min(due - next, SENT_AT_ONCE);
    for (let sent = 0; sent < sendable; sent += 1) {
      const connection = free.pop();
      if (connection === undefined) {
        waitsForConnection = true;
        return;
      }
      send(connection);
    }
    if (next >= due) waitsForConnection = false;
  };

  for (let index = 0; index < load.connections; index += 1) addConnection();
  let lastProgressMs = 0;
  await new Promise<void>((resolve) => {
    const tick = (): void => {
      const nowMs = performance.now();
      due = Math.max(due, Math.min(total, Math.floor(((nowMs - startedMs) * requestsPerSecond) / 1_000) + 1));
      // connections that broke are made anew, not faster than time goes
      if (open < load.connections && nowMs < endMs) addConnection();
      pump();
      if (nowMs - lastProgressMs > 1_000) {
        lastProgressMs = nowMs;
        onProgress(Math.min(1, Math.max(0, (nowMs - startedMs) / (endMs - startedMs))));
      }
      const over = due >= total && next >= total && busy.size === 0;
      if (over || nowMs > endMs + load.graceSeconds * 1_000) resolve();
      else setTimeout(tick, TICK_MS);
    };
    tick();
  });
  const nowMs = performance.now();
  const lost = [...[...busy].map(({ request }) => request), ...Array.from({ length: total - next }, (_, index) => next + index)].filter(
    (request) => request >= warm,
  );
  for (const request of lost) latencies.push(nowMs - dueMs(request));
  for (const { socket } of [...free, ...busy]) socket.destroy();
  const sorted = Float64Array.from(latencies).sort();
  return {
    requests: total - warm,
    answered,
    failed,
    unanswered: lost.length,
    answeredPerSecond: answeredInTime / seconds,
    p50Ms: quantile(sorted, 0.5),
    p95Ms: quantile(sorted, 0.95),
    p99Ms: quantile(sorted, 0.99),
    maxMs: sorted.at(-1) ?? 0,
    generatorP99Ms: quantile(Float64Array.from(lags).sort(), 0.99),
    statuses: [...statuses].sort((a, b) => b[1] - a[1]),
  };
}
