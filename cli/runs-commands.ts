import { describeError, MillraceError } from '../contracts/errors.ts';
import type { Decision } from '../contracts/run.ts';
import type { MetricRecord } from '../store/metrics.ts';
import type { RunRecord } from '../store/runs.ts';
import type { StageRecord } from '../store/stages.ts';
import type { UndoRecord } from '../store/undos.ts';
import { type Clients, withClients } from './clients.ts';
import { addCommand, addGroup, type Invocation, invocationOf, print, type Program } from './command.ts';
import { toMillraceError } from './failure.ts';
import { findRun } from './find-run.ts';
import { watchToEnd } from './follow-run.ts';
import { addListRunsCommand } from './list-runs-command.ts';
import { addReproduceCommand } from './reproduce-command.ts';
import { startRun, tellOrFollow } from './run-command.ts';
import { oneLine, renderFields, renderTable, showElapsed, showFigure } from './table.ts';

interface Common {
  readonly json?: boolean;
}

/** Whether a stage was computed or taken over, and why. */
export function cacheText(stage: Pick<StageRecord, 'cachedFrom' | 'missReason' | 'status'>): string {
  if (stage.cachedFrom) return `hit: from run ${stage.cachedFrom.runId.slice(0, 12)}, stage ${stage.cachedFrom.stage}`;
  const reason = stage.missReason;
  if (reason === null) return '';
  if (reason.kind === 'first') return 'miss: no earlier result';
  if (reason.kind === 'notAsked') return 'miss: the cache was not asked';
  return `miss: ${reason.parts.join(', ')} differ${reason.parts.length === 1 ? 's' : ''} from run ${reason.fromRunId.slice(0, 12)}`;
}

const secondsText = (seconds: number | null): string => (seconds === null ? '' : `${seconds < 10 ? seconds.toFixed(1) : seconds.toFixed(0)} s`);
const mibText = (mib: number | null): string => (mib === null ? '' : `${mib.toFixed(0)} MiB`);
/** In the currency of the configuration's rates. */
const costText = (cost: number | null): string => (cost === null ? '' : cost < 0.1 ? cost.toPrecision(2) : cost.toFixed(2));
const gpuText = ({ gpuSeconds, gpuUtilisation, gpuPeakMib }: StageRecord): string =>
  gpuSeconds === null
    ? ''
    : [
        secondsText(gpuSeconds),
        ...(gpuUtilisation === null ? [] : [`${(100 * gpuUtilisation).toFixed(0)} %`]),
        ...(gpuPeakMib === null ? [] : [mibText(gpuPeakMib)]),
      ].join(', ');

/** The trials of a run's tunings, in their order, each with what it gave. */
export function trialLines(stages: readonly Pick<StageRecord, 'name' | 'kind' | 'status' | 'output' | 'error'>[]): readonly (readonly string[])[] {
  const number = (name: string): number => Number(/\d+$/.exec(name)?.[0] ?? 0);
  return stages
    .filter(({ kind }) => kind === 'trial')
    .sort((a, b) => number(a.name) - number(b.name))
    .map(({ name, status, output, error }) => [
      name,
      status,
      error === null ? ((output as { readonly summary?: string } | null)?.summary ?? '') : `${error.code}: ${error.message}`,
    ]);
}

