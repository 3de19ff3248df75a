import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';

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

/** A POST of JSON as bytes on the wire. */
export function httpPost(path: string, host: string, body: string): string {
  return `POST ${path} HTTP/1.1\r\nHost: ${host}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
}

const MICROSECONDS = 1_000;
/** Latencies are counted in buckets of 10 µs up to a second. */
const BUCKET_US = 10;
const BUCKETS = 100_000;
const HEAD_END = Buffer.from('\r\n\r\n');

/** Where the first answer in `bytes` ends; 0 when it is not whole. Only answers with Content-Length are understood. */
function answerEnd(bytes: Buffer): number {
  const head = bytes.indexOf(HEAD_END);
  if (head < 0) return 0;
  const text = bytes.toString('latin1', 0, head).toLowerCase();
  const at = text.indexOf('content-length:');
  if (at < 0) throw new Error('an answer without Content-Length');
  const end = head + HEAD_END.length + Number.parseInt(text.slice(at + 'content-length:'.length), 10);
  return bytes.length >= end ? end : 0;
}

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
        if (bytes.toString('latin1', 9, 12) !== '200') failed += 1;
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

/** Starts a module that stands beside `callerUrl` as a process: the built file, or the source through tsx. */
export function moduleCommand(name: string, callerUrl: string): readonly string[] {
  const source = callerUrl.endsWith('.ts');
  return [...(source ? ['--import', 'tsx'] : []), new URL(`./${name}${source ? '.ts' : '.js'}`, callerUrl).pathname];
}

/** Runs a load from a process of its own. */
export async function measureHttpLoad(load: HttpLoad): Promise<HttpLoadResult> {
  const child = spawn(process.execPath, [...moduleCommand('http-load-process', import.meta.url)], { stdio: ['pipe', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  child.stdin.end(JSON.stringify(load));
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`the load process ended with ${String(code)}`);
  return JSON.parse(text) as HttpLoadResult;
}
