/**
 * What a program writes, kept within bounds: its beginning, its end, and how much lies between.
 *
 * Invariants:
 * 1. Memory does not grow with what is written.
 * 2. No secret that we know, and nothing that looks like one, is in `text`, `lastLines`.
 */
export interface ProgramLog {
  readonly add: (bytes: Uint8Array) => void;
  /** Beginning and end, with a line between them that says how much is left out. */
  readonly text: () => string;
  readonly lastLines: (count: number) => readonly string[];
  readonly sizeBytes: () => number;
}

const HEAD_BYTES = 128 * 1024;
const TAIL_BYTES = 512 * 1024;
/** Of one line that is shown in an error. */
const LINE_CHARACTERS = 500;

const PATTERNS: readonly (readonly [RegExp, string])[] = [
  [/\b([a-z][a-z0-9+.-]*:\/\/[^\s:@/]*):[^\s@/]+@/gi, '$1:***@'],
  [/\b(bearer|basic)\s+[\w.~+/=-]{8,}/gi, '$1 ***'],
  [/\b((?:[a-z0-9]+[_-])*(?:password|passwd|secret|token|api[_-]?key|access[_-]?key))(["']?\s*[=:]\s*["']?)[^\s"',;]{4,}/gi, '$1$2***'],
  [/\bAKIA[0-9A-Z]{16}\b/g, '***'],
];

/** Takes out the given secrets, and what is written as a secret usually is. */
export function maskSecrets(text: string, secrets: readonly string[]): string {
  let masked = text;
  for (const secret of secrets) if (secret.length >= 4) masked = masked.replaceAll(secret, '***');
  for (const [pattern, replacement] of PATTERNS) masked = masked.replace(pattern, replacement);
  return masked;
}

export function createProgramLog(secrets: readonly string[]): ProgramLog {
  const head: Uint8Array[] = [];
  let headBytes = 0;
  let tail: Uint8Array[] = [];
  let tailBytes = 0;
  let total = 0;
  const decode = (parts: readonly Uint8Array[]): string => Buffer.concat(parts).toString('utf8');
  const cutTail = (): string => {
    const text = decode(tail);
    return text.length > TAIL_BYTES ? text.slice(-TAIL_BYTES) : text;
  };
  const text = (): string => {
    const between = total - headBytes - Math.min(tailBytes, TAIL_BYTES);
    // from a whole line on
    const end = between > 0 ? cutTail().replace(/^[^\n]*\n/, '') : cutTail();
    return maskSecrets(`${decode(head)}${between > 0 ? `\n… ${String(between)} bytes are left out here …\n` : ''}${end}`, secrets);
  };
  return {
    add: (bytes) => {
      total += bytes.length;
      const toHead = Math.min(bytes.length, HEAD_BYTES - headBytes);
      if (toHead > 0) {
        head.push(new Uint8Array(bytes.subarray(0, toHead)));
        headBytes += toHead;
      }
      const rest = bytes.subarray(toHead);
      if (rest.length === 0) return;
      tail.push(new Uint8Array(rest.subarray(-TAIL_BYTES)));
      tailBytes += Math.min(rest.length, TAIL_BYTES);
      if (tailBytes > 2 * TAIL_BYTES) {
        const kept = Buffer.concat(tail).subarray(-TAIL_BYTES);
        tail = [new Uint8Array(kept)];
        tailBytes = kept.length;
      }
    },
    text,
    lastLines: (count) =>
      text()
        .split(/\r?\n/)
        .map((line) => line.slice(line.lastIndexOf('\r') + 1).trimEnd())
        .filter((line) => line !== '')
        .slice(-count)
        .map((line) => (line.length > LINE_CHARACTERS ? `${line.slice(0, LINE_CHARACTERS)}…` : line)),
    sizeBytes: () => total,
  };
}

const NEWLINE = 10;
const BRACE = 123;
/** A JSON line longer than this is log. */
const MESSAGE_BYTES = 1 << 20;

/**
 * Parts a stream into lines that begin with `{`, each handed on whole and alone, and everything else, handed on in bulk:
 * a program that writes a gigabyte costs little more than reading it.
 */
export function createLineReader(
  onObjectLine: (line: Buffer) => void,
  onOther: (bytes: Uint8Array) => void,
): { readonly write: (chunk: Buffer) => void; readonly end: () => void } {
  /** A line begun that may be an object's. */
  let begun: Buffer[] = [];
  let begunBytes = 0;
  let atLineStart = true;
  const giveUp = (): void => {
    for (const part of begun) onOther(part);
    begun = [];
    begunBytes = 0;
  };
  return {
    write: (chunk) => {
      let at = 0;
      while (at < chunk.length) {
        if (begunBytes > 0 || (atLineStart && chunk[at] === BRACE)) {
          const end = chunk.indexOf(NEWLINE, at);
          const stop = end === -1 ? chunk.length : end;
          begun.push(chunk.subarray(at, stop));
          begunBytes += stop - at;
          if (end === -1 || begunBytes > MESSAGE_BYTES) {
            if (begunBytes > MESSAGE_BYTES) giveUp();
            atLineStart = false;
            at = stop;
          } else {
            const line = Buffer.concat(begun);
            begun = [];
            begunBytes = 0;
            onObjectLine(line);
            atLineStart = true;
            at = end + 1;
          }
          continue;
        }
        // up to the next line that may be an object's
        const next = chunk.indexOf('\n{', at, 'latin1');
        const stop = next === -1 ? chunk.length : next + 1;
        onOther(chunk.subarray(at, stop));
        atLineStart = chunk[stop - 1] === NEWLINE;
        at = stop;
      }
    },
    end: () => {
      if (begunBytes > 0) onObjectLine(Buffer.concat(begun));
      begun = [];
      begunBytes = 0;
    },
  };
}