function describeRun(run: RunRecord, all: readonly StageRecord[], undos: readonly UndoRecord[], nowMs: number): string {
  const git = run.gitCommit === null ? null : `${run.gitCommit.slice(0, 12)}${run.gitClean === false ? ' (with changes)' : ''}`;
  // hundreds of trials would hide the rest: they have a listing of their own
  const stages = all.filter(({ kind }) => kind !== 'trial');
  const trials = all.length - stages.length;
  const onGpu = all.some((s) => s.gpuSeconds !== null);
  const priced = all.some((s) => s.cost !== null);
  const sum = (of: (s: StageRecord) => number | null): number => all.reduce((total, s) => total + (of(s) ?? 0), 0);
  const out = [
    renderFields([
      ['run', run.id],
      ['pipeline', run.pipeline],
      ['status', run.status],
      ['workflow', run.workflowId],
      ['started', run.startedAt ?? `waiting since ${run.createdAt}`],
      ['took', showElapsed(run.startedAt, run.endedAt, nowMs)],
      ['trigger', `${run.trigger.kind}${run.trigger.reason === undefined ? '' : `: ${run.trigger.reason}`}`],
      ['retry of', run.retryOf],
      ['parameters', JSON.stringify(run.params)],
      ['commit', git],
      ['build', run.buildId],
      ['used', `${secondsText(sum((s) => s.cpuSeconds))} CPU${onGpu ? `, ${secondsText(sum((s) => s.gpuSeconds))} GPU` : ''}`],
      ['cost', priced ? costText(sum((s) => s.cost)) : null],
    ]),
    '\n',
    renderTable(
      ['stage', 'status', 'pool', 'attempts', 'took', 'CPU', ...(onGpu ? ['GPU'] : []), 'memory', ...(priced ? ['cost'] : []), 'cache'],
      stages.map((s) => [
        s.name,
        s.cachedFrom ? 'cached' : s.status,
        s.pool ?? '',
        String(s.attempts),
        showElapsed(s.startedAt, s.endedAt, nowMs),
        secondsText(s.cpuSeconds),
        ...(onGpu ? [gpuText(s)] : []),
        mibText(s.peakMib),
        ...(priced ? [costText(s.cost)] : []),
        cacheText(s),
      ]),
    ),
  ];
  if (trials > 0) out.push(`\n${String(trials)} trials: millrace runs show ${run.id} --trials\n`);
  const failed = stages.filter((s) => s.error !== null);
  if (run.error) out.push(`\n${describeError(run.error)}\n`);
  else for (const stage of failed) out.push(`\n${stage.name}: ${stage.error?.code ?? ''}: ${stage.error?.message ?? ''}\n`);
  if (undos.length > 0 && run.status !== 'completed' && run.status !== 'running') {
    out.push(
      '\nTaken back:\n',
      ...undos.map((u) => `  ${u.status === 'done' ? '✓' : '✗'} ${u.stage} ${u.kind} ${u.key}: ${u.outcome ?? u.error?.message ?? u.status}\n`),
    );
  }
  return out.join('');
}

/** Figures beyond these are in `--json`. */
const SHOWN_METRICS = 40;

/** The last value of each metric; intervals and trials have places of their own. */
export function metricLines(metrics: readonly MetricRecord[]): readonly string[] {
  const shown = metrics.filter(({ key }) => !/^(?:interval|trial)\./.test(key));
  if (shown.length === 0) return [];
  const bound = (key: string, stage: string, end: 'low' | 'high'): number | undefined =>
    metrics.find((other) => other.stage === stage && other.key === `interval.${key.replace(/^test\./, '')}.${end}`)?.value;
  const rows = shown.slice(0, SHOWN_METRICS).map(({ stage, key, step, value }) => {
    const [low, high] = [bound(key, stage, 'low'), bound(key, stage, 'high')];
    const range = low === undefined || high === undefined || !key.startsWith('test.') ? '' : `${showFigure(low)} to ${showFigure(high)}`;
    return [key, stage, showFigure(value), range, step === 0 ? '' : String(step)];
  });
  const more = shown.length > SHOWN_METRICS ? [`${String(shown.length - SHOWN_METRICS)} more: --json\n`] : [];
  return [renderTable(['metric', 'stage', 'value', 'interval', 'step'], rows), ...more];
}

const labelled = (title: string, values: Readonly<Record<string, string>>): readonly string[] =>
  Object.keys(values).length === 0
    ? []
    : [
        `${title}: ${Object.entries(values)
          .map(([key, value]) => `${key} ${oneLine(value, 60)}`)
          .join(', ')}\n`,
      ];

/** Those that people and programs have set: what stands in the record anyway is kept as tags for MLflow's clients, too. */
const ownTags = (tags: Readonly<Record<string, string>>): Readonly<Record<string, string>> =>
  Object.fromEntries(Object.entries(tags).filter(([key]) => !/^(?:mlflow|millrace)\./.test(key)));

