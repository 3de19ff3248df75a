import { createHash } from 'node:crypto';

export interface HashKeys {
  readonly inner: string;
  readonly outer: string;
}

const sha256 = (text: string): string => createHash('sha256').update(text, 'utf8').digest('hex');

/** The two keys that a project's key stands for. Neither leads back to it. */
export const hashKeys = (hashKey: string): HashKeys => ({ inner: sha256(`millrace inner ${hashKey}`), outer: sha256(`millrace outer ${hashKey}`) });

/** The keyed hash of a text, in hex: sha256(outer ‖ sha256hex(inner ‖ text)), the nested construction of HMAC (RFC 2104). */
export function compileHash(keys: HashKeys): (text: string) => string {
  return (text) => sha256(keys.outer + sha256(keys.inner + text));
}
