/**
 * Where something comes from and what came of it, as a graph. Edges point the way the data went: source → stage →
 * dataset → stage → version → endpoint → prediction.
 */
export const LINEAGE_KINDS = ['source', 'dataset', 'stage', 'features', 'version', 'table', 'endpoint', 'prediction'] as const;
export type LineageKind = (typeof LINEAGE_KINDS)[number];

export interface LineageNode {
  /** Unique in its graph, and the same in every graph: `dataset:HASH`, `version:late/3`, `stage:RUN/train`. */
  readonly id: string;
  readonly kind: LineageKind;
  /** For people: `flights`, `late 3`, `train`. */
  readonly name: string;
  /** The run whose stage it is, or that made it; null where no run did. */
  readonly run: string | null;
  /** UTC ISO: when it was made, or came into service. */
  readonly at: string | null;
  /** What else is known of it. A stage's `code` is the hash of its module graph, an ingest's `content` that of what it read. */
  readonly facts: Readonly<Record<string, unknown>>;
}

export interface LineageEdge {
  readonly from: string;
  readonly to: string;
  /** `reads`, `makes`, `registers`, `answers`. */
  readonly how: string;
}

/** A run that something in the graph was made by. */
export interface LineageRun {
  readonly id: string;
  readonly pipeline: string;
  readonly status: string;
  readonly parameters: unknown;
  readonly trigger: unknown;
  /** Of the repository that its code was built from. */
  readonly remote: string | null;
  readonly commit: string | null;
  /** Whether the working tree was the commit's; null where it is not known. */
  readonly clean: boolean | null;
  /** SHA-256 over the bundles that it ran. */
  readonly build: string | null;
  readonly startedAt: string | null;
  readonly endedAt: string | null;
}

export interface LineageGraph {
  /** Ids of the nodes that were asked for. */
  readonly subject: readonly string[];
  /** In the order of the data's way: what comes before stands before. */
  readonly nodes: readonly LineageNode[];
  readonly edges: readonly LineageEdge[];
  readonly runs: readonly LineageRun[];
  /** Whether there is more than was followed. */
  readonly truncated: boolean;
}

/** What lineage can be asked of. */
export type LineageSubject =
  | { readonly kind: 'version'; readonly model: string; readonly version: number }
  | { readonly kind: 'run'; readonly run: string }
  | { readonly kind: 'dataset'; readonly dataset: string }
  | { readonly kind: 'endpoint'; readonly endpoint: string }
  /** A path as its records have it, a file under it, or one that its glob fits. */
  | { readonly kind: 'source'; readonly path: string }
  | { readonly kind: 'prediction'; readonly prediction: AnsweredRequest };

/** A request that an endpoint answered, as its log has it. */
export interface AnsweredRequest {
  readonly requestId: string;
  readonly endpoint: string;
  readonly model: string;
  readonly version: number;
  /** UTC ISO. */
  readonly at: string;
  readonly rows: number;
}

/** `up`: where it comes from. `down`: what came of it. */
export type LineageDirection = 'up' | 'down' | 'both';
