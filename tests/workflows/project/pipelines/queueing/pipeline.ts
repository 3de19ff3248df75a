import { definePipeline, steps } from 'millrace';
import { z } from 'zod';
import type * as mySteps from './steps.ts';

const { nap } = steps<typeof mySteps>({ pool: 'narrow', cache: false });
const params = z.object({ stages: z.number().default(1) });
const naps = async ({ stages }: { readonly stages: number }): Promise<{ readonly endedMs: readonly number[] }> => ({
  endedMs: await Promise.all(Array.from({ length: stages }, () => nap())),
});

export const crowd = definePipeline({ params }, naps);
export const guest = definePipeline({ params }, naps);
export const urgent = definePipeline({ params, priority: 1 }, naps);
