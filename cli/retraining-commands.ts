import { MillraceError } from '../contracts/errors.ts';
import { retrainingWorkflowId, WORKFLOW_QUEUE } from '../contracts/queues.ts';
import {
  type ConfigureRetraining,
  ConfigureRetrainingSchema,
  type QuietHours,
  type RetrainingStatus,
  RetrainRequestSchema,
  WEEKDAYS,
} from '../contracts/retraining.ts';
import type { ExperimentRequestRecord, RetrainingRecord } from '../store/retraining.ts';
import { type Clients, withClients } from './clients.ts';
import { addCommand, addGroup, collect, invocationOf, print, type Program } from './command.ts';
import { parseCount, parseDurationMs } from './duration.ts';
import { requirePipeline } from './pipelines.ts';
import { renderFields, renderTable } from './table.ts';

interface Common {
  readonly json?: boolean;
}

interface ConfigureOptions extends Common {
  readonly coolDown?: string;
  readonly refireAfter?: string;
  readonly runsADay?: string;
  readonly minutesADay?: string;
  readonly timeZone?: string;
  readonly quiet?: readonly string[];
  readonly backOff?: string;
  readonly experimentAfter?: string;
  readonly reset?: readonly string[];
}

const DEFAULT_SHOWN = 20;

export function addRetrainingCommands(program: Program): void {
  addCommand(program, program.root, 'retrain <pipeline>', 'ask for a retraining; its controller starts it, or says why not yet')
    .requiredOption('--reason <text>', 'why; it stands in the ledger')
    .action(async (pipeline: string, options: Common & { reason: string }) => {
      const invocation = invocationOf(program, options);
      const { success, error } = RetrainRequestSchema.shape.reason.safeParse(options.reason);
      if (!success) throw new MillraceError('USAGE', `--reason: ${error.issues[0]?.message ?? 'does not fit'}.`);
      await withClients(async (clients) => {
        await requirePipeline(await clients.store(), pipeline);
        const request = RetrainRequestSchema.parse({ reason: options.reason, source: (await clients.actor(pipeline)).who });
        const client = await clients.temporal();
        const handle = await client.workflow.signalWithStart('retraining', {
          taskQueue: WORKFLOW_QUEUE,
          workflowId: retrainingWorkflowId(pipeline),
          args: [pipeline],
          signal: 'retrain',
          signalArgs: [request],
        });
        print(
          invocation,
          { pipeline, workflowId: handle.workflowId, requested: 'retrain' },
          () => `Asked for. What becomes of it: millrace retrainings list ${pipeline}\n`,
        );
      });
    });

  const group = addGroup(program, 'retrainings', 'the ledger of retraining, and when a pipeline may be retrained');

  addCommand(program, group, 'list <pipeline>', 'each trigger, and what became of it, the newest first')
    .option('--limit <count>', `how many; default ${String(DEFAULT_SHOWN)}`)
    .action(async (pipeline: string, options: Common & { limit?: string }) => {
      const limit = options.limit === undefined ? DEFAULT_SHOWN : parseCount('--limit', options.limit);
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const store = await clients.store();
        await requirePipeline(store, pipeline);
        const triggers = await store.retraining.list({ pipeline, limit });
        print(invocation, triggers, () =>
          triggers.length === 0
            ? 'Nothing was asked for yet.\n'
            : renderTable(['number', 'at', 'source', 'reason', 'fate', 'why', 'to serving', 'run'], triggers.map(triggerRow)),
        );
      });
    });

  addCommand(program, group, 'show <pipeline> [number]', 'where retraining stands; or, given its number, one trigger with its times and evidence').action(
    async (pipeline: string, number: string | undefined, options: Common) => {
      const wanted = number === undefined ? undefined : parseCount('number', number);
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const store = await clients.store();
        await requirePipeline(store, pipeline);
        if (wanted !== undefined) {
          const trigger = await store.retraining.get(pipeline, wanted);
          print(invocation, trigger, () => triggerText(trigger));
          return;
        }
        const status = await (await controllerOf(clients, pipeline)).query<RetrainingStatus | null>('state').catch(notThere(pipeline));
        if (status === null)
          throw new MillraceError('CONFLICT', `The controller of ${pipeline} is about to move to this version.`, { fix: 'Ask again in a moment.' });
        const [experiment] = await store.retraining.experiments({ pipeline, open: true, limit: 1 });
        print(invocation, { ...status, experiment: experiment ?? null }, () => statusText(status, experiment));
      });
    },
  );

  for (const [name, description, done] of [
    ['pause', 'from now on nothing is started; triggers wait', 'paused'],
    ['resume', 'starts what waits, as soon as it may', 'resumed'],
  ] as const)
    addCommand(program, group, `${name} <pipeline>`, description).action(async (pipeline: string, options: Common) => {
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        await requirePipeline(await clients.store(), pipeline);
        await send(clients, pipeline, name, {});
        print(invocation, { pipeline, [done]: true }, () => `Retraining ${pipeline} is ${done}.\n`);
      });
    });

  addCommand(program, group, 'configure <pipeline>', 'when it may be retrained; wins over what the pipeline itself says')
    .option('--cool-down <duration>', 'none begins within this time after the last one began')
    .option('--refire-after <duration>', 'a condition that goes on asks again after so long')
    .option('--runs-a-day <count>', 'runs that begin on one day at most; `none` for no limit')
    .option('--minutes-a-day <count>', 'minutes of training a day; `none` for no limit')
    .option('--time-zone <zone>', 'of the day and of quiet hours: Europe/Berlin; default UTC')
    .option('--quiet <hours>', 'none begins then: 22:00-06:00, or 09:00-17:00@mon,tue; may be given again; `none` for none', collect)
    .option('--back-off <durations>', 'after a failure, and at most: 10m-1d')
    .option('--experiment-after <count>', 'so many in a row that did not end well open an experiment request; `none` for never')
    .option('--reset <field>', 'what the pipeline itself says stands again: coolDownMs, budget, …; may be given again', collect)
    .action(async (pipeline: string, options: ConfigureOptions) => {
      const change = parseChange(options);
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        await requirePipeline(await clients.store(), pipeline);
        const status = await send<RetrainingStatus>(clients, pipeline, 'configure', change);
        print(invocation, status, () => statusText(status, undefined));
      });
    });

  addCommand(program, group, 'experiment <pipeline>', 'the request for an experiment that is open: its evidence and a search that is ready to run')
    .option('--code', 'print the code of the search alone, to be written into the project')
    .option('--close <comment>', 'close it: what was done about it')
    .action(async (pipeline: string, options: Common & { code?: boolean; close?: string }) => {
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const store = await clients.store();
        await requirePipeline(store, pipeline);
        const [request] = await store.retraining.experiments({ pipeline, open: true, limit: 1 });
        if (request === undefined) {
          if (options.code === true || options.close !== undefined) throw new MillraceError('NOT_FOUND', `No experiment is asked for by ${pipeline}.`);
          print(invocation, null, () => `No experiment is asked for by ${pipeline}.\n`);
          return;
        }
        if (options.close !== undefined) {
          await send(clients, pipeline, 'closeExperiment', { comment: options.close });
          print(invocation, { pipeline, closed: request.id }, () => `Closed.\n`);
          return;
        }
        if (options.code === true) {
          const { tune } = request;
          if (tune === null) throw new MillraceError('NOT_FOUND', `No run of ${pipeline} trained with validation rows: there is nothing to search from.`);
          print(invocation, tune, () => tune.code);
          return;
        }
        print(invocation, request, () => experimentText(request));
      });
    });
}

