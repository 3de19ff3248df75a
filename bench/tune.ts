import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Client, Connection } from '@temporalio/client';
import { loadConfig, PORT_VARIABLES } from '../config/config.ts';
import { packageRoot } from '../config/package-root.ts';
import { WORKFLOW_QUEUE } from '../contracts/queues.ts';
import { createRandom } from '../ml/random.ts';
import type { Observation } from '../ml/search/parameters.ts';
import { compileSpace } from '../ml/search/space.ts';
import { suggestTrial } from '../ml/search/suggest.ts';
import { freePort } from '../stack/ports.ts';
import { startStack } from '../stack/stack.ts';
import { type Benchmark, type BenchmarkOptions, summarise } from './figure.ts';
import { ensurePythonEnvironment } from './python-environment.ts';
import { adultProblem, FUNCTIONS, type Problem } from './tune-problems.ts';

const REQUIREMENTS = ['optuna==4.5.0'];
const TRIALS = 100;
const SEEDS = 30;
/** Not worse means: by no more than this share of what random search is behind the least value, at the 95 % level. */
const MARGIN_SHARE = 0.15;
const RESAMPLES = 10_000;
const OVERHEAD_BAR_MS = 50;

/** Asks for values, hears what they are worth: the objective is computed by this process for both. */
const OPTUNA_SCRIPT = `
import json, sys, optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)
for line in sys.stdin:
    task = json.loads(line)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=task["seed"]))
    for _ in range(task["trials"]):
        trial = study.ask()
        values = {}
        for name, d in task["space"].items():
            if d["dimension"] == "int": values[name] = trial.suggest_int(name, d["low"], d["high"], log=d["log"])
            elif d["dimension"] == "choice": values[name] = trial.suggest_categorical(name, d["options"])
            else: values[name] = trial.suggest_float(name, d["low"], d["high"], log=d["dimension"] == "logUniform")
        print(json.dumps(values), flush=True)
        study.tell(trial, float(sys.stdin.readline()))
`;

/** TPE against Optuna's on three functions and Adult; and what a trial costs beside its training. */
export const benchmark: Benchmark = {
  name: 'tune',
  summary: "TPE at 100 trials against Optuna's TPE on three functions and on Adult, and the engine's cost of a trial",
  run: async (options) => {
    const adult = await adultProblem();
    const python = await ensurePythonEnvironment('optuna', REQUIREMENTS);
    for (const problem of adult === undefined ? FUNCTIONS : [...FUNCTIONS, adult]) await compare(problem, python, options);
    await overhead(options);
  },
};

async function compare(problem: Problem, python: string, { quick, emit }: BenchmarkOptions): Promise<void> {
  const seeds = Array.from({ length: quick ? 5 : SEEDS }, (_, seed) => seed);
  const search = async (method: 'tpe' | 'random', seed: number): Promise<number> => {
    const { parameters } = compileSpace({ trainer: { name: 'gbdt', parameters: {} }, features: {}, space: problem.space }, { method });
    const observations: Observation[] = [];
    for (let trial = 1; trial <= TRIALS; trial++) {
      const values = suggestTrial({ parameters, search: { method }, seed, direction: 'minimize', trial, observations, pending: [] }) ?? {};
      const value = await problem.objective(values as Readonly<Record<string, number>>);
      observations.push({ values, state: 'completed', value, rungs: [] });
    }
    return Math.min(...observations.map(({ value }) => value ?? Infinity));
  };
  const ours: number[] = [];
  const random: number[] = [];
  for (const seed of seeds) ours.push(await search('tpe', seed));
  for (const seed of seeds) random.push(await search('random', seed));
  const theirs = await searchByOptuna(problem, python, seeds);
  const least = problem.least ?? Math.min(...ours, ...theirs, ...random);
  const regret = (bests: readonly number[]): number[] => bests.map((best) => best - least);
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [mine, peer] = [mean(regret(ours)), mean(regret(theirs))];
  const margin = MARGIN_SHARE * mean(regret(random));
  const { n, min, max } = summarise(regret(ours));
  const shared = { bench: 'tune', variant: problem.name, n, ...(quick ? { quick } : {}) };
  emit({ ...shared, metric: 'best', value: mine, unit: 'above the least', min, max, peer: 'optuna', peerValue: peer, ratio: mine / peer, better: 'lower' });
  // one-sided: 95 % of the differences of resampled means lie below
  const generator = createRandom(1);
  const resampled = (values: readonly number[]): number => mean(values.map(() => values[generator.below(values.length)] ?? 0));
  const differences = Array.from({ length: RESAMPLES }, () => resampled(regret(ours)) - resampled(regret(theirs))).sort((a, b) => a - b);
  const [low = 0, high = 0] = [differences[Math.floor(0.05 * RESAMPLES)], differences[Math.floor(0.95 * RESAMPLES)]];
  emit({ ...shared, metric: 'behind_optuna', value: high / margin, unit: 'margins', min: low / margin, max: high / margin, better: 'lower', bar: 1 });
}

async function searchByOptuna(problem: Problem, python: string, seeds: readonly number[]): Promise<readonly number[]> {
  const child = spawn(python, ['-u', '-c', OPTUNA_SCRIPT], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const bests: number[] = [];
  for (const seed of seeds) {
    child.stdin.write(`${JSON.stringify({ seed, trials: TRIALS, space: problem.space })}\n`);
    let best = Infinity;
    for (let trial = 0; trial < TRIALS; trial++) {
      const asked = await lines.next();
      if (asked.done === true) throw new Error('Optuna ended before its trials.');
      const value = await problem.objective(JSON.parse(asked.value) as Readonly<Record<string, number>>);
      best = Math.min(best, value);
      child.stdin.write(`${String(value)}\n`);
    }
    bests.push(best);
  }
  child.stdin.end();
  await once(child, 'exit');
  return bests;
}

/** The second run of the same search takes each training from the cache: what it takes is the engine's. */
async function overhead({ quick, emit }: BenchmarkOptions): Promise<void> {
  const home = await mkdtemp(join(tmpdir(), 'millrace-bench-'));
  const ports = await Promise.all(Object.values(PORT_VARIABLES).map(async ({ variable }) => [variable, String(await freePort())] as const));
  const config = loadConfig({ cwd: join(packageRoot, 'bench', 'tune-project'), env: { ...process.env, MILLRACE_HOME: home, ...Object.fromEntries(ports) } });
  const stack = await startStack({ config, parts: ['postgres', 'temporal', 'orchestrator', 'cpu-worker'] });
  const connection = await Connection.connect({ address: config.temporal.address });
  try {
    const client = new Client({ connection, namespace: config.temporal.namespace });
    const run = async (trials: number): Promise<number> => {
      const started = performance.now();
      await client.workflow.execute('searchFlights', { workflowId: `search-${randomBytes(6).toString('hex')}`, taskQueue: WORKFLOW_QUEUE, args: [{ trials }] });
      return performance.now() - started;
    };
    await run(TRIALS);
    await run(1);
    const perTrial: number[] = [];
    for (let i = 0; i < (quick ? 3 : 10); i++) {
      const one = await run(1);
      perTrial.push(((await run(TRIALS)) - one) / (TRIALS - 1));
    }
    emit({
      bench: 'tune',
      metric: 'overhead_ms',
      unit: 'ms a trial',
      ...summarise(perTrial),
      better: 'lower',
      bar: OVERHEAD_BAR_MS,
      ...(quick ? { quick } : {}),
    });
  } finally {
    await connection.close();
    await stack.stop();
    await rm(home, { recursive: true, force: true });
  }
}
