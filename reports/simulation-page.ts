import type { SimulatedPolicy, SimulationResult } from '../contracts/simulation.ts';
import { factsList, pageFrame } from './report-frame.ts';
import { drawn, NUMBER_LABEL, PLOT_COLOURS, type Spec } from './report-plots.ts';
import { count, escaped, figure } from './report-text.ts';

export interface SimulationPageFacts {
  readonly pipeline: string;
  /** What was replayed. */
  readonly told: string;
  readonly currency: string | null;
}

/** Policies beyond these are in the tables only. */
const DRAWN_POLICIES = 60;
const DRAWN_GATES = 500;
const CURVE_WIDTH = 720;
const CURVE_HEIGHT = 380;
const CARD_WIDTH = 340;
const CARD_HEIGHT = 130;

const axis = { grid: true, tickCount: 5, labelExpr: NUMBER_LABEL, domain: false, ticks: false, labelPadding: 6 } as const;

/** A page that answers which policy would have been best: the curve of quality against retrainings, each policy over time, and what gates blocked. */
export async function simulationPage(result: SimulationResult, facts: SimulationPageFacts): Promise<string> {
  const { policies, metric, rows, blocks, firstScored } = result;
  const best = policies.reduce((a, b) => (isBetter(result, b.quality, a.quality) ? b : a));
  const shown = policies.slice(0, DRAWN_POLICIES);
  const cards: string[] = [];
  for (const policy of shown) cards.push(await policyCard(policy, result));
  const body = [
    `<h1>Policies of retraining: ${escaped(facts.pipeline)}</h1>`,
    `<p>${escaped(facts.told)}, replayed in simulated time. A policy decides where a block begins, from what was known then; the rows of the block judge it.</p>`,
    factsList([
      ['best policy', escaped(best.name)],
      [escaped(metric), figure(best.quality)],
      ['retrainings', String(best.retrainings)],
      ['rows', count(rows)],
      ['blocks scored', `${String(firstScored)} to ${String(blocks)}`],
    ]),
    '<h2>Quality against the number of retrainings</h2>',
    await curvePlot(result),
    legend(result),
    '<h2>Policies</h2>',
    policiesTable(result, facts.currency),
    '<h2>Quality over time</h2>',
    `<p class="soft">A dot is a retraining. The grey line is ${escaped(policies[0]?.name ?? '')}.</p><div class="cards">${cards.join('')}</div>`,
    policies.length > shown.length ? `<p class="soft">${String(policies.length - shown.length)} more policies are in the table.</p>` : '',
    gatesTable(result),
  ];
  return pageFrame(`Policies of retraining: ${facts.pipeline}`, body.join('\n'));
}

const isBetter = ({ better }: SimulationResult, a: number, b: number): boolean => (better === 'higher' ? a > b : a < b);

async function curvePlot({ metric, policies, rules, hindsight }: SimulationResult): Promise<string> {
  const points = policies.map(({ name, quality, retrainings }) => ({ name, quality, retrainings }));
  const values = [...points, ...hindsight, ...rules].map(({ quality }) => quality).filter(Number.isFinite);
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const room = (most - least) * 0.06 || 0.01;
  const widest = Math.max(1, ...points.map(({ retrainings }) => retrainings), ...hindsight.map(({ retrainings }) => retrainings));
  const x = {
    field: 'retrainings',
    type: 'quantitative',
    // room for the name of the last point
    scale: { domain: [0, widest * 1.22], nice: false },
    axis: {
      ...axis,
      grid: false,
      title: 'retrainings',
      tickMinStep: 1,
      values: Array.from({ length: Math.min(widest, 20) + 1 }, (_, i) => Math.round((i * widest) / Math.min(widest, 20))),
    },
  };
  const y = {
    field: 'quality',
    type: 'quantitative',
    scale: { domain: [least - room, most + room], zero: false, nice: false },
    axis: { ...axis, title: metric },
  };
  const spec = {
    width: CURVE_WIDTH,
    height: CURVE_HEIGHT,
    autosize: { type: 'fit', contains: 'padding' },
    encoding: { x, y },
    layer: [
      ...rules.map(({ name, quality }) => ({
        layer: [
          { data: { values: [{ quality }] }, mark: { type: 'rule', color: PLOT_COLOURS.minus, strokeDash: [2, 3] }, encoding: { x: null } },
          {
            data: { values: [{ quality, retrainings: 0, name: `rule: ${name}` }] },
            mark: { type: 'text', align: 'left', dx: 4, dy: 11, color: PLOT_COLOURS.minus },
            encoding: { text: { field: 'name' } },
          },
        ],
      })),
      ...(hindsight.length === 0
        ? []
        : [{ data: { values: hindsight }, mark: { type: 'line', color: PLOT_COLOURS.soft, strokeDash: [5, 4], strokeWidth: 1.5 } }]),
      { data: { values: points }, mark: { type: 'point', filled: true, size: 60, color: PLOT_COLOURS.mark, opacity: 1 } },
      ...named(points, most - least + 2 * room, widest).map(({ values, dy }) => ({
        data: { values },
        mark: { type: 'text', align: 'left', dx: 5, dy, color: PLOT_COLOURS.ink },
        encoding: { text: { field: 'name' } },
      })),
    ],
  };
  return drawn(spec as unknown as Spec, `${metric} of each policy against its number of retrainings`);
}

interface Point {
  readonly name: string;
  readonly quality: number;
  readonly retrainings: number;
}

