import type { RawTable } from '../../contracts/columns.ts';
import { MillraceError } from '../../contracts/errors.ts';
import { type Features, featureColumns } from '../../contracts/features.ts';
import type { Policy, Simulation } from '../../contracts/policy.ts';
import type { SimulationResult } from '../../contracts/simulation.ts';
import { higherIsBetter } from '../metrics.ts';
import type { EncodedTarget } from '../target.ts';
import { driftOfRows, type TableReference, tableReference } from '../drift/table-drift.ts';
import { blockEdges, takeRows } from './blocks.ts';
import { isOfFeatures, type Replay, replayPolicy } from './replay-policy.ts';
import { betterBy, certain, createVersions, type TrainedVersion, type Versions } from './versions.ts';

export interface SimulatePoliciesInput {
  /** Every row has its target. */
  readonly table: RawTable;
  readonly simulation: Omit<Simulation, 'trainer'> & {
    readonly target: string;
    readonly features: Features;
    readonly trainer: { readonly name: string; readonly parameters?: unknown };
  };
  readonly policies: readonly Policy[];
  /** Also the best timing in hindsight: trains at every block on the window of the first policy that has a sliding one. Default false. */
  readonly hindsight?: boolean;
  /** Threads of the trainer. Default 1. */
  readonly threads?: number;
  /** Share of the work that is done, 0 … 1, and the policy at work. */
  readonly onProgress?: (fraction: number, policy: string) => void;
  readonly signal?: AbortSignal;
}

/** Its work grows with the third power of the blocks. */
const MOST_HINDSIGHT_BLOCKS = 200;

/**
 * Replays each policy over the same rows in simulated time: block after block decides it whether to train, on what, and which
 * version serves; each block's rows then judge that. The same rows, policies and seed give the same decisions and figures,
 * seconds apart. Keeps the thread busy while it trains; between blocks the event loop has a turn.
 * @throws INVALID_PARAMETERS, COLUMN_MISSING, COLUMN_TYPE, FEATURES_INVALID, TARGET_INVALID; the signal's reason when aborted
 */
export async function simulatePolicies(input: SimulatePoliciesInput): Promise<SimulationResult> {
  const { simulation, policies, threads = 1, hindsight = false, onProgress, signal } = input;
  const { target, features, trainer, task = 'auto', blocks, start, seed, labelDelayBlocks, costPerHour } = simulation;
  const ordered = inTimeOrder(input.table, simulation.time);
  const { table, timesMs } = ordered;
  const edges = blockEdges(table.rows, blocks, start, timesMs);
  const versions = createVersions({ table, target, task, features, trainer, metric: simulation.metric, seed, threads });
  const { metric } = versions;
  refuseDetectors(policies, versions.encoded);
  const scored = edges.length - 1 - start;
  const drift = driftMeter(table, featureColumns(features));
  const steps = scored * (policies.length + (hindsight && scored <= MOST_HINDSIGHT_BLOCKS ? 1 : 0));
  let done = 0;
  const replay = (name: string): Replay => ({
    versions,
    metric,
    edges,
    start,
    labelDelayBlocks,
    at: (row) => (timesMs === undefined ? null : new Date(timesMs[row] ?? 0).toISOString()),
    costPerHour: costPerHour ?? null,
    drift,
    onBlock: async () => {
      signal?.throwIfAborted();
      onProgress?.(done++ / steps, name);
      await new Promise((turn) => setImmediate(turn));
    },
  });
  const simulated = [];
  for (const policy of policies) simulated.push(await replayPolicy(policy, replay(policy.name)));
  const timing = hindsight && scored <= MOST_HINDSIGHT_BLOCKS ? await bestTiming(replay('best timing in hindsight'), slidingBlocks(policies)) : [];
  onProgress?.(1, '');
  return {
    metric,
    better: higherIsBetter(metric) ? 'higher' : 'lower',
    rows: table.rows,
    blocks: edges.length - 1,
    firstScored: start + 1,
    seed,
    rules: lastLabelRule(versions, edges, start),
    policies: simulated,
    hindsight: timing,
  };
}

