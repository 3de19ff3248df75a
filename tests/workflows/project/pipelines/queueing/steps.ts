import { setTimeout as sleep } from 'node:timers/promises';
import { valueStep } from 'millrace/steps';

export const nap = valueStep(async () => {
  await sleep(100);
  return Date.now();
});
