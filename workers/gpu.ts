import { runPoolWorker } from './pool-worker.ts';

await runPoolWorker('gpu');
