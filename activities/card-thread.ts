import { parentPort, workerData } from 'node:worker_threads';
import type { ModelCard } from '../contracts/model-card.ts';
import { modelCardPage } from '../reports/model-card.ts';

/** The thread behind draw-card.ts. */
if (!parentPort) throw new Error('card-thread runs as a worker thread only');
parentPort.postMessage(await modelCardPage(workerData as ModelCard));
