import { approval, definePipeline, steps } from 'millrace';
import { z } from 'zod';
import type * as gateSteps from './steps.ts';

const { answer } = steps<typeof gateSteps>({ cache: false });

const workflowText = 'first workflow';

/** Waits for a person between two steps; two at once, at most. */
export const waiting = definePipeline({ params: z.object({}), maxConcurrentRuns: 2 }, async () => {
  await approval('go');
  return { answer: await answer(), workflow: workflowText };
});

/** A step on the pool of the GPU workers. */
export const onGpu = definePipeline({ params: z.object({ gpu: z.enum(['required', 'preferred']).default('preferred') }) }, async ({ gpu }) => {
  const { device } = steps<typeof gateSteps>({ gpu, cache: false });
  return { device: await device() };
});
