/**
 * One policy over historic blocks, in simulated time.
 *
 * Invariants:
 * 1. What is decided where a block begins depends on rows before it alone, and on labels of blocks that are `labelDelayBlocks`
 *    behind it at least. Other rows behind that change nothing of it.
 * 2. A gate's rows are newer than every row that trained the version, or the one it is compared with.
 * 3. The version that serves changes where a block begins and nowhere else.
 */
import type { DetectorOptions } from '../../contracts/detectors.ts';
import { type DriftReport, type DriftSettings, DriftSettingsSchema, type PastWindow } from '../../contracts/drift.ts';
import type { FeatureDriftRule, Policy } from '../../contracts/policy.ts';
import { createRetrainingState, decideRetraining, retrainingStatus } from '../../contracts/retraining-decision.ts';
import type { RetrainingOutcome } from '../../contracts/retraining.ts';
import type { SimulatedBlock, SimulatedGate, SimulatedPolicy, SimulatedVersion } from '../../contracts/simulation.ts';
import { decideDrift } from '../drift/decide.ts';
import { createDetector } from '../streaming/create-detector.ts';
import { betterBy, type TrainedVersion, type Versions } from './versions.ts';

export interface Replay {
  readonly versions: Versions;
  readonly metric: string;
  /** Rows at which blocks begin, and where the last one ends. */
  readonly edges: readonly number[];
  /** Blocks that the first version is trained on. */
  readonly start: number;
  readonly labelDelayBlocks: number;
  /** UTC ISO of a row; null without time. */
  readonly at: (row: number) => string | null;
  /** Null where no rate is known. */
  readonly costPerHour: number | null;
  /** The features of rows `from` … `to - 1` against the rows that trained the version. */
  readonly drift: (version: TrainedVersion, from: number, to: number) => DriftReport;
  /** Called before each block; gives the event loop a turn. */
  readonly onBlock: (block: number) => Promise<void>;
}

interface Served {
  readonly number: number;
  readonly trained: TrainedVersion;
  /** Index of the block at whose begin it was trained. */
  readonly block: number;
}

const DAY_MS = 86_400_000;

const figure = (value: number): string => value.toPrecision(4);

/** Replays a policy. The versions may be shared with other policies: what one has trained the next one finds. */
export async function replayPolicy(policy: Policy, replay: Replay): Promise<SimulatedPolicy> {
  const { versions, metric, edges, start, labelDelayBlocks: delay, onBlock } = replay;
  const edge = (block: number): number => edges[block] ?? 0;
  const qualityIn = (version: TrainedVersion, block: number): number => versions.quality(version, edge(block), edge(block + 1));
  let judgingSeconds = 0;
  const made: SimulatedVersion[] = [];
  const pool: Served[] = [];
  const blocks: SimulatedBlock[] = [];
  const servedIn: Served[] = [];
  const watch = errorWatch(policy, replay);
  const features = featureWatch(policy, replay);
  const controller = simulatedController(policy, replay);

  const train = async (block: number, known: number, reasons: readonly string[], serving: Served | undefined): Promise<SimulatedVersion> => {
    const to = edge(known);
    const from = windowBegin(policy, edges, known, watch.changedAtRow());
    const { gate } = policy;
    // only the newest block: older rows may have trained the version that serves
    const heldOut = gate === undefined || serving === undefined ? 0 : Math.max(1, Math.floor(Math.min((to - from) * gate.holdout, to - edge(known - 1))));
    const trained = await versions.train(from, to - heldOut);
    const verdict =
      heldOut === 0 || serving === undefined || gate === undefined ? null : judgeAt(gate, versions, metric, trained, serving.trained, to - heldOut, to);
    const isIn = verdict === null || verdict.passed || !verdict.enforced;
    const version: Served = { number: made.length + 1, trained, block };
    const told: SimulatedVersion = {
      version: version.number,
      block: block + 1,
      fromRow: from,
      toRow: to - heldOut,
      trainingSeconds: trained.trainingSeconds,
      reasons,
      gate: verdict,
      next: serving === undefined ? null : { value: qualityIn(trained, block), served: qualityIn(serving.trained, block) },
    };
    made.push(told);
    if (isIn) pool.push(version);
    return told;
  };

  for (let block = start; block < edges.length - 1; block++) {
    await onBlock(block);
    let held: readonly string[] = [];
    let retrained = false;
    // the first version is there when the replay begins
    if (block === start) await train(block, start, ['the first version'], undefined);
    else {
      const known = block - delay;
      const newest = known - 1;
      const serving = servedIn.at(-1) as Served;
      // nothing is known yet of a block that was served
      const isKnown = newest >= start;
      const best = chosen(policy, pool, newest, metric, qualityIn);
      for (const { trained } of candidates(policy, pool, newest))
        if (trained !== serving.trained) judgingSeconds += versions.secondsOf(trained, edge(newest), edge(known));
      if (isKnown) watch.see(servedIn[newest - start]?.trained ?? serving.trained, edge(newest), edge(known));
      // features need no labels
      features.see(serving.trained, block - 1);
      const reasons = [
        ...everyReason(policy, block - start),
        ...features.reasons(),
        ...(isKnown ? [...qualityReasons(policy, { best, pool, newest, metric, qualityIn }), ...watch.reasons()] : []),
      ];
      const decided = controller.ask(block, reasons);
      held = decided.held;
      if (decided.reasons.length > 0) {
        retrained = true;
        const { trainingSeconds, gate } = await train(block, Math.max(start, known), decided.reasons, best);
        controller.ended(block, trainingSeconds, gate);
        watch.begin();
      }
      const fresh = pool.at(-1);
      servedIn.push(retrained && fresh?.block === block ? fresh : best);
    }
    if (block === start) servedIn.push(pool[0] as Served);
    const version = servedIn.at(-1) as Served;
    const quality = qualityIn(version.trained, block);
    blocks.push({
      block: block + 1,
      rows: edge(block + 1) - edge(block),
      at: replay.at(edge(block)),
      quality: Number.isFinite(quality) ? quality : null,
      version: version.number,
      retrained,
      held,
    });
  }
  return summed(policy, replay, { blocks, made, servedIn, judgingSeconds });
}

