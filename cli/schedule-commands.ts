import type { Client, ScheduleDescription } from '@temporalio/client';
import { catchUpWindowMs, LEAST_CATCH_UP_MS } from '../contracts/catch-up.ts';
import type { MillraceConfig } from '../config/config.ts';
import { MillraceError } from '../contracts/errors.ts';
import { WORKFLOW_QUEUE } from '../contracts/queues.ts';
import { MEMO_TRIGGER, type Trigger } from '../contracts/run.ts';
import { withClients } from './clients.ts';
import { addCommand, addGroup, collect, invocationOf, print, type Program } from './command.ts';
import { parseDurationMs, parseInstant } from './duration.ts';
import { checkParameters, readParameters } from './parameters.ts';
import { requirePipeline } from './pipelines.ts';
import { renderTable, showDuration } from './table.ts';

interface Common {
  readonly json?: boolean;
}

interface CreateOptions extends Common {
  readonly cron?: readonly string[];
  readonly every?: string;
  readonly input?: string;
  readonly set?: readonly string[];
  readonly id?: string;
  readonly timeZone?: string;
  readonly catchUp?: string;
  readonly jitter?: string;
  readonly retrain?: boolean;
  readonly reason?: string;
}

const PREFIX = 'schedule/';

/** The name that a schedule has when none is given: one a pipeline. */
const scheduleIdOf = (pipeline: string): string => `${PREFIX}${pipeline}`;

/** A schedule's id as it was given, or the one of that pipeline. */
async function findSchedule(client: Client, text: string): Promise<{ readonly id: string; readonly description: ScheduleDescription }> {
  for (const id of [text, scheduleIdOf(text)]) {
    try {
      return { id, description: await client.schedule.getHandle(id).describe() };
    } catch (error) {
      if (!(error instanceof Error) || error.name !== 'ScheduleNotFoundError') throw error;
    }
  }
  throw new MillraceError('NOT_FOUND', `There is no schedule ${text}.`, { fix: '`millrace schedule list` shows the schedules.' });
}

const runAction = (pipeline: string, params: object, trigger: Trigger) => ({
  type: 'startWorkflow' as const,
  workflowType: pipeline,
  taskQueue: WORKFLOW_QUEUE,
  workflowId: pipeline,
  args: [params],
  memo: { [MEMO_TRIGGER]: trigger },
});

/** A schedule can start workflows only: this one asks the controller, which decides whether and when a run begins. */
const askAction = (id: string, pipeline: string, reason: string | undefined) => ({
  type: 'startWorkflow' as const,
  workflowType: 'askRetraining',
  taskQueue: WORKFLOW_QUEUE,
  workflowId: `ask-${pipeline}`,
  args: [{ pipeline, source: id, ...(reason === undefined ? {} : { reason }) }],
});

/**
 * Makes the schedule; its catch-up window is the one asked for, the project's, or one interval of the schedule itself.
 * Temporal's own default is a year: a stack that was left down would start all that it missed.
 */
async function createSchedule(
  client: Client,
  config: MillraceConfig,
  pipeline: string,
  params: object,
  options: CreateOptions,
): Promise<{ readonly id: string; readonly catchUpMs: number; readonly next: readonly Date[] }> {
  const everyMs = options.every === undefined ? undefined : parseDurationMs('--every', options.every);
  const id = options.id ?? scheduleIdOf(pipeline);
  const trigger: Trigger = { kind: 'schedule', source: id, ...(options.reason === undefined ? {} : { reason: options.reason }) };
  const configuredMs = config.schedules.catchupWindowSeconds === undefined ? undefined : config.schedules.catchupWindowSeconds * 1000;
  const wantedMs = options.catchUp === undefined ? (configuredMs ?? everyMs) : parseDurationMs('--catch-up', options.catchUp);
  const handle = await client.schedule.create({
    scheduleId: id,
    spec: {
      ...(everyMs === undefined ? {} : { intervals: [{ every: everyMs }] }),
      ...(options.cron === undefined ? {} : { cronExpressions: [...options.cron] }),
      ...(options.jitter === undefined ? {} : { jitter: parseDurationMs('--jitter', options.jitter) }),
      timezone: options.timeZone ?? config.schedules.timeZone,
    },
    action: options.retrain === true ? askAction(id, pipeline, options.reason) : runAction(pipeline, params, trigger),
    policies: { overlap: 'SKIP', catchupWindow: Math.max(LEAST_CATCH_UP_MS, wantedMs ?? LEAST_CATCH_UP_MS) },
    memo: { pipeline },
  });
  const { info } = await handle.describe();
  const catchUpMs = catchUpWindowMs(wantedMs, info.nextActionTimes);
  if (wantedMs === undefined) {
    await handle.update((schedule) => ({ ...schedule, policies: { ...schedule.policies, catchupWindow: catchUpMs } }));
  }
  return { id, catchUpMs, next: info.nextActionTimes };
}

/** A run of the pipeline, or what its retraining's controller makes of being asked. */
function startedBy(action: { readonly workflowType?: string }, memo: Readonly<Record<string, unknown>> | undefined): string {
  const { workflowType = '' } = action;
  return workflowType === 'askRetraining' && typeof memo?.['pipeline'] === 'string' ? `retraining of ${memo['pipeline']}` : workflowType;
}