const ACTIONS = {
  pause: 'pauseRetraining',
  resume: 'resumeRetraining',
  configure: 'configureRetraining',
  closeExperiment: 'closeExperiment',
} as const;

/** Sends an update to the controller, in the name of who acts. */
async function send<Answer>(clients: Clients, pipeline: string, update: keyof typeof ACTIONS, message: object): Promise<Answer> {
  const { who, voucher } = await clients.actor(pipeline);
  const sent = { ...message, by: who, ...(await voucher(ACTIONS[update], retrainingWorkflowId(pipeline), pipeline)) };
  return (await controllerOf(clients, pipeline)).executeUpdate<Answer, [object]>(update, { args: [sent] }).catch(notThere(pipeline));
}

async function controllerOf(clients: Clients, pipeline: string) {
  return (await clients.temporal()).workflow.getHandle(retrainingWorkflowId(pipeline));
}

/** What a controller refuses is told as it says it; one that is not there is not an error of Temporal's. */
const notThere =
  (pipeline: string) =>
  (error: unknown): never => {
    const name = error instanceof Error ? error.name : '';
    if (name === 'WorkflowNotFoundError')
      throw new MillraceError('NOT_FOUND', `${pipeline} has no controller of retraining.`, {
        fix: 'Start the stack: `millrace up` makes one for each pipeline.',
      });
    if (name === 'WorkflowUpdateFailedError' && error instanceof Error)
      throw new MillraceError('INVALID_PARAMETERS', error.cause instanceof Error ? error.cause.message : error.message);
    throw error;
  };

