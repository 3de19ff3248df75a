import { z } from 'zod';
import { DeployInputSchema, type StageKind } from '../contracts/stages.ts';
import { definePipeline } from './define-pipeline.ts';
import { runStage } from './run.ts';
import { deploy } from './stages.ts';

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
  'registeredVersion',
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
  async ({ kind, input, pool }) => {
    const deployment = kind === 'deploy' ? DeployInputSchema.safeParse(input) : undefined;
    // bad input goes on to the stage, which tells of every problem
    if (deployment?.success !== true) return { output: await runStage(kind, kind, input, { pool }) };
    // its end is the rollout's, as inside a pipeline, and not the endpoint's having heard of it
    const { version, decide, ...rest } = deployment.data;
    return { output: await deploy(version, { ...rest, ...(decide === undefined ? {} : { decide }) }, { pool }) };
  },
);
