import { PolicySchema, type Policy, SimulationSchema } from '../contracts/policy.ts';
import type { SimulatedPolicy, SimulationResult } from '../contracts/simulation.ts';
import { MillraceError } from '../contracts/errors.ts';
import { withClients } from './clients.ts';
import { addCommand, collect, invocationOf, print, type Program } from './command.ts';
import { parseCount, parseInstant } from './duration.ts';
import { progressBar } from './live-view.ts';
import { readPolicyFiles } from './read-policies.ts';
import { renderTable, showFigure } from './table.ts';
import type { Terminal } from './terminal.ts';
import { writePage } from './write-page.ts';

interface Options {
  readonly json?: boolean;
  readonly policy: readonly string[];
  readonly compare?: boolean;
  readonly data?: string;
  readonly endpoint?: string;
  readonly target?: string;
  readonly time?: string;
  readonly blocks?: string;
  readonly start?: string;
  readonly from?: string;
  readonly to?: string;
  readonly seed?: string;
  readonly threads: string;
  readonly out?: string;
  readonly open?: boolean;
}

const PERIODS = [1, 2, 3, 4, 6, 8];

/** Policies beside which others are seen: never, and every so many blocks, on the window and with the service of the first that is given. */
function comparedWith(given: readonly Policy[]): readonly Policy[] {
  const train = given[0]?.train;
  const like = (name: string, retrain: object): Policy => PolicySchema.parse({ name, retrain, ...(train === undefined ? {} : { train }) });
  return [like('static', {}), ...PERIODS.map((every) => like(every === 1 ? 'every block' : `every ${String(every)} blocks`, { every }))].filter(
    ({ name }) => !given.some((policy) => policy.name === name),
  );
}

const figure = (value: number): string => showFigure(Number(value.toFixed(4)));

function costText({ cost, trainingSeconds }: SimulatedPolicy, currency: string | null): string {
  return cost === null ? `${trainingSeconds.toFixed(1)} s` : `${cost.toPrecision(3)}${currency === null ? '' : ` ${currency}`}`;
}

/** The table of policies, and below it what gates blocked. */
function describeResult(result: SimulationResult, told: string, currency: string | null): string {
  const { metric, policies, rules, hindsight, firstScored, blocks, rows } = result;
  const table = renderTable(
    ['policy', metric, 'worst block', 'retrainings', 'switches', 'cost', 'blocked'],
    [
      ...policies.map((policy) => [
        policy.name,
        figure(policy.quality),
        figure(policy.worst),
        String(policy.retrainings),
        String(policy.switches),
        costText(policy, currency),
        policy.blocked.length === 0 ? '' : policy.blocked.map((version) => `v${String(version)}`).join(' '),
      ]),
      ...rules.map(({ name, quality }) => [`rule: ${name}`, figure(quality), '', '', '', '', '']),
    ],
  );
  const gates = policies.flatMap(({ name, versions }) =>
    versions.flatMap(({ version, block, gate, next }) =>
      gate === null || gate.passed
        ? []
        : [
            `${name}: the gate ${gate.enforced ? 'blocked' : 'would have blocked'} v${String(version)} at block ${String(block)} (${gate.because})${next === null ? '' : `; in that block ${figure(next.value)} beside ${figure(next.served)} of the version that served`}\n`,
          ],
    ),
  );
  const timing =
    hindsight.length === 0
      ? ''
      : `Best timing in hindsight: ${hindsight.map(({ retrainings, quality }) => `${figure(quality)} with ${String(retrainings)}`).join(', ')}\n`;
  return `${told}: ${rows.toLocaleString('en')} rows in ${String(blocks)} blocks, scored on ${String(firstScored)} to ${String(blocks)}\n${table}${gates.join('')}${timing}`;
}

/** A line that is written over while work goes on; nothing where nobody looks. */
function progressLine(terminal: Terminal, json: boolean): { show(fraction: number, what: string): void; end(): void } {
  if (json || !terminal.isInteractive) return { show: () => undefined, end: () => undefined };
  return {
    show: (fraction, what) => {
      terminal.writeError(`\r\u001b[K${progressBar(fraction)}  ${what}`);
    },
    end: () => {
      terminal.writeError('\r\u001b[K');
    },
  };
}

