/** Policies over an excerpt of elec2 (every twelfth row of 45,312, in time order): real concept drift. */
import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import type { RawTable } from '../../../../contracts/columns.ts';
import { FeaturesSchema } from '../../../../contracts/features.ts';
import { PolicySchema, SimulationSchema } from '../../../../contracts/policy.ts';
import type { SimulatedPolicy, SimulationResult } from '../../../../contracts/simulation.ts';
import { blockEdges } from '../../../../ml/backtest/blocks.ts';
import { simulatePolicies } from '../../../../ml/backtest/simulate-policies.ts';

const DAY_MS = 86_400_000;
const BLOCKS = 20;
const NUMBERS = ['period', 'nswprice', 'nswdemand', 'vicprice', 'vicdemand', 'transfer'];

function elec2(): Map<string, Float64Array> {
  const [head = '', ...lines] = readFileSync(new URL('../../../fixtures/data/elec2-twelfth.csv', import.meta.url), 'utf8')
    .trim()
    .split('\n');
  const rows = lines.map((line) => line.split(',').map(Number));
  return new Map(head.split(',').map((name, at) => [name, Float64Array.from(rows, (row) => row[at] ?? Number.NaN)]));
}
const tableOf = (columns: ReadonlyMap<string, Float64Array>, times: readonly string[] = []): RawTable => ({
  rows: columns.get('class')?.length ?? 0,
  columns: new Map([...columns].map(([name, values]) => [name, { kind: times.includes(name) ? ('timestamp' as const) : ('number' as const), values }])),
});
const simulation = (more: object = {}) => ({
  ...SimulationSchema.parse({ blocks: { count: BLOCKS }, seed: 7, ...more }),
  target: 'class',
  features: FeaturesSchema.parse(Object.fromEntries(NUMBERS.map((name) => [name, { kind: 'numeric' }]))),
  trainer: { name: 'gbdt', parameters: { trees: 40, leaves: 15 } },
});
const policy = (given: object) => PolicySchema.parse(given);

const POLICIES = [
  policy({ name: 'static' }),
  policy({ name: 'every block', retrain: { every: 1 } }),
  policy({ name: 'every second', retrain: { every: 2 } }),
  policy({ name: 'every second, best', retrain: { every: 2 }, serve: { bestOf: 20 } }),
  policy({ name: 'on quality', retrain: { quality: { belowFresh: 0.03 } }, serve: { bestOf: 20 } }),
  policy({ name: 'on drift', train: { window: 'sinceChange', atLeastBlocks: 2 }, retrain: { drift: { kind: 'adwin', delta: 0.05 } } }),
  policy({ name: 'gated', retrain: { every: 2 }, gate: { worseBy: 0.02 } }),
  policy({ name: 'on features', retrain: { drift: 'calibrated' } }),
];

const find = ({ policies }: SimulationResult, name: string): SimulatedPolicy => policies.find((one) => one.name === name) as SimulatedPolicy;
/** What was decided up to the begin of a block, without what a clock measured. */
const decisions = ({ blocks, versions }: SimulatedPolicy, before = Number.POSITIVE_INFINITY) => ({
  blocks: blocks.filter(({ block }) => block < before),
  versions: versions
    .filter(({ block }) => block <= before)
    .map(({ version, block, fromRow, toRow, reasons, gate }) => ({ version, block, fromRow, toRow, reasons, gate })),
});

let result: SimulationResult;
let columns: Map<string, Float64Array>;
beforeAll(async () => {
  columns = elec2();
  result = await simulatePolicies({ table: tableOf(columns), simulation: simulation({ costPerHour: 3600 }), policies: POLICIES, hindsight: true });
}, 120_000);

