import type { z } from 'zod';
import type { DeviceLease } from '../contracts/devices.ts';
import type { StageCall } from '../contracts/stages.ts';
import type { ArtifactDraft, DatasetDraft, StageMetric, UndoDraft } from '../store/stages.ts';
import type { ActivityDependencies } from './dependencies.ts';

/** What a stage's work is given beside its input. */
export interface StageContext {
  readonly call: StageCall;
  readonly deps: ActivityDependencies;
  /** Raised for every attempt; whatever publishes hands it to the store, which refuses an old one. */
  readonly token: number;
  /** Fires when the stage is cancelled or its worker shuts down. */
  readonly signal: AbortSignal;
  /** Tells how far it is: kept for people, and a sign of life. `fraction` 0 … 1, or null when unknown. */
  readonly progress: (fraction: number | null, message: string) => void;
  /** The GPU that the stage holds; null where its pool has none. */
  readonly device: DeviceLease | null;
  /** Charges the stage with what a child process used. */
  readonly childUsed: (used: { readonly cpuSeconds: number; readonly peakMib: number }) => void;
  /** State that an earlier attempt committed, if any. */
  readonly resume: () => Promise<Uint8Array | undefined>;
  /** Makes this state the one from which the next attempt goes on. */
  readonly commitCheckpoint: (step: number, state: Uint8Array) => Promise<void>;
}

/** What a stage's work gives back. All of it is written in one transaction with the stage's record. */
export interface StageOutcome<Output> {
  readonly output: Output;
  /** One line for people. */
  readonly summary: string;
  readonly metrics?: readonly StageMetric[];
  readonly datasets?: readonly DatasetDraft[];
  readonly artifacts?: readonly ArtifactDraft[];
  readonly undos?: readonly UndoDraft[];
  readonly device?: 'cpu' | 'gpu';
}

export interface StageDefinition<Schema extends z.ZodType, Output> {
  readonly input: Schema;
  /** False for what publishes, and for what depends on more than its fingerprint. */
  readonly cacheable: boolean;
  /** What beside the input decides the result: a source's content, a champion, a step's code. What takes long shows its progress. */
  readonly fingerprint?: (
    input: z.output<Schema>,
    call: StageCall,
    deps: ActivityDependencies,
    work: Pick<StageContext, 'signal' | 'progress'>,
  ) => Promise<Readonly<Record<string, unknown>>>;
  readonly run: (input: z.output<Schema>, context: StageContext) => Promise<StageOutcome<Output>>;
}

/** Fixes the types of one definition. */
export const defineStage = <Schema extends z.ZodType, Output>(definition: StageDefinition<Schema, Output>): StageDefinition<Schema, Output> => definition;
