import { z } from 'zod';
import type { StageKind } from '../contracts/stages.ts';
import { definePipeline } from './define-pipeline.ts';
import { runStage } from './run.ts';

const KINDS = [
  'ingest',
  'validate',
  'clean',
  'split',
  'train',
  'select',
  'evaluate',
  'register',
  'importModel',
  'deploy',
  'monitor',
] as const satisfies readonly StageKind[];

/** One stage as a run of its own: the same records, cache, pools and rollback as inside a pipeline. */
export const stage = definePipeline(
  {
    params: z.object({
      kind: z.enum(KINDS),
      /** The stage's input as contracts/stages.ts states it. */
      input: z.record(z.string(), z.unknown()),
      pool: z.string().default('cpu'),
    }),
  },
  async ({ kind, input, pool }) => ({ output: await runStage(kind, kind, input, { pool }) }),
);