/** @throws USAGE with every problem */
function parseChange(options: ConfigureOptions): ConfigureRetraining {
  const { coolDown, refireAfter, runsADay, minutesADay, timeZone, quiet, backOff, experimentAfter, reset } = options;
  const count = (option: string, text: string): number | null => (text === 'none' ? null : text === '0' ? 0 : parseCount(option, text));
  const zone = timeZone === undefined ? {} : { timeZone };
  const [first = '', most] = backOff?.split('-') ?? [];
  const hasBudget = runsADay !== undefined || minutesADay !== undefined;
  if (timeZone !== undefined && !hasBudget && quiet === undefined)
    throw new MillraceError('USAGE', '--time-zone says nothing alone.', { fix: 'Give --runs-a-day, --minutes-a-day or --quiet with it.' });
  const change: Record<string, unknown> = {
    ...(coolDown === undefined ? {} : { coolDownMs: coolDown === '0' ? 0 : parseDurationMs('--cool-down', coolDown) }),
    ...(refireAfter === undefined ? {} : { refireAfterMs: parseDurationMs('--refire-after', refireAfter) }),
    ...(hasBudget
      ? {
          budget: {
            ...(runsADay === undefined ? {} : { runs: count('--runs-a-day', runsADay) }),
            ...(minutesADay === undefined ? {} : { minutes: count('--minutes-a-day', minutesADay) }),
            ...zone,
          },
        }
      : {}),
    ...(quiet === undefined ? {} : { quietHours: quiet.filter((hours) => hours !== 'none').map((hours) => ({ ...parseQuiet(hours), ...zone })) }),
    ...(backOff === undefined
      ? {}
      : { backOff: { firstMs: parseDurationMs('--back-off', first), ...(most === undefined ? {} : { mostMs: parseDurationMs('--back-off', most) }) } }),
    ...(experimentAfter === undefined ? {} : { experimentAfter: count('--experiment-after', experimentAfter) }),
    ...(reset === undefined ? {} : { reset }),
  };
  if (Object.keys(change).length === 0)
    throw new MillraceError('USAGE', 'Nothing to configure was given.', { fix: 'See `millrace retrainings configure --help`.' });
  const parsed = ConfigureRetrainingSchema.safeParse(change);
  if (!parsed.success)
    throw new MillraceError('USAGE', 'The settings of retraining do not fit.', {
      problems: parsed.error.issues.map(({ path, message }) => ({ path: path.map(String).join('.') || '(settings)', message })),
    });
  return parsed.data;
}

/** @throws USAGE */
function parseQuiet(text: string): Pick<QuietHours, 'from' | 'to'> & { readonly days?: QuietHours['days'] } {
  const [, from = '', to = '', days] = /^(\d\d:\d\d)-(\d\d:\d\d)(?:@([a-z,]+))?$/.exec(text) ?? [];
  const named = days?.split(',');
  const known = WEEKDAYS.filter((day) => named?.includes(day) ?? false);
  if (from === '' || (named !== undefined && known.length !== named.length))
    throw new MillraceError('USAGE', `--quiet: "${text}" is not a time of the day.`, {
      fix: 'Write --quiet 22:00-06:00, or --quiet 09:00-17:00@mon,tue,wed,thu,fri.',
    });
  return { from, to, ...(named === undefined ? {} : { days: known }) };
}

const triggerRow = (trigger: RetrainingRecord): readonly string[] => [
  String(trigger.number),
  trigger.at,
  trigger.source,
  `${trigger.reason}${trigger.times > 1 ? ` (sent ${String(trigger.times)} times)` : ''}`,
  trigger.fate,
  trigger.because,
  trigger.fate === 'serving' && trigger.timing !== null ? showSpan(trigger.timing.totalMs) : '',
  trigger.runId?.slice(0, 12) ?? '',
];

function triggerText(trigger: RetrainingRecord): string {
  const { timing } = trigger;
  const fields: [string, string][] = [
    ['trigger', `${String(trigger.number)} of ${trigger.pipeline}`],
    ['reason', trigger.reason],
    ['source', trigger.source],
    ...(trigger.condition === null ? [] : [['condition', trigger.condition] as [string, string]]),
    ['at', trigger.at],
    ['fate', trigger.fate],
    ['why', trigger.because],
    ...(trigger.mergedInto === null ? [] : [['goes with trigger', String(trigger.mergedInto)] as [string, string]]),
    ...trigger.heldBy.map(({ by, since }): [string, string] => ['held up', `${by}, since ${since}`]),
    ...(trigger.runId === null ? [] : [['run', `${trigger.runId} (millrace runs show ${trigger.runId.slice(0, 12)})`] as [string, string]]),
    ...(timing === null
      ? []
      : [
          [
            trigger.fate === 'serving' ? 'trigger to serving' : 'trigger to the end of its run',
            `${showSpan(timing.totalMs)}: waiting ${showSpan(timing.waitingMs)}, training ${showSpan(timing.trainingMs)}, gates ${showSpan(timing.gatesMs)}, rollout ${showSpan(timing.rolloutMs)}`,
          ] as [string, string],
        ]),
    ...(trigger.evidence === null ? [] : [['evidence', JSON.stringify(trigger.evidence).slice(0, 2_000)] as [string, string]]),
  ];
  return renderFields(fields);
}

