import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { answerEnd, answerStatus } from '../activities/http-wire.ts';
import { moduleCommand } from '../config/module-process.ts';

export interface HttpLoad {
  readonly host: string;
  readonly port: number;
  /** Whole requests, head and body, sent in turn by every connection. */
  readonly requests: readonly string[];
  readonly concurrency: number;
  readonly seconds: number;
  /** Not counted, before the measured seconds. */
  readonly warmUpSeconds: number;
}

export interface HttpLoadResult {
  readonly requestsPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Answers that were not 200. */
  readonly failed: number;
  readonly requests: number;
}

const MICROSECONDS = 1_000;
/** Latencies are counted in buckets of 10 µs up to a second. */
const BUCKET_US = 10;
const BUCKETS = 100_000;
/**
 * Sends requests over keep-alive connections, one at a time on each, from this process. A server's figures are only its
 * own when this runs in another process: see `measureHttpLoad`.
 */
export async function runHttpLoad(load: HttpLoad): Promise<HttpLoadResult> {
  const counts = new Uint32Array(BUCKETS);
  let requests = 0;
  let failed = 0;
  let counting = false;
  let stopping = false;
  const wire = load.requests.map((request) => Buffer.from(request, 'utf8'));

  const connections = Array.from({ length: load.concurrency }, async (_, index) => {
    const socket = connect({ host: load.host, port: load.port, noDelay: true });
    await once(socket, 'connect');
    let next = index;
    let sentAt = 0;
    let pending: Buffer | undefined;
    const send = (): void => {
      sentAt = performance.now();
      socket.write(wire[next % wire.length] ?? '');
      next += 1;
    };
    socket.on('data', (chunk: Buffer) => {
      const bytes = pending === undefined ? chunk : Buffer.concat([pending, chunk]);
      const end = answerEnd(bytes);
      if (end === 0) {
        pending = bytes;
        return;
      }
      pending = undefined;
      if (counting) {
        const bucket = Math.min(BUCKETS - 1, Math.floor(((performance.now() - sentAt) * MICROSECONDS) / BUCKET_US));
        counts[bucket] = (counts[bucket] ?? 0) + 1;
        requests += 1;
        if (answerStatus(bytes) !== '200') failed += 1;
      }
      if (stopping) socket.end();
      else send();
    });
    const closed = once(socket, 'close');
    send();
    await closed;
  });

  const wait = (seconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, seconds * 1_000));
  await wait(load.warmUpSeconds);
  counting = true;
  const startedAt = performance.now();
  await wait(load.seconds);
  counting = false;
  const seconds = (performance.now() - startedAt) / 1_000;
  stopping = true;
  await Promise.all(connections);

  const quantile = (fraction: number): number => {
    let left = Math.ceil(requests * fraction);
    for (let bucket = 0; bucket < BUCKETS; bucket += 1) {
      left -= counts[bucket] ?? 0;
      if (left <= 0) return ((bucket + 1) * BUCKET_US) / MICROSECONDS;
    }
    return (BUCKETS * BUCKET_US) / MICROSECONDS;
  };
  return { requestsPerSecond: requests / seconds, p50Ms: quantile(0.5), p99Ms: quantile(0.99), failed, requests };
}

/** Runs a load from a process of its own. */
export async function measureHttpLoad(load: HttpLoad): Promise<HttpLoadResult> {
  const child = spawn(process.execPath, [...moduleCommand('./http-load-process', import.meta.url)], { stdio: ['pipe', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  child.stdin.end(JSON.stringify(load));
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`the load process ended with ${String(code)}`);
  return JSON.parse(text) as HttpLoadResult;
}
