import { CancellationScope, condition, setHandler, workflowInfo } from '@temporalio/workflow';
import type { z } from 'zod';
import { MillraceError } from '../contracts/errors.ts';
import type { FunctionLabels, LabelFunctionsInputSchema, LabellingFunction, LabelValue } from '../contracts/labels.ts';
import type { DatasetRef } from '../contracts/references.ts';
import { type Duration, durationMs } from './duration.ts';
import { labelsAnsweredSignal } from './messages.ts';
import { addStage, asStage, currentRun, type Run, runActivities, runStage, showProgress, type StageOptions } from './run.ts';

type PeopleInput = NonNullable<z.input<typeof LabelFunctionsInputSchema>['people']>;

export interface PeopleOptions extends PeopleInput {
  /** How many different people label each row. Default 1. */
  readonly labellers?: number;
  /** Where people disagree and no label has most votes: ask one person more, or leave the row without a label. Default `further`. */
  readonly ties?: 'further' | 'leave';
  /** How long the run waits. Default: for ever. */
  readonly deadline?: Duration;
  /** What happens at the deadline: the run fails with LABELS_MISSING, or goes on without those labels. Default `fail`. */
  readonly then?: 'fail' | 'goOn';
}

export interface LabelOptions extends StageOptions {
  /** The column that is filled where it is null; made when it is not there. */
  readonly column: string;
  /** What the labels can be: texts, numbers, or true and false. */
  readonly classes: readonly LabelValue[];
  /** What people are asked. */
  readonly question?: string;
  /** Functions that vote before anybody is asked. */
  readonly by?: readonly LabellingFunction[];
  /** How their votes are combined. Default `majority`; `dawidSkene` weighs each function by how often it errs. */
  readonly combine?: 'majority' | 'dawidSkene';
  /** From which confidence on a label of the functions stands. Default 0.9. */
  readonly confidence?: number;
  /** How people are asked about the rest; false: nobody is. Default: one person a row. */
  readonly people?: PeopleOptions | false;
  /** The queue in which they are asked; what was answered there once is not asked again. Default `<pipeline>-<column>`. */
  readonly queue?: string;
  /** Adds the columns `<column>_by` and `<column>_at`. Default false. */
  readonly authors?: boolean;
}

/**
 * Fills a column where it is null: by labelling functions, then by people, for whom the run waits durably.
 *
 * @throws LABELS_MISSING when people did not answer before the deadline.
 */
export async function label(dataset: DatasetRef, options: LabelOptions): Promise<DatasetRef> {
  const { column, classes, question, by = [], combine, confidence, people = {}, queue, authors = false, name = 'label', ...stage } = options;
  const run = currentRun();
  const { labellers, ties, deadline, then, ...asking } = people === false ? ({} as PeopleOptions) : people;
  const functions = await runStage<FunctionLabels>(
    'labelFunctions',
    `${name}-functions`,
    {
      dataset,
      column,
      classes,
      by,
      ...(combine === undefined ? {} : { combine }),
      ...(confidence === undefined ? {} : { confidence }),
      people: people === false ? null : asking,
    },
    stage,
  );
  const answers =
    functions.items === null
      ? null
      : await askPeople(run, `${name}-people`, {
          queue: queue ?? queueName(run.pipeline, column),
          ...(question === undefined ? {} : { question }),
          classes,
          items: functions.items,
          labellers: labellers ?? 1,
          breakTies: ties !== 'leave',
          deadlineMs: deadline === undefined ? null : durationMs(deadline),
          goOn: then === 'goOn',
        });
  return runStage<DatasetRef>('label', name, { dataset, column, classes, functions, answers, authors }, stage);
}

const queueName = (pipeline: string, column: string): string => `${pipeline}-${column}`.replaceAll(/[^a-zA-Z0-9_-]/g, '-').slice(0, 100);

interface Question {
  readonly queue: string;
  readonly question?: string;
  readonly classes: readonly LabelValue[];
  readonly items: string;
  readonly labellers: number;
  readonly breakTies: boolean;
  readonly deadlineMs: number | null;
  readonly goOn: boolean;
}

/** The signal comes as soon as all is answered; looking is for when it was lost, and bounds the history: 24 looks a day. */
const FIRST_LOOK_MS = 1_000;
const LAST_LOOK_MS = 3_600_000;

/** Requests of this run that are answered. */
const answered = new Set<string>();

async function askPeople(run: Run, name: string, { deadlineMs, goOn, ...asked }: Question): Promise<string> {
  const stage = addStage(run, 'labels', name, 'people');
  return asStage(run, stage, async () => {
    setHandler(labelsAnsweredSignal, ({ request }) => {
      answered.add(request);
    });
    const untilMs = deadlineMs === null ? Number.POSITIVE_INFINITY : Date.now() + deadlineMs;
    const { id, open } = await runActivities.requestLabels({
      ...asked,
      runId: run.runId,
      stage: stage.name,
      workflowId: workflowInfo().workflowId,
      expiresAt: deadlineMs === null ? null : new Date(untilMs).toISOString(),
    });
    stage.summary = `waits for ${String(open)} labels: millrace label ${asked.queue}`;
    showProgress(run);
    const closed = await orCancelled(id, async () => {
      let isDone = open === 0;
      let lookMs = FIRST_LOOK_MS;
      for (;;) {
        if (isDone) {
          const result = await runActivities.closeLabels({ request: id, status: 'answered' });
          if (result.closed) return result;
          isDone = false;
          answered.delete(id);
        }
        const restMs = untilMs - Date.now();
        if (restMs <= 0) return runActivities.closeLabels({ request: id, status: 'expired' });
        isDone = await condition(() => answered.has(id), Math.min(lookMs, restMs));
        if (!isDone) isDone = (await runActivities.labelsOpen({ request: id })) === 0;
        lookMs = Math.min(lookMs * 2, LAST_LOOK_MS);
      }
    });
    if (closed.open > 0 && !goOn) {
      throw new MillraceError('LABELS_MISSING', `${String(closed.open)} of ${String(closed.asked)} rows had no label when the time was over.`, {
        fix: 'Answer the rest in the queue and start the run again: what was answered is not asked again. Or go on without: people: { then: "goOn" }.',
      });
    }
    return { output: closed.answers, summary: `${String(closed.asked - closed.open)} of ${String(closed.asked)} rows answered` };
  });
}

/** However the wait ends, the request does not stay open. */
async function orCancelled<T>(request: string, wait: () => Promise<T>): Promise<T> {
  try {
    return await wait();
  } catch (error) {
    await CancellationScope.nonCancellable(() => runActivities.closeLabels({ request, status: 'cancelled' }));
    throw error;
  }
}