function statusText(status: RetrainingStatus, experiment: ExperimentRequestRecord | undefined): string {
  const { policy, waiting, inFlight, today } = status;
  const { budget } = policy;
  return renderFields([
    ['pipeline', status.pipeline],
    [
      'now',
      inFlight === null ? (status.paused ? 'paused' : 'idle') : `${inFlight.workflowId} since ${inFlight.since}, for ${String(inFlight.triggers)} triggers`,
    ],
    [
      'waiting',
      waiting === null
        ? 'nothing'
        : `${String(waiting.triggers)} triggers${waiting.heldBy === null ? '' : `: ${waiting.heldBy}`}${waiting.until === null ? '' : ` until ${waiting.until}`}`,
    ],
    ['today', `${String(today.runs)} runs, ${today.minutes.toFixed(1)} minutes of training`],
    ...(status.failures === 0
      ? []
      : [['did not end well', `${String(status.failures)} in a row${status.backOffUntil === null ? '' : `; back-off until ${status.backOffUntil}`}`] as const]),
    ...status.conditions.map(({ source, condition, since }) => ['goes on', `${condition} (${source}) since ${since}`] as const),
    ...(experiment === undefined ? [] : [['experiment', `asked for at ${experiment.openedAt}: millrace retrainings experiment ${status.pipeline}`] as const]),
    ['cool-down', showSpan(policy.coolDownMs)],
    ['fires again after', showSpan(policy.refireAfterMs)],
    [
      'budget a day',
      `${budget.runs === null ? 'any number of' : String(budget.runs)} runs, ${budget.minutes === null ? 'any number of' : String(budget.minutes)} minutes, ${budget.timeZone}`,
    ],
    [
      'quiet hours',
      policy.quietHours.length === 0
        ? 'none'
        : policy.quietHours.map((q) => `${q.from}-${q.to} ${q.days.length === 7 ? 'daily' : q.days.join(',')} ${q.timeZone}`).join('; '),
    ],
    ['back-off', `${showSpan(policy.backOff.firstMs)} × ${String(policy.backOff.factor)} each time, at most ${showSpan(policy.backOff.mostMs)}`],
    ['experiment after', policy.experimentAfter === null ? 'never' : `${String(policy.experimentAfter)} in a row`],
  ]);
}

function experimentText({ because, openedAt, evidence, tune, pipeline }: ExperimentRequestRecord): string {
  const head = renderFields([
    ['asked for', openedAt],
    ['because', because],
    [
      'triggers',
      evidence.triggers
        .slice(0, 10)
        .map((t) => `${String(t.number)} ${t.fate}: ${t.reason}`)
        .join('; '),
    ],
    [
      'metrics',
      evidence.runs
        .slice(0, 3)
        .map(
          ({ runId, metrics }) =>
            `${runId.slice(0, 12)} ${Object.entries(metrics)
              .slice(0, 6)
              .map(([key, value]) => `${key} ${value.toPrecision(4)}`)
              .join(', ')}`,
        )
        .join('; ') || 'none',
    ],
    [
      'findings',
      evidence.findings
        .slice(0, 5)
        .map(({ source, evidence: found }) => `${source} ${JSON.stringify(found).slice(0, 300)}`)
        .join('; ') || 'none',
    ],
  ]);
  if (tune === null) return `${head}\nNo run trained with validation rows: there is nothing to search from.\n`;
  return `${head}\nA search is ready. Put it into ${tune.file} and run it:\n  millrace retrainings experiment ${pipeline} --code > ${tune.file}\n  ${tune.command}\nClose the request when it is settled: millrace retrainings experiment ${pipeline} --close 'what was done'\n`;
}

function showSpan(ms: number): string {
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  const minutes = Math.round(ms / 60_000);
  if (minutes < 60) return `${String(minutes)} min`;
  if (minutes < 48 * 60) return `${String(Math.floor(minutes / 60))} h ${String(minutes % 60)} min`;
  return `${(minutes / 1_440).toFixed(1)} days`;
}