describe('policies over drifting data', () => {
  it('are scored on every block that trained no first version, beside the rule that answers the last label', () => {
    expect(result).toMatchObject({ metric: 'accuracy', better: 'higher', rows: 3776, blocks: BLOCKS, firstScored: 3 });
    for (const { blocks } of result.policies) expect(blocks.map(({ block }) => block)).toEqual(Array.from({ length: 18 }, (_, i) => i + 3));
    const y = columns.get('class') ?? new Float64Array();
    const edges = blockEdges(y.length, { count: BLOCKS }, 2, undefined);
    const same = edges.slice(2, -1).map((from, i) => {
      const to = edges[i + 3] ?? 0;
      return y.subarray(from, to).filter((label, row) => label === y[from + row - 1]).length / (to - from);
    });
    expect(result.rules).toEqual([{ name: 'same as the last label', quality: expect.closeTo(same.reduce((a, b) => a + b) / same.length, 12) as number }]);
  });

  it('come in the order that drift asks for: never, now and then, always; and one that asks for quality does more with fewer', () => {
    const quality = (name: string): number => find(result, name).quality;
    expect(quality('static')).toBeLessThan(quality('every second'));
    expect(quality('every second')).toBeLessThan(quality('every block'));
    expect(quality('every second, best')).toBeGreaterThan(quality('every second'));
    expect(quality('on quality')).toBeGreaterThan(quality('every second'));
    expect(find(result, 'on quality').retrainings).toBeLessThan(find(result, 'every second').retrainings);
    expect(result.policies.map(({ retrainings }) => retrainings).slice(0, 4)).toEqual([0, 17, 8, 8]);
    expect(find(result, 'on drift').retrainings).toBeGreaterThan(0);
    expect(find(result, 'static')).toMatchObject({ cost: 0, switches: 0, trainingSeconds: 0 });
    const every = find(result, 'every block');
    expect(every.cost).toBeCloseTo(every.trainingSeconds + every.judgingSeconds, 9);
  });

  it('are bounded by the best timing in hindsight, which begins at static and ends at every block', () => {
    expect(result.hindsight.map(({ retrainings }) => retrainings)).toEqual(Array.from({ length: 18 }, (_, i) => i));
    expect(result.hindsight[0]?.quality).toBeCloseTo(find(result, 'static').quality, 12);
    expect(result.hindsight[17]?.quality).toBeCloseTo(find(result, 'every block').quality, 12);
    expect(result.hindsight[8]?.quality).toBeGreaterThanOrEqual(find(result, 'every second').quality);
  });

  it('say which versions the gate blocked, why, and what they would have done', () => {
    const gated = find(result, 'gated');
    expect(gated.blocked.length).toBeGreaterThan(0);
    for (const number of gated.blocked) {
      const version = gated.versions[number - 1];
      expect(version?.gate).toMatchObject({
        passed: false,
        enforced: true,
        because: expect.stringMatching(/accuracy .* beside .* of the version that served/) as string,
      });
      expect(gated.blocks.some((block) => block.version === number)).toBe(false);
      expect(version?.next?.value).toBeTypeOf('number');
    }
    // what judges a version trained none
    const edges = blockEdges(3776, { count: BLOCKS }, 2, undefined);
    for (const { block, toRow, gate } of gated.versions.slice(1))
      expect(gate === null ? 0 : (edges[block - 1] ?? 0) - toRow).toBe(Math.floor(((edges[block - 1] ?? 0) - (edges[block - 3] ?? 0)) * 0.1));
  });

  it('decide the same again, and alone as among others', async () => {
    const again = await simulatePolicies({
      table: tableOf(columns),
      simulation: simulation(),
      policies: POLICIES.slice(4, 5),
    });
    expect(decisions(find(again, 'on quality'))).toEqual(decisions(find(result, 'on quality')));
    expect(find(again, 'on quality')).toMatchObject({ cost: null, quality: find(result, 'on quality').quality });
  });

  it.each([9, 15])('see nothing of the future: other rows from block %i on change nothing before', async (block) => {
    const from = Math.floor((3776 * (block - 1)) / BLOCKS);
    const other = new Map(
      [...columns].map(([name, values]) => [
        name,
        Float64Array.from(values, (value, row) => (row < from ? value : name === 'class' ? 1 - value : 1 - value / 2)),
      ]),
    );
    const changed = await simulatePolicies({ table: tableOf(other), simulation: simulation(), policies: POLICIES.slice(3) });
    for (const { name } of POLICIES.slice(3)) expect(decisions(find(changed, name), block)).toEqual(decisions(find(result, name), block));
  });
});

