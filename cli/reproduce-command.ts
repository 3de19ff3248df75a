import type { Command } from 'commander';
import { MillraceError } from '../contracts/errors.ts';
import { compareReproduction, isReproduced, ReproduceParametersSchema, type StageComparison } from '../contracts/reproduction.ts';
import type { BuildRecord } from '../store/builds.ts';
import type { RunRecord } from '../store/runs.ts';
import type { Store } from '../store/store.ts';
import { withClients } from './clients.ts';
import { addCommand, type Invocation, invocationOf, print, type Program } from './command.ts';
import { findRun } from './find-run.ts';
import { followRun } from './follow-run.ts';
import { newWorkflowId, startRun } from './run-command.ts';
import { renderTable } from './table.ts';

interface BuildChange {
  readonly recorded: string | null;
  readonly current: string | null;
  /** False: its code is not kept any more. */
  readonly kept: boolean;
  /** Steps of the pipeline whose code is not as it was in the run's build. */
  readonly changedSteps: readonly string[];
}

export interface Reproduction {
  /** The new run. */
  readonly run: string;
  /** The run that was done again. */
  readonly of: string;
  readonly same: boolean;
  readonly stages: readonly StageComparison[];
  readonly build: BuildChange;
}

interface BuiltSteps {
  readonly name: string;
  readonly steps: Readonly<Record<string, string>>;
}
const stepsOf = (build: BuildRecord | null | undefined, pipeline: string): Readonly<Record<string, string>> =>
  (build?.pipelines as readonly BuiltSteps[] | undefined)?.find(({ name }) => name === pipeline)?.steps ?? {};

/** What has become of the code that the run was pinned to. */
async function buildChange(store: Store, run: RunRecord): Promise<BuildChange> {
  const [recorded, [current]] = await Promise.all([run.buildId === null ? null : store.builds.find(run.buildId), store.builds.list({ limit: 1 })]);
  const [was, is] = [stepsOf(recorded, run.pipeline), stepsOf(current, run.pipeline)];
  return {
    recorded: run.buildId,
    current: current?.id ?? null,
    kept: recorded !== null,
    changedSteps: recorded === null ? [] : [...new Set([...Object.keys(was), ...Object.keys(is)])].filter((step) => was[step] !== is[step]).sort(),
  };
}

/** Holds a reproduction that has ended against its run. */
export async function compareRuns(store: Store, again: RunRecord): Promise<Reproduction> {
  const { run: firstId, stage: only } = ReproduceParametersSchema.parse(again.params);
  const first = await store.runs.get(firstId);
  const [before, now, build] = await Promise.all([store.stages.list(first.id), store.stages.list(again.id), buildChange(store, first)]);
  const stages = compareReproduction(before, now, only);
  return { run: again.id, of: first.id, same: isReproduced(stages), stages, build };
}

/** The table and the words under it. */
export function describeReproduction({ run, of, same, stages, build }: Reproduction): string {
  const short = (id: string | null): string => id?.slice(0, 12) ?? 'none';
  const told = stages.filter(({ verdict }) => verdict !== 'not done');
  const wrong = told.filter(({ verdict }) => verdict === 'different' || verdict === 'failed');
  const lines = [
    renderTable(
      ['stage', 'result', ''],
      stages.map(({ stage, verdict, note }) => [stage, verdict === 'same' ? 'same bytes' : verdict, note]),
    ),
    same
      ? `\nRun ${short(of)} is reproduced: ${String(told.length)} of ${String(told.length)} stages gave the same bytes (run ${short(run)}).\n`
      : `\nRun ${short(of)} is not reproduced: ${wrong.map(({ stage }) => stage).join(', ')} (run ${short(run)}).\n`,
  ];
  if (!build.kept) lines.push(`Its build ${short(build.recorded)} is gone: steps ran as they are in build ${short(build.current)}.\n`);
  else if (build.changedSteps.length > 0)
    lines.push(
      `Code of the project that has changed since build ${short(build.recorded)}: ${build.changedSteps.join(', ')} (now build ${short(build.current)}).\n`,
    );
  return lines.join('');
}

const tell = (reproduction: Reproduction, invocation: Invocation): void => {
  print(invocation, reproduction, () => describeReproduction(reproduction));
  if (!reproduction.same) invocation.exit(1);
};

/** `millrace runs reproduce`. */
export function addReproduceCommand(program: Program, runs: Command): void {
  addCommand(program, runs, 'reproduce <run>', 'do a run again, without the cache, and say of each stage whether it gives the same bytes; nothing is published')
    .option('--stage <name>', 'this stage alone')
    .option('--current', "with the project's steps as they are now, not as they were")
    .addHelpText('after', '\nExit codes: 0 the same bytes, 1 other bytes or a stage that failed.\nGiven a reproduction itself, it tells the result again.')
    .action(async (text: string, options: { readonly json?: boolean; readonly stage?: string; readonly current?: boolean }) => {
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const store = await clients.store();
        const run = await findRun(store, text);
        if (run.status === 'running' || run.status === 'waiting')
          throw new MillraceError('CONFLICT', `Run ${run.id} has not ended: it is ${run.status}.`, { fix: `Watch it: millrace runs show ${run.id} --follow` });
        if (run.trigger.kind === 'reproduce') {
          tell(await compareRuns(store, run), invocation);
          return;
        }
        const started = await startRun(clients, {
          pipeline: 'reproduce',
          params: { run: run.id, ...(options.stage === undefined ? {} : { stage: options.stage }), ...(options.current === true ? { code: 'current' } : {}) },
          workflowId: newWorkflowId(`reproduce-${run.pipeline}`),
          trigger: { kind: 'reproduce', source: run.id, reason: `run ${run.id} of ${run.pipeline} again` },
        });
        const outcome = await followRun(await clients.temporal(), started, invocation, new AbortController().signal);
        const again = await store.runs.findByWorkflow(started.workflowId);
        // stages that fail are told in the comparison; a run without stages has a reason of its own
        if (again === null || (await store.stages.list(again.id)).length === 0) {
          if (outcome?.error) throw MillraceError.fromReport(outcome.error);
          throw new MillraceError('CONFLICT', `The reproduction of run ${run.id} was ${outcome?.status ?? 'left'}.`);
        }
        tell(await compareRuns(store, again), invocation);
      });
    });
}