function summed(
  { name }: Policy,
  { metric, costPerHour }: Replay,
  found: {
    readonly blocks: readonly SimulatedBlock[];
    readonly made: readonly SimulatedVersion[];
    readonly servedIn: readonly Served[];
    readonly judgingSeconds: number;
  },
): SimulatedPolicy {
  const { blocks, made, servedIn, judgingSeconds } = found;
  const values = blocks.flatMap(({ quality }) => quality ?? []);
  const retrainings = made.slice(1);
  const trainingSeconds = retrainings.reduce((sum, version) => sum + version.trainingSeconds, 0);
  return {
    name,
    quality: values.reduce((sum, value) => sum + value, 0) / values.length,
    worst: values.reduce((worst, value) => (betterBy(metric, worst, value) ? value : worst), values[0] ?? Number.NaN),
    retrainings: retrainings.length,
    switches: servedIn.filter((version, i) => i > 0 && version.number !== servedIn[i - 1]?.number).length,
    trainingSeconds,
    judgingSeconds,
    cost: costPerHour === null ? null : ((trainingSeconds + judgingSeconds) / 3600) * costPerHour,
    blocked: made.filter(({ gate }) => gate?.passed === false).map(({ version }) => version),
    blocks,
    versions: made,
  };
}

type QualityIn = (version: TrainedVersion, block: number) => number;

/** Versions among which the newest labelled block decides; none where there is nothing to choose, or the newest one cannot be judged yet. */
function candidates({ serve }: Policy, pool: readonly Served[], newest: number): readonly Served[] {
  const last = pool.at(-1);
  return serve === 'newest' || last === undefined || last.block > newest ? [] : pool.slice(-serve.bestOf);
}

/** The version that serves where nothing new is trained: of several the one that did best in the newest labelled block, of equal ones the newer. */
function chosen(policy: Policy, pool: readonly Served[], newest: number, metric: string, qualityIn: QualityIn): Served {
  return candidates(policy, pool, newest).reduce(
    (best, version) => (betterBy(metric, qualityIn(best.trained, newest), qualityIn(version.trained, newest)) ? best : version),
    pool.at(-1) as Served,
  );
}

function everyReason({ retrain: { every } }: Policy, blocksServed: number): readonly string[] {
  if (every === undefined) return [];
  const { blocks, first } = typeof every === 'number' ? { blocks: every, first: every } : every;
  return blocksServed >= first && (blocksServed - first) % blocks === 0 ? [`every ${blocks === 1 ? 'block' : `${String(blocks)} blocks`}`] : [];
}

interface Known {
  readonly best: Served;
  readonly pool: readonly Served[];
  readonly newest: number;
  readonly metric: string;
  readonly qualityIn: QualityIn;
}