describe('drift of features', () => {
  // rows of one kind, in any order, until from the eleventh block on a price is in another unit
  const ORDER = Float64Array.from({ length: 3776 }, (_, row) => (row * 1_009) % 3776);
  const shifted = (): Map<string, Float64Array> =>
    new Map(
      [...columns].map(([name, values]) => {
        const mixed = Float64Array.from(ORDER, (row) => values[row] ?? Number.NaN);
        return [name, name === 'nswprice' ? mixed.map((value, row) => (row < Math.floor((3776 * 10) / BLOCKS) ? value : value * 3)) : mixed];
      }),
    );
  const replayed = (policies: readonly object[], more: object = {}) =>
    simulatePolicies({ table: tableOf(shifted()), simulation: simulation(more), policies: policies.map(policy) });

  it('asks once the block in which it began has ended, by the name of the column, and is over with the version that knows the new values', async () => {
    const found = await replayed([
      { name: 'calibrated', train: { window: 'sliding', blocks: 1 }, retrain: { drift: 'calibrated' } },
      { name: 'settings', train: { window: 'sliding', blocks: 1 }, retrain: { drift: { calibrated: { leastEffect: { psi: 0.2 }, windowsInARow: 2 } } } },
      { name: 'fixed', train: { window: 'sliding', blocks: 1 }, retrain: { drift: { psi: 0.5 } } },
      { name: 'fixed, twice', train: { window: 'sliding', blocks: 1 }, retrain: { drift: { psi: 0.5, windows: 2 } } },
      { name: 'elsewhere', retrain: { drift: { psi: 0.5, except: ['nswprice'] } } },
    ]);
    const begun = (name: string) => find(found, name).versions.map(({ block }) => block);
    expect(begun('calibrated')).toEqual([3, 12]);
    expect(begun('settings')).toEqual([3, 13]);
    expect(begun('fixed')).toEqual([3, 12]);
    expect(begun('fixed, twice')).toEqual([3, 13]);
    expect(begun('elsewhere')).toEqual([3]);
    expect(find(found, 'calibrated').versions[1]?.reasons).toEqual([expect.stringMatching(/^drift of nswprice: PSI \d/) as string]);
    expect(find(found, 'fixed, twice').versions[1]?.reasons).toEqual([
      expect.stringMatching(/^drift of nswprice: PSI \d\.\d{3} over 0\.5 in 2 blocks in a row$/) as string,
    ]);
  });

  it('waits for no labels', async () => {
    const found = await replayed([{ name: 'fixed', retrain: { drift: { psi: 0.5 } } }], { labelDelayBlocks: 4 });
    expect(find(found, 'fixed').versions[1]?.block).toBe(12);
  });

  it('is of no block with fewer rows than decide anything', async () => {
    const found = await replayed([{ name: 'many', retrain: { drift: { calibrated: { leastRows: 1_000 } } } }]);
    expect(find(found, 'many').retrainings).toBe(0);
  });
});

describe('labels that come late', () => {
  it('move windows and reasons back by their delay', async () => {
    const late = await simulatePolicies({
      table: tableOf(columns),
      simulation: simulation({ labelDelayBlocks: 3 }),
      policies: [
        policy({ name: 'every third', retrain: { every: 3 } }),
        policy({ name: 'quality', retrain: { quality: { below: 0.75 } }, serve: { bestOf: 5 } }),
      ],
    });
    const edges = blockEdges(3776, { count: BLOCKS }, 2, undefined);
    const [, , second, third] = find(late, 'every third').versions;
    expect(second).toMatchObject({ block: 9, fromRow: edges[3], toRow: edges[5] });
    expect(third).toMatchObject({ block: 12, fromRow: edges[6], toRow: edges[8] });
    // the third block is the first that was served, and is known three blocks after its end
    expect(
      find(late, 'quality')
        .versions.slice(1)
        .every(({ block }) => block >= 7),
    ).toBe(true);
  });
});

