import type { MillraceConfig } from '../config/config.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { MirrorStanding } from '../store/mlflow-mirror.ts';
import type { StackEvent } from '../stack/stack.ts';
import type { StackState, StackUrls } from '../stack/stack-state.ts';
import { loadCliConfig } from './clients.ts';
import { addCommand, invocationOf, print, type Program } from './command.ts';
import { renderFields, renderTable, showDuration } from './table.ts';

interface Common {
  readonly json?: boolean;
}

/** A stack's event as a line for people. */
export function describeEvent(event: StackEvent): string {
  switch (event.type) {
    case 'starting':
      return `${event.name} starts`;
    case 'ready':
      return `${event.name} is ready (${showDuration(event.tookMs)})${event.restarts > 0 ? ', started again' : ''}`;
    case 'died':
      return `${event.name} died (${event.exit}); it is started again in ${showDuration(event.nextStartInMs)}`;
    case 'stopped':
      return `${event.name} has stopped`;
    case 'progress':
      return `${event.name}: ${event.message}`;
    case 'external':
      return `${event.name}: the one that the environment names is used`;
    case 'skipped':
      return `${event.name} is not started: ${event.reason}`;
  }
}

/** Where a person looks. */
export function describeUrls(urls: StackUrls): string {
  return renderFields([
    ['Temporal UI', urls.temporalUi],
    ['API', urls.api],
    ['Predictions', urls.serving],
    ['Temporal', urls.temporal],
  ]);
}

function describeState(state: StackState): string {
  return [
    `The stack is ${state.phase} since ${state.startedAt} (process ${state.supervisor.pid}, millrace ${state.version}).\n\n`,
    renderTable(
      ['part', 'state', 'process', 'restarts', 'log'],
      state.parts.map((p) => [p.name, p.state, String(p.process?.pid ?? ''), String(p.restarts ?? ''), p.logFile ?? '']),
    ),
    '\n',
    describeUrls(state.urls),
  ].join('');
}

/** How far the mirror is behind; null where there is none, or Postgres does not answer. */
async function mirrorStanding(config: MillraceConfig): Promise<MirrorStanding | null> {
  if (config.mlflowMirror === undefined) return null;
  const [{ openStore }, { databaseUrl }] = await Promise.all([import('../store/store.ts'), import('../config/service-addresses.ts')]);
  try {
    const store = openStore({ databaseUrl: databaseUrl(config), poolSize: 1 });
    return await store.mlflowMirror.standing().finally(() => store.close());
  } catch {
    return null;
  }
}

function describeMirror({ target, waitingRuns, oldest, refusedRuns, lastError }: MirrorStanding): string {
  const behind = oldest === null ? '' : `, for ${showDuration(Date.now() - Date.parse(oldest))}`;
  const waits = waitingRuns === 0 ? 'all runs are there' : `${String(waitingRuns)} ${waitingRuns === 1 ? 'run waits' : 'runs wait'}${behind}`;
  const refused = refusedRuns === 0 ? '' : `; ${String(refusedRuns)} refused`;
  return renderFields([['Mirror', `${target}: ${waits}${refused}${lastError === '' ? '' : `. ${lastError}`}`]]);
}

export function addStackCommands(program: Program): void {
  const { root, terminal } = program;

  addCommand(program, root, 'up', 'start the stack of this project: Postgres, Temporal, workers, prediction server, API')
    .option('--detach', 'let it run in the background, and return when it is ready')
    .option('--watch', 'take edited pipelines while running; runs that go on keep the code they were started with')
    .action(async (options: Common & { detach?: boolean; watch?: boolean }) => {
      const invocation = invocationOf(program, options);
      const { loadProjectConfig } = await import('../config/load-project-config.ts');
      const config = await loadProjectConfig();
      const onEvent = (event: StackEvent): void => {
        if (!invocation.json) terminal.write(`${describeEvent(event)}\n`);
      };
      // The orchestrator, a child, reads it.
      if (options.watch === true) process.env['MILLRACE_WATCH'] = '1';
      if (options.detach === true) {
        const { startDetached } = await import('../stack/detached.ts');
        const state = await startDetached({ config, onEvent });
        print(invocation, state, () => `\n${describeUrls(state.urls)}\nIt runs in the background. Stop it: millrace down\n`);
        return;
      }
      const { startStack } = await import('../stack/stack.ts');
      const stack = await startStack({ config, onEvent });
      print(invocation, stack.status(), () => `\n${describeUrls(stack.urls)}\nCtrl-C stops it.\n`);
      await stack.stopped;
    });

  addCommand(program, root, 'down', 'stop the stack of this project; its state stays').action(async (options: Common) => {
    const invocation = invocationOf(program, options);
    const config = await loadCliConfig();
    const { stopStack } = await import('../stack/stack.ts');
    const stopped = await stopStack(config.home);
    print(invocation, { stopped }, () => (stopped ? 'The stack has stopped; its state is kept.\n' : `No stack was running in ${config.home}.\n`));
  });

  addCommand(program, root, 'status', 'what runs, and where; exit code 3 when something that should run does not').action(async (options: Common) => {
    const invocation = invocationOf(program, options);
    const config = await loadCliConfig();
    const { stackStatus } = await import('../stack/stack.ts');
    const state = stackStatus(config.home);
    if (state === undefined) throw new MillraceError('NOT_RUNNING', `No stack is running in ${config.home}.`);
    const mirror = await mirrorStanding(config);
    print(invocation, mirror === null ? state : { ...state, mirror }, () => `${describeState(state)}${mirror === null ? '' : describeMirror(mirror)}`);
    if (state.phase !== 'ready' || state.parts.some((p) => p.state !== 'ready' && p.state !== 'external')) program.exit(3);
  });

  addCommand(program, root, 'doctor', 'what this machine lacks, and how to get it').action(async (options: Common) => {
    const invocation = invocationOf(program, options);
    const config = await loadCliConfig();
    const { doctor } = await import('../stack/doctor.ts');
    const checks = await doctor(config);
    const missing = checks.filter((c) => c.state === 'missing');
    const signs = { ok: terminal.paint('green', '✓'), missing: terminal.paint('red', '✗'), optional: terminal.paint('yellow', '·') } as const;
    const width = Math.max(...checks.map((c) => c.name.length));
    print(invocation, { ok: missing.length === 0, checks }, () =>
      [
        ...checks.map(
          (c) =>
            `${signs[c.state]} ${c.name.padEnd(width)}  ${c.found}${c.state === 'ok' || c.fix === undefined ? '' : `\n${' '.repeat(width + 4)}${c.fix}`}\n`,
        ),
        missing.length === 0 ? '\nAll that is needed is here.\n' : `\nMissing: ${missing.map((c) => c.name).join(', ')}.\n`,
      ].join(''),
    );
    if (missing.length > 0) program.exit(3);
  });
}
