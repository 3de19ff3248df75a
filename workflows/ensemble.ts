import type { CandidateRef, DatasetRef, WinnerRef } from '../contracts/references.ts';
import type { TrainerSpec } from '../contracts/stages.ts';
import { runStage, type StageOptions } from './run.ts';

/** Rows that no member was trained on: one part for all, or folds, each with the members that were trained without it. */
export type UnseenRows =
  | { readonly on: DatasetRef; readonly folds?: never }
  | { readonly folds: readonly { readonly on: DatasetRef; readonly candidates: readonly CandidateRef[] }[]; readonly on?: never };

export type EnsembleOptions =
  | { readonly kind: 'voting' /** Default `equal`; else one number ≥ 0 a member. */; readonly weights?: 'equal' | readonly number[] }
  | ({ readonly kind: 'voting'; readonly weights: 'optimise' } & UnseenRows)
  | ({ readonly kind: 'stacking' /** `linear({ … })`; default its defaults. */; readonly meta?: TrainerSpec } & UnseenRows);

/**
 * Makes one candidate of several: their graphs, with the weighted mean of their answers or a linear model on top of them,
 * become one ONNX file under one signature, checked against the members. What it gives is selected, judged, registered and
 * deployed like any other candidate. With `folds`, what is fitted has seen every row by a member that had not.
 *
 * @throws INVALID_PARAMETERS for fewer than two members, members of other targets, tasks or classes, row transforms that
 * do not go together, and rows that a member was trained on.
 */
export function ensemble(candidates: readonly (CandidateRef | WinnerRef)[], how: EnsembleOptions, options?: StageOptions): Promise<CandidateRef> {
  const members = candidates.map((candidate) => (candidate.kind === 'winner' ? candidate.candidate : candidate));
  return runStage('ensemble', `ensemble-${how.kind}`, { candidates: members, how }, options);
}
