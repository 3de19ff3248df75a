/** What a replay of policies over historic data found. Blocks are counted from 1. */

export interface SimulatedGate {
  readonly passed: boolean;
  /** False: it only watched. */
  readonly enforced: boolean;
  /** On the rows that were kept out of the version's training; of the version that served beside it. */
  readonly value: number;
  readonly served: number;
  readonly because: string;
}

/** One training, and what became of it. */
export interface SimulatedVersion {
  readonly version: number;
  /** At the begin of this block it was trained, and served from then on unless a gate kept it back. */
  readonly block: number;
  /** Rows in time order, from 0; `to` is behind the last one. Those that judge it at a gate are not among them. */
  readonly fromRow: number;
  readonly toRow: number;
  readonly trainingSeconds: number;
  readonly reasons: readonly string[];
  readonly gate: SimulatedGate | null;
  /** In the block that came then, which nobody knew when it was decided: the version's quality, and that of the one before it. */
  readonly next: { readonly value: number; readonly served: number } | null;
}

export interface SimulatedBlock {
  readonly block: number;
  readonly rows: number;
  /** UTC ISO of the first row; null where the data have no time. */
  readonly at: string | null;
  /** NaN is null: the metric has no value on these rows. */
  readonly quality: number | null;
  /** The version that served it. */
  readonly version: number;
  readonly retrained: boolean;
  /** Reasons for a retraining that did not come now, each with what held it up. */
  readonly held: readonly string[];
}

export interface SimulatedPolicy {
  readonly name: string;
  /** Mean over the scored blocks, and the worst of them. */
  readonly quality: number;
  readonly worst: number;
  /** Trainings after the first version. */
  readonly retrainings: number;
  /** How often another version began to serve. */
  readonly switches: number;
  readonly trainingSeconds: number;
  /** Spent on letting versions answer rows whose label is known, to choose among them. */
  readonly judgingSeconds: number;
  /** Null where no rate is known. */
  readonly cost: number | null;
  /** Versions that its gate blocked, or would have. */
  readonly blocked: readonly number[];
  readonly blocks: readonly SimulatedBlock[];
  readonly versions: readonly SimulatedVersion[];
}

export interface SimulationResult {
  readonly metric: string;
  readonly better: 'higher' | 'lower';
  readonly rows: number;
  readonly blocks: number;
  /** The first block that is scored. */
  readonly firstScored: number;
  readonly seed: number;
  /** Rules without any training, each row answered by one: what every policy has to be seen beside. */
  readonly rules: readonly { readonly name: string; readonly quality: number }[];
  readonly policies: readonly SimulatedPolicy[];
  /** The best that retraining at well-chosen blocks could have done for each number of retrainings, known only afterwards; empty where it was not asked for. */
  readonly hindsight: readonly { readonly retrainings: number; readonly quality: number }[];
}