function qualityReasons({ retrain: { quality: rule } }: Policy, { best, pool, newest, metric, qualityIn }: Known): readonly string[] {
  if (rule === undefined || best.block > newest) return [];
  const value = qualityIn(best.trained, newest);
  if (!Number.isFinite(value)) return [];
  const reasons: string[] = [];
  if (rule.below !== undefined && betterBy(metric, rule.below, value)) reasons.push(`${metric} ${figure(value)} is worse than ${figure(rule.below)}`);
  if (rule.drop !== undefined) {
    const first = qualityIn(best.trained, best.block);
    if (betterBy(metric, first, value, rule.drop)) reasons.push(`${metric} ${figure(value)}, in its first block ${figure(first)}`);
  }
  if (rule.belowFresh !== undefined) {
    const first = pool.filter(({ block }) => block <= newest).map(({ trained, block }) => qualityIn(trained, block));
    const expected = first.filter(Number.isFinite).reduce((sum, one, _, all) => sum + one / all.length, 0);
    if (betterBy(metric, expected, value, rule.belowFresh))
      reasons.push(`${metric} ${figure(value)}, and versions do ${figure(expected)} in their first block`);
  }
  return reasons;
}

/** Simulated time: without a column of time a block takes a day. */
function beginOf({ at, edges }: Replay, block: number): number {
  const time = at(edges[block] ?? 0);
  return time === null ? block * DAY_MS : Date.parse(time);
}

/** The pipeline's own controller, asked where blocks begin. A retraining takes no time here. */
function simulatedController({ controller, retrain }: Policy, replay: Replay) {
  let state = createRetrainingState('simulated', controller);
  const beginMs = (block: number): number => beginOf(replay, block);
  const lasts = retrain.drift !== undefined || retrain.quality !== undefined;
  return {
    /** Tells it the reasons there are now; gives those that a retraining begins for now, its earlier ones among them. */
    ask: (block: number, reasons: readonly string[]): { readonly reasons: readonly string[]; readonly held: readonly string[] } => {
      const nowMs = beginMs(block);
      const request = { reason: reasons.join('; '), source: 'simulation', ...(lasts ? { condition: 'quality or drift' } : {}) };
      // several reasons of one moment are one trigger: a second one would wait for a run of its own
      const {
        state: next,
        start,
        changed,
      } = decideRetraining(
        state,
        reasons.length > 0
          ? { kind: 'trigger', request: reasons.every((reason) => reason.startsWith('every ')) ? { reason: request.reason, source: 'schedule' } : request }
          : lasts
            ? { kind: 'trigger', request: { ...request, reason: 'recovered', recovered: true } }
            : { kind: 'tick' },
        nowMs,
      );
      state = next;
      const by = state.waiting.length === 0 ? null : (retrainingStatus(state, 'simulated', nowMs).waiting?.heldBy ?? null);
      return {
        reasons: start === null ? [] : start.entries.map(({ reason }) => reason),
        held: [
          ...changed.filter(({ fate }) => fate === 'refused').map(({ reason, because }) => `${reason}: ${because}`),
          ...(by === null ? [] : state.waiting.map(({ reason }) => `${reason}: ${by}`)),
        ],
      };
    },
    ended: (block: number, trainingSeconds: number, gate: SimulatedGate | null): void => {
      const nowMs = beginMs(block);
      const isBlocked = gate !== null && gate.enforced && !gate.passed;
      const outcome: RetrainingOutcome = {
        fate: isBlocked ? 'rejected' : 'serving',
        because: gate?.because ?? '',
        runId: null,
        beganMs: nowMs,
        endedMs: nowMs + trainingSeconds * 1000,
        gatesMs: 0,
        rolloutMs: 0,
      };
      state = decideRetraining(state, { kind: 'ended', outcome }, nowMs).state;
    },
  };
}

function windowBegin({ train }: Policy, edges: readonly number[], known: number, changedAtRow: number | null): number {
  if (train.window === 'all') return 0;
  if (train.window === 'sliding') return edges[Math.max(0, known - train.blocks)] ?? 0;
  return Math.min(changedAtRow ?? 0, edges[Math.max(0, known - train.atLeastBlocks)] ?? 0);
}

function judgeAt(
  gate: NonNullable<Policy['gate']>,
  versions: Versions,
  metric: string,
  trained: TrainedVersion,
  serving: TrainedVersion,
  from: number,
  to: number,
): SimulatedGate {
  const value = versions.quality(trained, from, to);
  const served = versions.quality(serving, from, to);
  const { atLeast, worseBy, enforced } = gate;
  const failures = [
    ...(atLeast !== undefined && betterBy(metric, atLeast, value) ? [`${metric} ${figure(value)} is worse than ${figure(atLeast)}`] : []),
    ...(worseBy !== undefined && betterBy(metric, served, value, worseBy)
      ? [`${metric} ${figure(value)} beside ${figure(served)} of the version that served`]
      : []),
  ];
  return {
    passed: failures.length === 0,
    enforced,
    value,
    served,
    because: failures.length === 0 ? `${metric} ${figure(value)} beside ${figure(served)}` : failures.join('; '),
  };
}