describe("the pipeline's own controller", () => {
  it('holds retrainings back in simulated time: cool-down, budget, conditions that go on', async () => {
    const limited = await simulatePolicies({
      table: tableOf(columns),
      simulation: simulation(),
      policies: [
        policy({ name: 'cooled', retrain: { every: 1 }, controller: { coolDownMs: 4 * DAY_MS } }),
        policy({ name: 'unhappy', retrain: { quality: { below: 2 } }, controller: { refireAfterMs: 6 * DAY_MS } }),
      ],
    });
    expect(find(limited, 'cooled').versions.map(({ block }) => block)).toEqual([3, 4, 8, 12, 16, 20]);
    expect(find(limited, 'cooled').blocks[2]?.held).toEqual([expect.stringMatching(/^every block: cool-down$/)]);
    expect(find(limited, 'unhappy').versions.map(({ block }) => block)).toEqual([3, 4, 10, 16]);
    expect(find(limited, 'unhappy').blocks[2]?.held[0]).toContain('has not recovered since');
  });
});

describe('blocks', () => {
  it('are of a number, of rows or of hours, in the order of time', async () => {
    expect(blockEdges(10, { count: 4 }, 1, undefined)).toEqual([0, 2, 5, 7, 10]);
    expect(blockEdges(10, { rows: 3 }, 1, undefined)).toEqual([0, 3, 6, 9]);
    const times = Float64Array.from([0, 1, 2, 24, 25, 96, 97, 120], (hour) => hour * 3_600_000);
    expect(blockEdges(8, { hours: 24 }, 1, times)).toEqual([0, 3, 5, 7]);
    expect(() => blockEdges(10, { rows: 6 }, 1, undefined)).toThrow('make 1 blocks');
    // rows that lie in another order than their time are replayed in time
    const rows = 3776;
    const order = Float64Array.from({ length: rows }, (_, row) => (row % 2 === 0 ? row / 2 : rows / 2 + (row - 1) / 2));
    const mixed = new Map([...columns].map(([name, values]) => [name, Float64Array.from(order, (row) => values[row] ?? 0)]));
    mixed.set(
      'at',
      order.map((row) => row * 1_800_000),
    );
    const replayed = await simulatePolicies({
      table: tableOf(mixed, ['at']),
      simulation: simulation({ time: 'at' }),
      policies: POLICIES.slice(0, 1),
    });
    expect(find(replayed, 'static').quality).toBeCloseTo(find(result, 'static').quality, 12);
    expect(find(replayed, 'static').blocks[0]?.at).toBe(new Date(Math.floor((rows * 2) / 20) * 1_800_000).toISOString());
  });
});

describe('what cannot be replayed', () => {
  const run = (more: object, policies = POLICIES.slice(0, 1)) =>
    simulatePolicies({ table: tableOf(columns), simulation: { ...simulation(), ...more }, policies });
  it('is refused with what is wrong', async () => {
    await expect(run({ metric: 'rmse' })).rejects.toMatchObject({ code: 'INVALID_PARAMETERS', problems: [{ path: 'simulation.metric' }] });
    await expect(run({ time: 'period' })).rejects.toMatchObject({ code: 'COLUMN_TYPE' });
    await expect(run({ blocks: { hours: 24 } })).rejects.toMatchObject({ problems: [{ path: 'simulation.time' }] });
    await expect(run({ target: 'nswprice', task: 'regression' }, [policy({ name: 'a', retrain: { drift: { kind: 'ddm' } } })])).rejects.toThrow(
      'ddm counts wrong answers',
    );
  });
});