function inTimeOrder(table: RawTable, time: string | undefined): { readonly table: RawTable; readonly timesMs: Float64Array | undefined } {
  if (time === undefined) return { table, timesMs: undefined };
  const column = table.columns.get(time);
  if (column?.kind !== 'timestamp') {
    throw new MillraceError(column === undefined ? 'COLUMN_MISSING' : 'COLUMN_TYPE', `The rows cannot be ordered by ${time}.`, {
      problems: [
        {
          path: 'simulation.time',
          column: time,
          message: column === undefined ? 'is not in the data' : 'is no column of times',
          fix: 'Name a column of times or dates, or leave it out: rows then go in their order.',
        },
      ],
    });
  }
  const { values } = column;
  const missing = values.reduce((count, value) => count + (Number.isNaN(value) ? 1 : 0), 0);
  if (missing > 0) {
    throw new MillraceError('COLUMN_TYPE', `${String(missing)} rows have no ${time}.`, {
      problems: [{ path: 'simulation.time', column: time, message: 'is missing in some rows' }],
    });
  }
  // rows of one instant stay in their order
  const order = Uint32Array.from(values.keys()).sort((a, b) => (values[a] ?? 0) - (values[b] ?? 0) || a - b);
  return { table: takeRows(table, order), timesMs: Float64Array.from(order, (row) => values[row] ?? 0) };
}

/** Rows of the table against those that trained a version, which are read once for all policies. */
function driftMeter(table: RawTable, columns: readonly string[]): Replay['drift'] {
  const references = new Map<string, TableReference>();
  return ({ key, fromRow, toRow }, from, to) => {
    const reference = references.get(key) ?? tableReference(table, columns, fromRow, toRow);
    references.set(key, reference);
    return driftOfRows(reference, from, to);
  };
}

/** DDM counts wrong answers: values have none. */
function refuseDetectors(policies: readonly Policy[], { classes }: EncodedTarget): void {
  const wrong = policies.filter(({ retrain: { drift } }) => classes === undefined && drift !== undefined && !isOfFeatures(drift) && drift.kind === 'ddm');
  if (wrong.length === 0) return;
  throw new MillraceError('INVALID_PARAMETERS', 'The detector ddm counts wrong answers, and this target is a value.', {
    problems: wrong.map(({ name }) => ({ path: `${name}.retrain.drift.kind`, message: 'is for classes', fix: 'Use adwin, pageHinkley or kswin.' })),
  });
}

/** Each row is answered with the label of the row before it: what a change of policy has to be worth beside that. */
function lastLabelRule(versions: Versions, edges: readonly number[], start: number): SimulationResult['rules'] {
  const { encoded } = versions;
  const values: number[] = [];
  for (let block = start; block < edges.length - 1; block++) {
    const [from = 0, to = 0] = [edges[block], edges[block + 1]];
    values.push(versions.judged(certain(encoded, encoded.y.subarray(from - 1, to - 1)), from, to));
  }
  const known = values.filter(Number.isFinite);
  return known.length === 0 ? [] : [{ name: 'same as the last label', quality: known.reduce((sum, value) => sum + value, 0) / known.length }];
}

const slidingBlocks = (policies: readonly Policy[]): number => policies.flatMap(({ train }) => (train.window === 'sliding' ? train.blocks : []))[0] ?? 2;

/** The most that any choice of blocks to retrain at would have given, by dynamic programming over all versions and blocks. */
async function bestTiming({ versions, metric, edges, start, labelDelayBlocks, onBlock }: Replay, windowBlocks: number): Promise<SimulationResult['hindsight']> {
  const last = edges.length - 1;
  const edge = (block: number): number => edges[block] ?? 0;
  // best[r].get(v): the greatest sum so far with r retrainings where the version of block v serves
  let best: ReadonlyMap<TrainedVersion, number>[] = [];
  for (let block = start; block < last; block++) {
    await onBlock(block);
    const known = block === start ? start : Math.max(start, block - labelDelayBlocks);
    const fresh = await versions.train(edge(Math.max(0, known - windowBlocks)), edge(known));
    const value = (version: TrainedVersion): number => versions.quality(version, edge(block), edge(block + 1));
    const next: Map<TrainedVersion, number>[] = best.map((of) => new Map([...of].map(([version, sum]) => [version, sum + value(version)])));
    if (block === start) next[0] = new Map([[fresh, value(fresh)]]);
    else
      best.forEach((of, retrainings) => {
        const sums = [...of.values()];
        const sum = sums.reduce((most, one) => (betterBy(metric, one, most) ? one : most)) + value(fresh);
        const there = (next[retrainings + 1] ??= new Map<TrainedVersion, number>());
        const before = there.get(fresh);
        if (before === undefined || betterBy(metric, sum, before)) there.set(fresh, sum);
      });
    best = next;
  }
  return best.map((of, retrainings) => ({
    retrainings,
    quality: [...of.values()].reduce((most, sum) => (betterBy(metric, most, sum) ? most : sum)) / (last - start),
  }));
}
