import { startModuleWorker } from '../config/module-worker.ts';
import type { ModelCard } from '../contracts/model-card.ts';

const LIMIT_MS = 120_000;
const HEAP_MIB = 512;

/**
 * Draws a card's page in a thread of its own, so that its worker's event loop stays free and a page too large ends the thread alone.
 * @throws Error when it cannot be drawn, takes more than two minutes, or the signal fires
 */
export function drawCard(card: ModelCard, signal: AbortSignal): Promise<string> {
  return new Promise<string>((resolve, reject) => {
    const worker = startModuleWorker('card-thread', import.meta.url, { workerData: card, resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB } });
    let ended = false;
    const end = (settle: () => void): void => {
      if (ended) return;
      ended = true;
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      void worker.terminate().then(settle, settle);
    };
    const fail = (error: Error): void => {
      end(() => {
        reject(error);
      });
    };
    const onAbort = (): void => {
      fail(signal.reason as Error);
    };
    const timer = setTimeout(() => {
      fail(new Error(`the page was not drawn within ${String(LIMIT_MS / 1_000)} s`));
    }, LIMIT_MS);
    worker.on('message', (page: string) => {
      end(() => {
        resolve(page);
      });
    });
    worker.on('error', fail);
    worker.on('exit', (code) => {
      fail(new Error(`the drawing thread ended with code ${String(code)}`));
    });
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort);
  });
}
