import { randomBytes } from 'node:crypto';
import { WORKFLOW_QUEUE } from '../contracts/queues.ts';
import { MEMO_RETRY_OF, MEMO_TRIGGER, type Trigger } from '../contracts/run.ts';
import { type Clients, withClients } from './clients.ts';
import { addCommand, collect, type Invocation, invocationOf, print, type Program } from './command.ts';
import { watchToEnd } from './follow-run.ts';
import { checkParameters, readParameters } from './parameters.ts';
import { requirePipeline } from './pipelines.ts';

interface RunOptions {
  readonly input?: string;
  readonly set?: readonly string[];
  readonly id?: string;
  readonly detach?: boolean;
  readonly reason?: string;
  readonly json?: boolean;
}

/** A workflow id that says what runs and when it was started: `flightDelay-20261120-221642-9f3a`. */
export function newWorkflowId(pipeline: string, now: Date = new Date()): string {
  const stamp = now.toISOString().replaceAll(/[-:]/g, '').replace('T', '-').slice(0, 15);
  return `${pipeline}-${stamp}-${randomBytes(2).toString('hex')}`;
}

export interface StartRunInput {
  readonly pipeline: string;
  readonly params: Readonly<Record<string, unknown>>;
  readonly workflowId?: string;
  readonly trigger: Trigger;
  readonly retryOf?: string;
}

/** Starts a run, as every way of starting one does: workflow type and queue, one argument, memo. */
export async function startRun(clients: Clients, input: StartRunInput): Promise<{ readonly workflowId: string; readonly temporalRunId: string }> {
  const { who: by } = await clients.actor(input.pipeline);
  const client = await clients.temporal();
  const handle = await client.workflow.start(input.pipeline, {
    taskQueue: WORKFLOW_QUEUE,
    workflowId: input.workflowId ?? newWorkflowId(input.pipeline),
    args: [input.params],
    memo: { [MEMO_TRIGGER]: { ...input.trigger, by } satisfies Trigger, ...(input.retryOf === undefined ? {} : { [MEMO_RETRY_OF]: input.retryOf }) },
    ...(input.trigger.reason === undefined ? {} : { staticSummary: input.trigger.reason.slice(0, 200) }),
  });
  return { workflowId: handle.workflowId, temporalRunId: handle.firstExecutionRunId };
}

/** Tells that a run was started, and follows it unless it is to go on by itself. */
export async function tellOrFollow(
  clients: Clients,
  started: { readonly workflowId: string; readonly temporalRunId: string },
  detach: boolean,
  invocation: Invocation,
): Promise<void> {
  if (detach) {
    print(
      invocation,
      { workflowId: started.workflowId, temporalRunId: started.temporalRunId, status: 'running' },
      () => `Started ${started.workflowId}.\nWatch it: millrace runs show ${started.workflowId} --follow\n`,
    );
    return;
  }
  await watchToEnd(await clients.temporal(), started, invocation);
}

export function addRunCommand(program: Program): void {
  addCommand(program, program.root, 'run <pipeline>', 'start a run of a pipeline and watch it')
    .option('--input <json>', 'the parameters as a JSON object; those left out take their defaults')
    .option('--set <name=value>', 'one parameter; may be repeated, wins over --input', collect)
    .option('--id <id>', 'the workflow id (default: the pipeline with the time)')
    .option('--detach', 'start it and return at once')
    .option('--reason <text>', 'why it is started; it stands in the record')
    .addHelpText(
      'after',
      '\nExit codes: 0 the run completed, 1 it failed, 2 bad parameters, 3 a server is not reachable.\nCtrl-C stops watching; the run goes on.',
    )
    .action(async (pipeline: string, options: RunOptions) => {
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        // What is wrong with the line itself is told before any server is asked.
        readParameters(options);
        const known = await requirePipeline(await clients.store(), pipeline);
        const params = readParameters(options, known.parameters ?? undefined);
        if (known.parameters) checkParameters(pipeline, params, known.parameters);
        const started = await startRun(clients, {
          pipeline,
          params,
          ...(options.id === undefined ? {} : { workflowId: options.id }),
          trigger: { kind: 'cli', ...(options.reason === undefined ? {} : { reason: options.reason }) },
        });
        await tellOrFollow(clients, started, options.detach === true, invocation);
      });
    });
}

/** One stage as a run of its own, for a look by hand: `millrace stage ingest --input '{"source":{…},"name":"flights"}'`. */
export function addStageCommand(program: Program): void {
  addCommand(
    program,
    program.root,
    'stage <kind>',
    'run one stage alone: ingest, validate, clean, split, train, select, evaluate, register, importModel, registeredVersion, deploy, monitor',
  )
    .option('--input <json>', "the stage's input as a JSON object")
    .option('--set <name=value>', 'one field of the input; may be repeated, wins over --input', collect)
    .option('--pool <pool>', 'the pool whose workers run it (default: cpu)')
    .option('--detach', 'start it and return at once')
    .action(async (kind: string, options: RunOptions & { readonly pool?: string }) => {
      const invocation = invocationOf(program, options);
      const input = readParameters(options);
      await withClients(async (clients) => {
        const started = await startRun(clients, {
          pipeline: 'stage',
          params: { kind, input, ...(options.pool === undefined ? {} : { pool: options.pool }) },
          workflowId: newWorkflowId(`stage-${kind}`),
          trigger: { kind: 'cli', reason: `stage ${kind} alone` },
        });
        await tellOrFollow(clients, started, options.detach === true, invocation);
      });
    });
}