async function showRun(clients: Clients, text: string, invocation: Invocation, onlyTrials: boolean): Promise<void> {
  const store = await clients.store();
  const run = await findRun(store, text);
  const [stages, undos, versions, rollouts, approvals, metrics, tags] = await Promise.all([
    store.stages.list(run.id),
    store.undos.list(run.id),
    store.models.versionsOfRun(run.id),
    store.rollouts.list({ runId: run.id }),
    store.approvals.list({ runId: run.id }),
    store.metrics.latest(run.id),
    store.runs.tags(run.id),
  ]);
  if (onlyTrials) {
    print(
      invocation,
      stages.filter(({ kind }) => kind === 'trial'),
      () => renderTable(['trial', 'status', 'result'], trialLines(stages)),
    );
    return;
  }
  print(invocation, { ...run, tags, metrics, stages: stages.map((s) => ({ ...s, cache: cacheText(s) })), undos, versions, rollouts, approvals }, () => {
    const extra = [
      ...metricLines(metrics),
      ...labelled('Tags', ownTags(tags)),
      ...versions.map((v) => `Version: ${v.model} ${v.version} (${v.status}${v.statusReason === null ? '' : `: ${v.statusReason}`})\n`),
      ...rollouts.map((r) => `Rollout: ${r.endpoint} ${r.status}${r.reason === null ? '' : `: ${r.reason}`}\n`),
      ...approvals.flatMap((a) => [
        `Gate: ${a.gate} ${a.status}, ${a.approversNeeded} needed\n`,
        ...a.decisions.map((d) => `  ${d.at} ${d.who} ${d.decision}: ${d.reason}\n`),
      ]),
    ];
    return `${describeRun(run, stages, undos, Date.now())}${extra.length > 0 ? `\n${extra.join('')}` : ''}`;
  });
}

/** The workflow of a run that is open; a workflow id that the store does not know yet is taken as it is. */
async function workflowOf(
  clients: Clients,
  text: string,
): Promise<{ readonly workflowId: string; readonly temporalRunId?: string; readonly runId: string | null; readonly pipeline: string }> {
  try {
    const run = await findRun(await clients.store(), text);
    if (run.workflowId === null)
      throw new MillraceError('CONFLICT', `Run ${run.id} has no workflow: it was logged from outside.`, { fix: 'Nothing to do here.' });
    return { workflowId: run.workflowId, ...(run.temporalRunId === null ? {} : { temporalRunId: run.temporalRunId }), runId: run.id, pipeline: run.pipeline };
  } catch (error) {
    if (toMillraceError(error).code !== 'NOT_FOUND' || /^[0-9a-f]{6,32}$/.test(text)) throw error;
    const client = await clients.temporal();
    try {
      const { type } = await client.workflow.getHandle(text).describe();
      return { workflowId: text, runId: null, pipeline: type };
    } catch {
      throw error;
    }
  }
}

async function requireOpen(clients: Clients, text: string): Promise<Awaited<ReturnType<typeof workflowOf>>> {
  const at = await workflowOf(clients, text);
  const run = at.runId === null ? null : await (await clients.store()).runs.get(at.runId);
  if (run !== null && run.status !== 'running' && run.status !== 'waiting') {
    throw new MillraceError('CONFLICT', `Run ${run.id} has ended already: it is ${run.status}.`, {
      fix: 'Nothing to do; `millrace runs retry` starts it again.',
    });
  }
  return at;
}