export function addScheduleCommands(program: Program): void {
  const schedule = addGroup(program, 'schedule', 'runs that start by themselves');

  addCommand(program, schedule, 'create <pipeline>', 'start runs of a pipeline by the clock')
    .option('--cron <expression>', 'when, as a cron expression; may be repeated', collect)
    .option('--every <duration>', 'how often: 15m, 1h, 1d')
    .option('--input <json>', 'the parameters as a JSON object')
    .option('--set <name=value>', 'one parameter; may be repeated', collect)
    .option('--id <id>', "the schedule's id (default: schedule/<pipeline>)")
    .option('--time-zone <zone>', 'the zone in which cron expressions are read (default: the project, else UTC)')
    .option('--catch-up <duration>', 'how late a missed start is still made up for (default: one interval)')
    .option('--jitter <duration>', 'put each start off by up to so much, drawn anew each time')
    .option('--retrain', "ask the pipeline's retraining controller instead of starting a run: its cool-down, budget and pause hold")
    .option('--reason <text>', 'why; it stands in the record of each run')
    .action(async (pipeline: string, options: CreateOptions) => {
      if ((options.cron === undefined) === (options.every === undefined))
        throw new MillraceError('USAGE', 'Give --cron or --every.', { fix: "Write --every 1h, or --cron '0 6 * * *'." });
      if (options.retrain === true && (options.input !== undefined || options.set !== undefined))
        throw new MillraceError('USAGE', 'A retraining takes no parameters: its run has the defaults.', { fix: 'Leave --input and --set out, or --retrain.' });
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const known = await requirePipeline(await clients.store(), pipeline);
        const params = readParameters(options, known.parameters ?? undefined);
        if (known.parameters) checkParameters(pipeline, params, known.parameters);
        const made = await createSchedule(await clients.temporal(), clients.config, pipeline, params, options);
        print(
          invocation,
          { id: made.id, pipeline, catchUpMs: made.catchUpMs, next: made.next.map((t) => t.toISOString()) },
          () =>
            `${made.id} is made. Next start: ${made.next[0]?.toISOString() ?? 'never'}. A start missed by more than ${showDuration(made.catchUpMs)} is left out.\n`,
        );
      });
    });

  addCommand(program, schedule, 'list', 'the schedules').action(async (options: Common) => {
    const invocation = invocationOf(program, options);
    await withClients(async (clients) => {
      const client = await clients.temporal();
      const found: { id: string; pipeline: string; paused: boolean; next: string | null; last: string | null }[] = [];
      for await (const summary of client.schedule.list()) {
        found.push({
          id: summary.scheduleId,
          pipeline: summary.action === undefined ? '' : startedBy(summary.action, summary.memo),
          paused: summary.state.paused,
          next: summary.info.nextActionTimes[0]?.toISOString() ?? null,
          last: summary.info.recentActions.at(-1)?.takenAt.toISOString() ?? null,
        });
      }
      print(invocation, found, () =>
        found.length === 0
          ? 'There are no schedules.\n'
          : renderTable(
              ['schedule', 'starts', 'state', 'next', 'last'],
              found.map((s) => [s.id, s.pipeline, s.paused ? 'paused' : 'on', s.next ?? '', s.last ?? '']),
            ),
      );
    });
  });

  for (const [name, description, done] of [
    ['pause', 'let a schedule rest', 'rests'],
    ['resume', 'let a paused schedule go on', 'goes on'],
    ['delete', 'remove a schedule; runs that it started go on', 'is deleted'],
  ] as const) {
    addCommand(program, schedule, `${name} <schedule>`, `${description} (an id, or a pipeline)`).action(async (text: string, options: Common) => {
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const client = await clients.temporal();
        const { id } = await findSchedule(client, text);
        const handle = client.schedule.getHandle(id);
        if (name === 'pause') await handle.pause();
        else if (name === 'resume') await handle.unpause();
        else await handle.delete();
        print(invocation, { id, done: name }, () => `${id} ${done}.\n`);
      });
    });
  }

  addCommand(program, schedule, 'backfill <schedule>', 'start what the schedule would have started in a time that is past (an id, or a pipeline)')
    .requiredOption('--from <time>', 'UTC, like 2026-01-31T08:00:00Z')
    .option('--to <time>', 'default: now')
    .action(async (text: string, options: Common & { from: string; to?: string }) => {
      const from = parseInstant('--from', options.from);
      const to = options.to === undefined ? new Date() : parseInstant('--to', options.to);
      if (from >= to) throw new MillraceError('USAGE', '--from is not before --to.', { fix: 'Give an earlier --from.' });
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const client = await clients.temporal();
        const { id } = await findSchedule(client, text);
        // One after the other: by the schedule's own rule all but the first would be skipped while it runs.
        await client.schedule.getHandle(id).backfill({ start: from, end: to, overlap: 'BUFFER_ALL' });
        print(
          invocation,
          { id, from: from.toISOString(), to: to.toISOString() },
          () => `${id}: what it would have started between ${from.toISOString()} and ${to.toISOString()} is started, one after the other.\n`,
        );
      });
    });
}
