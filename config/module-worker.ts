/**
 * Worker threads that run a module, and how they are ended.
 *
 * Native code (DuckDB, onnxruntime) makes JavaScript's values when it is done. In a thread that was ended meanwhile it cannot, and
 * takes the whole process along ("terminate called after throwing an instance of 'Napi::Error'").
 *
 * Invariants:
 * 1. A thread is ended while no native code runs in it: loading its modules, and all that `nativeCode` is given, are waited for.
 * 2. A thread that is to end begins no native code any more, and is told so in the one that runs.
 * 3. Code that does not come back is waited for as long as `endModuleWorker` was told, and no longer.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { getEnvironmentData, isMainThread, setEnvironmentData, Worker, type WorkerOptions } from 'node:worker_threads';
import { packageRoot } from './package-root.ts';

/** Two numbers that a thread and the one that started it share: native code that runs in it, and whether it is to end. */
const RUNNING = 0;
const ENDING = 1;
const KEY = 'millrace.thread';
const LOOK_EVERY_MS = 20;
/** A query that is interrupted, or a batch that is scored, is over long before. */
const PATIENCE_MS = 60_000;

const given = isMainThread ? undefined : getEnvironmentData(KEY);
/** This thread's own; undefined in the main thread, and in threads that something else has started. */
const own = given instanceof SharedArrayBuffer ? new Int32Array(given) : undefined;
const started = new WeakMap<Worker, Int32Array>();

/**
 * Starts the module `name` (no extension) that stands beside the caller as a worker thread: the built `.js` when the
 * caller runs from dist, the `.ts` source in development and tests, which a thread loads only after registering tsx itself.
 * The module calls `threadIsUp` when it is loaded.
 */
export function startModuleWorker(name: string, callerUrl: string, options: WorkerOptions = {}): Worker {
  const shared = new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT);
  const flags = new Int32Array(shared);
  flags[RUNNING] = 1;
  // a thread takes a copy when it is made
  setEnvironmentData(KEY, shared);
  try {
    const worker = new Worker(entryOf(name, callerUrl), options);
    started.set(worker, flags);
    return worker;
  } finally {
    setEnvironmentData(KEY, given);
  }
}

function entryOf(name: string, callerUrl: string): URL {
  if (!callerUrl.endsWith('.ts')) return new URL(`./${name}.js`, callerUrl);
  const built = builtBeside(name, callerUrl);
  if (built !== undefined) return built;
  const tsx = new URL('./dist/esm/api/index.mjs', pathToFileURL(createRequire(import.meta.url).resolve('tsx/package.json')));
  const source = new URL(`./${name}.ts`, callerUrl);
  const bootstrap = `import { register } from ${JSON.stringify(tsx.href)}; register(); await import(${JSON.stringify(source.href)});`;
  return new URL(`data:text/javascript,${encodeURIComponent(bootstrap)}`);
}

/**
 * Where a test run that has just built everything says so, threads load what was built: half the time of the sources, and
 * thousands are started. What has no built file, as a test's own thread, is loaded from its source.
 */
function builtBeside(name: string, callerUrl: string): URL | undefined {
  if (process.env.MILLRACE_TEST_BUILT !== 'true') return undefined;
  const path = join(packageRoot, 'dist', relative(packageRoot, dirname(fileURLToPath(callerUrl))), `${name}.js`);
  return existsSync(path) ? pathToFileURL(path) : undefined;
}

/** Called once by the module of a thread, when all that it imports is loaded. */
export function threadIsUp(): void {
  if (own !== undefined) Atomics.sub(own, RUNNING, 1);
}

/**
 * Does work that calls native code. In a thread that is to end it throws instead of beginning, and `ending` aborts.
 * `ending` is undefined where nobody ends the thread.
 */
export async function nativeCode<Result>(work: (ending: AbortSignal | undefined) => Promise<Result>): Promise<Result> {
  if (own === undefined) return work(undefined);
  Atomics.add(own, RUNNING, 1);
  const ending = new AbortController();
  const look = setInterval(() => {
    if (isEnding()) ending.abort(threadEnds());
  }, LOOK_EVERY_MS);
  try {
    throwIfEnding();
    return await work(ending.signal);
  } finally {
    clearInterval(look);
    Atomics.sub(own, RUNNING, 1);
  }
}

/** Throws in a thread that is to end: for loops that keep it busy, so that it hears of nothing. */
export function throwIfEnding(): void {
  if (isEnding()) throw threadEnds();
}

const isEnding = (): boolean => own !== undefined && Atomics.load(own, ENDING) === 1;
const threadEnds = (): Error => new Error('The thread is ended.');

/** Ends a thread of `startModuleWorker`, after the native code that runs in it. Resolves when it is gone. */
export async function endModuleWorker(worker: Worker, { patienceMs = PATIENCE_MS }: { readonly patienceMs?: number } = {}): Promise<void> {
  const flags = started.get(worker);
  if (flags !== undefined) {
    Atomics.store(flags, ENDING, 1);
    const untilMs = performance.now() + patienceMs;
    // one that has ended by itself has no number any more
    while (worker.threadId !== -1 && Atomics.load(flags, RUNNING) > 0 && performance.now() < untilMs) await sleep(LOOK_EVERY_MS);
  }
  await worker.terminate();
}
