import { randomBytes } from 'node:crypto';

const SAFE_ID = /^[\w.:-]{1,128}$/;

/** Whether a client's own request id may be used: it stands in headers, logs and file lines. */
export function isRequestId(value: unknown): value is string {
  return typeof value === 'string' && SAFE_ID.test(value);
}

/**
 * Makes request ids: 24 random hex digits of this process and a counter. One id costs no system call, and two processes
 * do not meet.
 */
export function createRequestIds(): () => string {
  const prefix = randomBytes(12).toString('hex');
  let count = 0;
  return () => {
    count += 1;
    return prefix + count.toString(16).padStart(10, '0');
  };
}

/**
 * A request's place in the traffic, 0 … 9,999, the same for the same id everywhere: below 100 × percent it is the
 * challenger's. FNV-1a over the text, then MurmurHash3's finaliser, because ids of one process differ in the last digits.
 */
export function trafficBucket(requestId: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < requestId.length; i += 1) hash = Math.imul(hash ^ requestId.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return ((hash ^ (hash >>> 16)) >>> 0) % 10_000;
}

/** The place of a client's key in an endpoint's traffic: the same for each of its requests; another one at another endpoint. */
export function keyBucket(endpoint: string, key: string): number {
  return trafficBucket(`${endpoint}\u0000${key}`);
}