export const isOfFeatures = (drift: NonNullable<Policy['retrain']['drift']>): drift is FeatureDriftRule => typeof drift === 'string' || !('kind' in drift);

const detectorOf = ({ retrain: { drift } }: Policy): DetectorOptions | undefined => (drift === undefined || isOfFeatures(drift) ? undefined : drift);

interface FeatureWatch {
  /** The version has answered this block. */
  see(version: TrainedVersion, block: number): void;
  /** What is the matter in the newest block. */
  reasons(): readonly string[];
}

/** Looks at each block as a monitor looks at a window. As there, windows of another version are no history. */
function featureWatch({ retrain: { drift: rule } }: Policy, replay: Replay): FeatureWatch {
  if (rule === undefined || !isOfFeatures(rule)) return { see: () => undefined, reasons: () => [] };
  const except = new Set(rule === 'calibrated' ? [] : rule.except);
  const judge =
    typeof rule === 'object' && 'psi' in rule
      ? fixedLimit(rule.psi, rule.windows)
      : calibrated(DriftSettingsSchema.parse(rule === 'calibrated' ? {} : rule.calibrated));
  let reasons: readonly string[] = [];
  return {
    see: (version, block) => {
      const [from = 0, to = 0] = [replay.edges[block], replay.edges[block + 1]];
      const report = replay.drift(version, from, to);
      reasons = judge(version, { ...report, columns: report.columns.filter(({ column }) => !except.has(column)) }, beginOf(replay, block));
    },
    reasons: () => reasons,
  };
}

type Judge = (version: TrainedVersion, report: DriftReport, atMs: number) => readonly string[];

function calibrated(settings: DriftSettings): Judge {
  const past = new Map<string, PastWindow[]>();
  return ({ key }, report, atMs) => {
    const windows = past.get(key) ?? [];
    past.set(key, windows);
    const decision = decideDrift({ from: new Date(atMs).toISOString(), report, past: windows, settings });
    if (decision.verdict === 'too few rows') return [];
    windows.unshift(decision);
    return decision.columns.flatMap(({ drifted, message }) => (drifted ? [`drift of ${message}`] : []));
  };
}

function fixedLimit(limit: number, windows: number): Judge {
  const streaks = new Map<string, ReadonlyMap<string, number>>();
  return ({ key }, { columns }) => {
    const before = streaks.get(key);
    const over = columns.filter(({ psi }) => psi > limit);
    const now = new Map(over.map(({ column }) => [column, (before?.get(column) ?? 0) + 1]));
    streaks.set(key, now);
    return over.flatMap(({ column, psi }) =>
      (now.get(column) ?? 0) < windows
        ? []
        : [`drift of ${column}: PSI ${psi.toFixed(3)} over ${String(limit)}${windows === 1 ? '' : ` in ${String(windows)} blocks in a row`}`],
    );
  };
}

interface ErrorWatch {
  /** Labels of these rows have come, which this version had answered. */
  see(version: TrainedVersion, from: number, to: number): void;
  /** What was seen since the last retraining. */
  reasons(): readonly string[];
  /** A retraining begins: the detector of errors begins anew. */
  begin(): void;
  /** The row behind the newest change of quality; null where there was none. */
  changedAtRow(): number | null;
}

/** The detector of the policy's rule, and an ADWIN for windows that begin at the last change. */
function errorWatch(policy: Policy, { versions }: Replay): ErrorWatch {
  const { train } = policy;
  const drift = detectorOf(policy);
  const open = () => (drift === undefined ? undefined : createDetector(drift));
  let detector = open();
  let reasons: string[] = [];
  const change = train.window === 'sinceChange' ? createDetector({ kind: 'adwin' }) : undefined;
  let changedAtRow: number | null = null;
  return {
    see: (version, from, to) => {
      if (detector === undefined && change === undefined) return;
      versions.errors(version, from, to).forEach((error, i) => {
        if (detector?.update(error).drift === true) reasons.push(`${drift?.kind ?? ''}: the error changed at row ${String(from + i + 1)}`);
        if (change?.update(error).drift === true) {
          const state = change.state();
          // what is left of its window is what came after the change
          const kept = state.kind === 'adwin' ? state.rows.reduce((sum, row, size) => sum + row.length * 2 ** size, 0) : 0;
          changedAtRow = from + i + 1 - kept;
        }
      });
    },
    reasons: () => reasons,
    begin: () => {
      reasons = [];
      detector = open();
    },
    changedAtRow: () => changedAtRow,
  };
}
