import { Worker, type WorkerOptions } from 'node:worker_threads';

/**
 * Starts the module `name` (no extension) that stands beside the caller as a worker thread: the built `.js` when the
 * caller runs from dist, the `.ts` source through tsx in development and tests.
 */
export function startModuleWorker(name: string, callerUrl: string, options: WorkerOptions = {}): Worker {
  const source = callerUrl.endsWith('.ts');
  const url = new URL(`./${name}${source ? '.ts' : '.js'}`, callerUrl);
  return new Worker(url, source ? { ...options, execArgv: ['--import', 'tsx', ...(options.execArgv ?? [])] } : options);
}