/** Names above their points, else below them; one that would run into another either way is left out. */
function named(points: readonly Point[], height: number, widest: number): readonly { readonly values: readonly Point[]; readonly dy: number }[] {
  const placed: { readonly left: number; readonly right: number; readonly y: number }[] = [];
  const groups = [-9, 11].map((dy) => ({ dy, values: [] as Point[] }));
  for (const point of points) {
    const left = (point.retrainings / (widest * 1.22)) * CURVE_WIDTH;
    for (const { dy, values } of groups) {
      const box = { left, right: left + 12 + point.name.length * 6.4, y: dy - (point.quality / height) * CURVE_HEIGHT };
      if (placed.some((other) => Math.abs(other.y - box.y) < 13 && box.left < other.right && other.left < box.right)) continue;
      placed.push(box);
      values.push(point);
      break;
    }
  }
  return groups;
}

const legend = ({ hindsight }: SimulationResult): string =>
  hindsight.length === 0
    ? ''
    : '<p class="soft">Dashed: the best that retraining at well-chosen blocks could have done, which nobody can know before. A policy that also chooses among earlier versions may lie above it.</p>';

async function policyCard(policy: SimulatedPolicy, { metric, policies, better }: SimulationResult): Promise<string> {
  const all = policies.flatMap(({ blocks }) => blocks.flatMap(({ quality }) => quality ?? []));
  const points = policy.blocks.filter(({ quality }) => quality !== null);
  const first = policies[0];
  const encoding = {
    x: { field: 'block', type: 'quantitative', scale: { nice: false, zero: false }, axis: { ...axis, grid: false, title: null, tickMinStep: 1 } },
    y: {
      field: 'quality',
      type: 'quantitative',
      scale: { domain: [Math.min(...all), Math.max(...all)], zero: false },
      axis: { ...axis, title: null, tickCount: 3 },
    },
  };
  const spec = {
    width: CARD_WIDTH,
    height: CARD_HEIGHT,
    autosize: { type: 'fit', contains: 'padding' },
    encoding,
    layer: [
      ...(first === undefined || first === policy
        ? []
        : [{ data: { values: first.blocks.filter(({ quality }) => quality !== null) }, mark: { type: 'line', color: PLOT_COLOURS.soft, strokeWidth: 1 } }]),
      { data: { values: points }, mark: { type: 'line', color: PLOT_COLOURS.mark, strokeWidth: 1.8 } },
      { data: { values: points.filter(({ retrained }) => retrained) }, mark: { type: 'point', filled: true, size: 42, color: PLOT_COLOURS.minus, opacity: 1 } },
    ],
  };
  const svg = await drawn(spec as unknown as Spec, `${metric} of ${policy.name} in each block`);
  const told = `${figure(policy.quality)}, ${better === 'higher' ? 'least' : 'most'} ${figure(policy.worst)}; ${String(policy.retrainings)} retrainings`;
  return `<section class="card"><div class="head"><h3>${escaped(policy.name)}</h3></div>${svg}<p class="soft">${escaped(metric)} ${told}</p></section>`;
}

function policiesTable({ metric, policies, rules }: SimulationResult, currency: string | null): string {
  const cost = ({ cost: paid, trainingSeconds }: SimulatedPolicy): string =>
    paid === null ? `${figure(Number(trainingSeconds.toFixed(1)))} s` : `${figure(Number(paid.toPrecision(3)))}${currency === null ? '' : ` ${currency}`}`;
  const rows = policies.map(
    (policy) =>
      `<tr><td>${escaped(policy.name)}</td><td class="n">${figure(policy.quality)}</td><td class="n">${figure(policy.worst)}</td><td class="n">${String(policy.retrainings)}</td><td class="n">${String(policy.switches)}</td><td class="n">${cost(policy)}</td><td class="n">${String(policy.blocked.length)}</td></tr>`,
  );
  const ruled = rules.map(
    ({ name, quality }) => `<tr><td>rule: ${escaped(name)}</td><td class="n">${figure(quality)}</td>${'<td class="n">–</td>'.repeat(5)}</tr>`,
  );
  return `<div class="scroll"><table><thead><tr><th>policy</th><th class="n">${escaped(metric)}</th><th class="n">worst block</th><th class="n">retrainings</th><th class="n">switches</th><th class="n">cost</th><th class="n">blocked by its gate</th></tr></thead><tbody>${[...rows, ...ruled].join('')}</tbody></table></div>`;
}

function gatesTable({ policies, metric }: SimulationResult): string {
  const judged = policies.flatMap(({ name, versions }) =>
    versions.flatMap(({ version, block, gate, next }) => (gate === null ? [] : [{ name, version, block, gate, next }])),
  );
  if (judged.length === 0) return '';
  const rows = judged
    .slice(0, DRAWN_GATES)
    .map(
      ({ name, version, block, gate, next }) =>
        `<tr><td>${escaped(name)}</td><td class="n">${String(version)}</td><td class="n">${String(block)}</td><td class="${gate.passed ? 'good' : 'bad'}">${gate.passed ? 'passed' : gate.enforced ? 'blocked' : 'would be blocked'}</td><td>${escaped(gate.because)}</td><td class="n">${figure(next?.value)}</td><td class="n">${figure(next?.served)}</td></tr>`,
    );
  const more = judged.length > DRAWN_GATES ? `<p class="soft">${String(judged.length - DRAWN_GATES)} more are left out.</p>` : '';
  return `<h2>What the gates would have blocked</h2><div class="scroll"><table><thead><tr><th>policy</th><th class="n">version</th><th class="n">block</th><th>gate</th><th>why</th><th class="n">${escaped(metric)} of that block</th><th class="n">of the version before</th></tr></thead><tbody>${rows.join('')}</tbody></table></div>${more}`;
}
