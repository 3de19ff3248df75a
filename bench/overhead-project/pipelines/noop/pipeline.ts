import { definePipeline, steps } from 'millrace';
import { z } from 'zod';
import type * as noopSteps from './steps.ts';

const { noop } = steps<typeof noopSteps>({ cache: false });

/** Stages that do nothing, one after the other or all at once: what is left is what the engine costs. */
export const noopStages = definePipeline(
  { params: z.object({ stages: z.number().int().min(1).default(7), atOnce: z.boolean().default(false) }) },
  async ({ stages, atOnce }) => {
    if (atOnce) await Promise.all(Array.from({ length: stages }, (_, n) => noop(n)));
    else for (let n = 0; n < stages; n++) await noop(n);
  },
);
