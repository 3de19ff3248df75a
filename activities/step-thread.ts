import { pathToFileURL } from 'node:url';
import { parentPort } from 'node:worker_threads';
import { threadIsUp } from '../config/module-worker.ts';
import { MillraceError } from '../contracts/errors.ts';
import { isStep, stepRun } from './steps.ts';
import type { ValueStepCall, ValueStepAnswer } from './step-threads.ts';
import { usersCode } from './users-code.ts';

/** The thread behind step-threads.ts: calls value steps, one after the other. */
if (!parentPort) throw new Error('step-thread runs as a worker thread only');
const port = parentPort;

port.on('message', (call: ValueStepCall) => {
  void answer(call).then((given) => {
    port.postMessage(given);
  });
});

async function answer({ module, pipeline, step, args }: ValueStepCall): Promise<ValueStepAnswer> {
  try {
    const found = ((await import(pathToFileURL(module).href)) as Record<string, unknown>)[step];
    if (!isStep(found)) throw new MillraceError('NOT_FOUND', `The pipeline ${pipeline} has no step ${step}.`);
    const user = stepRun(found);
    if (user.kind !== 'value') throw new MillraceError('USAGE', `The step ${step} works on a dataset.`);
    const output = await usersCode(step, () => user.run(...(args as never[])));
    return { kind: 'done', output: asJson(step, output) };
  } catch (error) {
    const known = error instanceof MillraceError ? error : new MillraceError('INTERNAL');
    const cause = error instanceof MillraceError ? error.cause : error;
    return { kind: 'failed', report: known.report(), log: cause instanceof Error ? (cause.stack ?? cause.message) : '' };
  }
}

/** As it will stand in the workflow's history. */
function asJson(step: string, value: unknown): string {
  try {
    return JSON.stringify(value ?? null);
  } catch {
    throw new MillraceError('USER_CODE_FAILED', `The step ${step} gave a value that is not JSON.`, {
      fix: 'Give back objects, lists, texts, numbers, booleans and null.',
    });
  }
}

threadIsUp();