export function addRunsCommands(program: Program): void {
  const runs = addGroup(program, 'runs', 'list and steer runs');

  addListRunsCommand(program, runs);

  addCommand(program, runs, 'show <run>', 'one run: its stages, which of them came from the cache and why not, what it published')
    .option('--trials', 'the trials of its tunings, each with what it gave')
    .option('--follow', 'watch it live until it has ended')
    .action(async (run: string, options: Common & { follow?: boolean; trials?: boolean }) => {
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        if (options.follow !== true) return showRun(clients, run, invocation, options.trials === true);
        const at = await workflowOf(clients, run);
        return watchToEnd(await clients.temporal(), at, invocation);
      });
    });

  addCommand(program, runs, 'cancel <run>', 'cancel a run; what it has published is taken back').action(async (run: string, options: Common) => {
    const invocation = invocationOf(program, options);
    await withClients(async (clients) => {
      const at = await requireOpen(clients, run);
      const { who } = await clients.actor(at.pipeline);
      const client = await clients.temporal();
      await client.workflow.getHandle(at.workflowId, at.temporalRunId).cancel();
      await (await clients.store()).audit.write({ action: 'run.cancel', subject: at.runId === null ? `workflows/${at.workflowId}` : `runs/${at.runId}`, who });
      print(
        invocation,
        { run: at.runId, workflowId: at.workflowId, requested: 'cancel' },
        () => `${at.workflowId} is being cancelled; what it published is taken back.\nWatch it: millrace runs show ${at.workflowId} --follow\n`,
      );
    });
  });

  addCommand(program, runs, 'retry <run>', 'start again with the same parameters; stages whose inputs and code did not change are taken over')
    .option('--detach', 'start it and return at once')
    .option('--reason <text>', 'why; it stands in the record')
    .action(async (text: string, options: Common & { detach?: boolean; reason?: string }) => {
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const run = await findRun(await clients.store(), text);
        if (run.status === 'running' || run.status === 'waiting')
          throw new MillraceError('CONFLICT', `Run ${run.id} has not ended: it is ${run.status}.`, { fix: `Cancel it first: millrace runs cancel ${run.id}` });
        const started = await startRun(clients, {
          pipeline: run.pipeline,
          params: run.params as Record<string, unknown>,
          trigger: { kind: 'retry', source: run.id, ...(options.reason === undefined ? {} : { reason: options.reason }) },
          retryOf: run.id,
        });
        await tellOrFollow(clients, started, options.detach === true, invocation);
      });
    });

  addReproduceCommand(program, runs);

  for (const [name, done, description] of [
    ['pause', 'paused before its next stage', 'let a run rest before its next stage'],
    ['resume', 'going on', 'let a paused run go on'],
  ] as const) {
    addCommand(program, runs, `${name} <run>`, description).action(async (run: string, options: Common) => {
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const at = await requireOpen(clients, run);
        const client = await clients.temporal();
        const { who, voucher } = await clients.actor(at.pipeline);
        const message = { by: who, ...(await voucher(name === 'pause' ? 'pauseRun' : 'resumeRun', at.workflowId, at.pipeline)) };
        await client.workflow.getHandle(at.workflowId, at.temporalRunId).executeUpdate<unknown, [object]>(name, { args: [message] });
        print(invocation, { run: at.runId, workflowId: at.workflowId, paused: name === 'pause' }, () => `${at.workflowId} is ${done}.\n`);
      });
    });
  }

  for (const [name, description] of [
    ['approve', 'let a run pass a gate'],
    ['reject', 'stop a run at a gate; what it has published is taken back'],
  ] as const) {
    addCommand(program, program.root, `${name} <run> [gate]`, `${description}; the gate may be left out while one alone waits`)
      .requiredOption('--reason <text>', 'why; it stands in the record')
      .option('--by <name>', 'who decides (default: the user of this machine)')
      .action(async (run: string, gate: string | undefined, options: Common & { reason: string; by?: string }) => {
        const invocation = invocationOf(program, options);
        await withClients(async (clients) => {
          const at = await requireOpen(clients, run);
          const { who: by, voucher } = await clients.actor(at.pipeline, options.by);
          const decision: Decision = { ...(gate === undefined ? {} : { gate }), by, reason: options.reason };
          const client = await clients.temporal();
          const decided = await client.workflow
            .getHandle(at.workflowId, at.temporalRunId)
            .executeUpdate<{ gate: string; approved: boolean }, [Decision]>(name, {
              args: [{ ...decision, ...(await voucher(name, at.workflowId, at.pipeline)) }],
            });
          print(
            invocation,
            { run: at.runId, workflowId: at.workflowId, ...decided, by },
            () => `${by} has ${name === 'approve' ? 'approved' : 'rejected'} ${decided.gate} of ${at.workflowId}.\n`,
          );
        });
      });
  }
}
