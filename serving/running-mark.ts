/**
 * Which predictor's code a process ran last, kept where it outlives the process: a native crash leaves nothing else behind.
 *
 * Invariants:
 * 1. The mark is written before the native code of another predictor starts, so that the last one written is the one that ran.
 * 2. Writing it costs nothing while the same predictor runs again.
 * 3. While a predictor runs on another thread, it is the suspect whenever none runs on this one; and it alone once it took longer
 *    than it may, as the process is then ended for its sake.
 */
import { closeSync, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';

export interface RunningMark {
  /** `load`: its file is being read into a session, which may take long. */
  readonly doing: 'load' | 'run' | 'idle';
  readonly predictor: string;
}

export interface MarkWriter {
  /** Called right before a predictor's native code runs. While one is being loaded nothing is written: it is the suspect. */
  runs(predictor: string): void;
  /** What ran on this thread has ended. */
  ran(): void;
  /** A predictor's file is being read; call what it gives when that is done. */
  loads(predictor: string): () => void;
  /** A predictor's native code runs on another thread, for at most `withinMs`, until what it gives is called. */
  aside(predictor: string, withinMs: number): () => void;
  /** Whether predictors run on other threads, so that the end of a run on this one has to be told. */
  readonly isShared: boolean;
  /** Whether a predictor on another thread takes longer than it may. */
  readonly isOverdue: boolean;
  close(): void;
}

const HASH_LENGTH = 64;
const NOBODY = '-'.repeat(HASH_LENGTH);
const LETTERS = { load: 'L', run: 'R', idle: 'I' } as const;

/** Opens the mark of a process at `path`. */
export function openMark(path: string): MarkWriter {
  mkdirSync(dirname(path), { recursive: true });
  const file = openSync(path, 'w');
  const bytes = Buffer.alloc(HASH_LENGTH + 1);
  let doing: RunningMark['doing'] | undefined;
  let predictor: string | undefined;
  const set = (next: RunningMark['doing'], of: string): void => {
    if (next === doing && of === predictor) return;
    doing = next;
    predictor = of;
    bytes.write(LETTERS[next] + of, 'latin1');
    writeSync(file, bytes, 0, bytes.length, 0);
  };
  set('idle', NOBODY);
  let loading = 0;
  const beside = new Set<{ readonly predictor: string; readonly overdueMs: number }>();
  const overdue = (): string | undefined => {
    if (beside.size === 0) return undefined;
    const now = performance.now();
    for (const { predictor: of, overdueMs } of beside) if (now > overdueMs) return of;
    return undefined;
  };
  /** Names who is the suspect while nothing runs on this thread. */
  function ran(): void {
    if (beside.size === 0 || loading > 0) return;
    const [first] = beside;
    set('run', overdue() ?? first?.predictor ?? NOBODY);
  }
  return {
    runs(of) {
      if (loading === 0 && overdue() === undefined) set('run', of);
    },
    ran,
    aside(of, withinMs) {
      const entry = { predictor: of, overdueMs: performance.now() + withinMs };
      beside.add(entry);
      ran();
      return () => {
        beside.delete(entry);
        ran();
      };
    },
    get isShared() {
      return beside.size > 0;
    },
    get isOverdue() {
      const late = overdue();
      if (late !== undefined) ran();
      return late !== undefined;
    },
    loads(of) {
      loading += 1;
      set('load', of);
      return () => {
        loading -= 1;
        if (loading === 0) set('run', of);
      };
    },
    close() {
      closeSync(file);
    },
  };
}

/** What a process did last; undefined when it ran no model, or its mark cannot be read. */
export function readMark(path: string): RunningMark | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'latin1');
  } catch {
    return undefined;
  }
  const predictor = text.slice(1, HASH_LENGTH + 1);
  if (!/^[0-9a-f]{64}$/.test(predictor)) return undefined;
  return text.startsWith('L') ? { doing: 'load', predictor } : text.startsWith('R') ? { doing: 'run', predictor } : undefined;
}