/** `millrace simulate`: which policy of retraining would have been best. */
export function addSimulateCommand(program: Program): void {
  addCommand(
    program,
    program.root,
    'simulate <pipeline>',
    'replay policies of retraining over historic data: quality over time, retrainings, cost, and what gates would have blocked',
  )
    .requiredOption('--policy <file>', 'policies to replay, as JSON or a TypeScript module; may be given more than once', collect)
    .option('--compare', 'also replay no retraining and one every 1, 2, 3, 4, 6 and 8 blocks, and tell the best timing in hindsight')
    .option('--data <file>', 'a file, or the name or id of a dataset; default: what the last run was split from')
    .option('--endpoint <name>', 'in place of data: what this endpoint was asked, with the labels that came since')
    .option('--target <column>', "what is predicted; default: the last run's")
    .option('--time <column>', 'the column that orders the rows; default: the order in which they lie')
    .option('--blocks <count>', 'blocks that the rows make (default: 20)')
    .option('--start <blocks>', 'blocks that the first version is trained on (default: 2)')
    .option('--from <time>', 'rows at this time and later')
    .option('--to <time>', 'rows before this time')
    .option('--seed <number>', 'of the trainings (default: 0)')
    .option('--threads <count>', 'threads of a training', '1')
    .option('--out <file>', 'write a page with plots to this file')
    .option('--open', 'open the page')
    .action(async (pipeline: string, options: Options) => {
      const invocation = invocationOf(program, options);
      const { policies, simulation: said } = await readPolicyFiles(options.policy);
      if (options.data !== undefined && options.endpoint !== undefined)
        throw new MillraceError('USAGE', '--data and --endpoint exclude each other.', { fix: 'Give one of them.' });
      const simulation = SimulationSchema.parse({
        ...said,
        ...(options.target === undefined ? {} : { target: options.target }),
        ...(options.time === undefined ? {} : { time: options.time }),
        ...(options.blocks === undefined ? {} : { blocks: { count: Math.max(3, parseCount('--blocks', options.blocks)) } }),
        ...(options.start === undefined ? {} : { start: parseCount('--start', options.start) }),
        ...(options.seed === undefined ? {} : { seed: options.seed === '0' ? 0 : parseCount('--seed', options.seed) }),
      });
      await withClients(async (clients) => {
        const { rates } = clients.config;
        const [{ simulatedData }, { simulatePolicies }] = await Promise.all([import('./simulated-data.ts'), import('../ml/backtest/simulate-policies.ts')]);
        const data = await simulatedData(clients, {
          pipeline,
          simulation,
          ...(options.data === undefined ? {} : { data: options.data }),
          ...(options.endpoint === undefined ? {} : { endpoint: options.endpoint }),
          ...(options.from === undefined ? {} : { from: parseInstant('--from', options.from) }),
          ...(options.to === undefined ? {} : { to: parseInstant('--to', options.to) }),
        });
        const line = progressLine(program.terminal, invocation.json);
        const threads = parseCount('--threads', options.threads);
        // rates without a currency are none
        const costPerHour = simulation.costPerHour ?? (rates.currency === undefined ? undefined : rates.cpuHour * threads);
        const result = await simulatePolicies({
          table: data.table,
          simulation: { ...data.simulation, ...(costPerHour === undefined ? {} : { costPerHour }) },
          policies: options.compare === true ? [...comparedWith(policies), ...policies] : policies,
          hindsight: options.compare === true,
          threads,
          onProgress: (fraction, name) => {
            line.show(fraction, name);
          },
        }).finally(() => {
          line.end();
        });
        const told = `${data.told}${data.unlabelled === 0 ? '' : ` (${String(data.unlabelled)} rows without a label left out)`}`;
        let page: string | null = null;
        if (options.out !== undefined || options.open === true) {
          const { simulationPage } = await import('../reports/simulation-page.ts');
          page = await writePage(await simulationPage(result, { pipeline, told, currency: rates.currency ?? null }), options, `${pipeline}-simulation.html`);
        }
        print(invocation, { ...result, page }, () => `${describeResult(result, told, rates.currency ?? null)}${page === null ? '' : `${page}\n`}`);
      });
    });
}
