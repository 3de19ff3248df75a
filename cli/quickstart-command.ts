import { join } from 'node:path';
import type { MillraceConfig } from '../config/config.ts';
import { packageRoot } from '../config/package-root.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { RunningStack, StackEvent } from '../stack/stack.ts';
import { type Clients, withClients } from './clients.ts';
import { addCommand, collect, type Invocation, invocationOf, type Program } from './command.ts';
import { describeOutcome, exitCodeOf, followRun, type RunOutcome } from './follow-run.ts';
import { readParameters } from './parameters.ts';
import { type PredictionAnswer, predict, type Row } from './predict.ts';
import { startRun } from './run-command.ts';
import { describeEvent, describeUrls } from './stack-commands.ts';
import { showDuration, showMetrics } from './table.ts';

const PIPELINE = 'flightDelay';

/** Two flights as an airline knows them before departure: raw columns, nothing prepared. */
const FLIGHTS: readonly Row[] = [
  { date: '2001-06-29T18:05:00Z', distance: 1846, origin: 'SFO', destination: 'ORD' },
  { date: '2001-06-26T06:10:00Z', distance: 303, origin: 'OAK', destination: 'BUR' },
];

/** The last line of `--json`. */
export interface QuickstartReport {
  readonly run: string | null;
  readonly model: string | null;
  readonly version: number | null;
  readonly metrics: Readonly<Record<string, number>>;
  readonly endpoint: string;
  readonly prediction: PredictionAnswer;
  readonly seconds: number;
}

/** The package's own folder is the project, wherever the command is called from. */
async function quickstartConfig(): Promise<MillraceConfig> {
  const { loadProjectConfig } = await import('../config/load-project-config.ts');
  return loadProjectConfig({
    env: {
      ...process.env,
      MILLRACE_PROJECT: process.env['MILLRACE_PROJECT'] ?? packageRoot,
      MILLRACE_PIPELINES: process.env['MILLRACE_PIPELINES'] ?? join(packageRoot, 'pipelines'),
    },
  });
}

function resultOf(outcome: RunOutcome): {
  readonly model: string | null;
  readonly version: number | null;
  readonly metrics: Readonly<Record<string, number>>;
  readonly endpoint: string;
} {
  const result = (typeof outcome.result === 'object' && outcome.result !== null ? outcome.result : {}) as Readonly<Record<string, unknown>>;
  const { model, version, metrics, endpoint } = result;
  return {
    model: typeof model === 'string' ? model : null,
    version: typeof version === 'number' ? version : null,
    metrics: typeof metrics === 'object' && metrics !== null ? (metrics as Readonly<Record<string, number>>) : {},
    endpoint: typeof endpoint === 'string' ? endpoint : 'flight-delay',
  };
}

async function runAndAsk(
  clients: Clients,
  params: Readonly<Record<string, unknown>>,
  invocation: Invocation,
  startedMs: number,
  signal: AbortSignal,
): Promise<QuickstartReport | null> {
  const { terminal } = invocation;
  terminal.write(`\nRuns ${PIPELINE}: 3,000,000 real flights, from raw data to a served model.\n`);
  const started = await startRun(clients, { pipeline: PIPELINE, params, trigger: { kind: 'cli', reason: 'quickstart' } });
  // The live view is for people also when a machine reads the last line.
  const outcome = await followRun(await clients.temporal(), started, { ...invocation, json: false }, signal);
  if (outcome === null) return null;
  if (outcome.status !== 'completed') {
    if (outcome.error) throw MillraceError.fromReport(outcome.error);
    terminal.writeError(describeOutcome(outcome));
    invocation.exit(exitCodeOf(outcome));
    return null;
  }
  const result = resultOf(outcome);
  const prediction = await predict(clients.config, result.endpoint, FLIGHTS);
  return { run: outcome.run, ...result, prediction, seconds: (Date.now() - startedMs) / 1000 };
}

function describeReport(report: QuickstartReport, stack: RunningStack): string {
  const curl = `curl -s ${stack.urls.serving}/predict/${report.endpoint} -H 'content-type: application/json' -d '${JSON.stringify({ rows: FLIGHTS.slice(0, 1) })}'`;
  return [
    `\n${report.model ?? ''} version ${report.version ?? ''} answers at ${report.endpoint}: ${showMetrics(report.metrics)}\n\n`,
    ...FLIGHTS.map((flight, i) => `  ${JSON.stringify(flight)}\n    → ${JSON.stringify(report.prediction.predictions[i])}\n`),
    `\nAll of it took ${showDuration(report.seconds * 1000)}. Where to look:\n\n${describeUrls(stack.urls)}`,
    `\nAsk for a prediction:\n  ${curl}\nLook at the run:\n  npx millrace runs show ${report.run ?? ''}\n`,
  ].join('');
}

export function addQuickstartCommand(program: Program): void {
  addCommand(program, program.root, 'quickstart', 'start the stack, train on 3,000,000 real flights, deploy, and ask for a prediction')
    .option('--exit', 'stop the stack when done; exit code 0 only if all of it worked')
    .option('--set <name=value>', `a parameter of ${PIPELINE}; may be repeated`, collect)
    .action(async (options: { exit?: boolean; set?: readonly string[]; json?: boolean }) => {
      const startedMs = Date.now();
      const params = readParameters(options);
      const invocation = invocationOf(program, options);
      const { terminal } = invocation;
      const config = await quickstartConfig();
      const { startStack } = await import('../stack/stack.ts');
      const onEvent = (event: StackEvent): void => terminal.write(`${describeEvent(event)}\n`);
      const stack = await startStack({ config, onEvent });
      const leaving = new AbortController();
      void stack.stopped.then(() => leaving.abort());
      const interrupt = (): void => leaving.abort();
      process.once('SIGINT', interrupt);
      let report: QuickstartReport | null;
      try {
        report = await withClients((clients) => runAndAsk(clients, params, invocation, startedMs, leaving.signal), config);
        if (report !== null) terminal.write(describeReport(report, stack));
        if (report === null || options.exit === true) await stack.stop();
        else if (!invocation.json) terminal.write('\nThe stack stays up; Ctrl-C stops it.\n');
      } catch (error) {
        await stack.stop();
        throw error;
      } finally {
        process.off('SIGINT', interrupt);
      }
      if (report === null) {
        program.exit(1);
        return;
      }
      if (invocation.json) terminal.write(`${JSON.stringify(report)}\n`);
      await stack.stopped;
    });
}
