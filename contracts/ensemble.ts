import { z } from 'zod';
import { CandidateRefSchema, DatasetRefSchema } from './references.ts';

/**
 * Several candidates as one predictor.
 *
 * Invariants:
 * 1. Members answer the same question: target, task and classes in the same order.
 * 2. Weights and meta models are fitted on rows that no member was trained on.
 */
const MembersSchema = z.array(CandidateRefSchema).min(1).max(50);

/** Rows that no member has learnt from: a validation part for all of them, or folds with the members that were trained without each. */
const UnseenRows = {
  on: DatasetRefSchema.optional(),
  folds: z
    .array(z.object({ on: DatasetRefSchema, candidates: MembersSchema }))
    .min(2)
    .max(20)
    .optional(),
};

export const VotingSchema = z.object({
  kind: z.literal('voting'),
  /** `equal`; one number ≥ 0 a member, of which the shares count; or those that lose least on `on` or `folds`. */
  weights: z.union([z.enum(['equal', 'optimise']), z.array(z.number().min(0)).min(1)]).default('equal'),
  ...UnseenRows,
});

export const StackingSchema = z.object({
  kind: z.literal('stacking'),
  /** Parameters are checked by the trainer's own schema. */
  meta: z.object({ name: z.literal('linear'), parameters: z.record(z.string(), z.unknown()) }).default({ name: 'linear', parameters: {} }),
  ...UnseenRows,
});

export const EnsembleHowSchema = z.discriminatedUnion('kind', [VotingSchema, StackingSchema]);
export type EnsembleHow = z.output<typeof EnsembleHowSchema>;

export const EnsembleInputSchema = z.object({ candidates: MembersSchema, how: EnsembleHowSchema });
export type EnsembleInput = z.output<typeof EnsembleInputSchema>;

/** `trainer.parameters` of an ensemble's predictor: what it is made of, and which rows each part has seen. */
export interface EnsembleParameters {
  readonly kind: 'voting' | 'stacking';
  readonly weights?: 'equal' | 'given' | 'optimise';
  readonly members: readonly {
    readonly predictor: string;
    readonly trainer: string;
    /** Training rows of the member. */
    readonly rows: number;
    /** Of voting: its weight. Of stacking: its share in the meta model. Sums to 1. */
    readonly share: number;
  }[];
  readonly meta?: { readonly name: 'linear'; readonly parameters: unknown };
  /** Datasets on whose rows weights or the meta model were fitted. */
  readonly fittedOn: readonly { readonly dataset: string; readonly rows: number }[];
}
