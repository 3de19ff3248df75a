import type { EvaluatedAnswers } from '../../contracts/drift.ts';
import type { EvaluationReport } from '../../contracts/evaluation.ts';
import type { NumberProfile } from '../../contracts/profile.ts';
import type { ScoreBin } from '../../contracts/window-quality.ts';
import { quantileOf } from '../evaluation/normal.ts';

/** The shares at which a profile of numbers knows the values. */
const SHARES = [0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99];

interface AnswerCurves {
  readonly scoreBins?: readonly ScoreBin[] | undefined;
  readonly residuals?: { readonly points: readonly { readonly answer: number }[] } | undefined;
}

/**
 * What an evaluation's report tells of its answers: of two classes the scores of the positive one, of several those of the answered one, by the
 * report's bins; of a regression the answers at even steps. Null where it tells nothing: rankings, and reports of earlier versions.
 */
export function answersOf({ task, curves, rows }: Pick<EvaluationReport, 'task' | 'rows'> & { readonly curves: AnswerCurves }): EvaluatedAnswers | null {
  if (task === 'regression') {
    const answers = Float64Array.from(curves.residuals?.points ?? [], ({ answer }) => answer).sort();
    const [least, most] = [answers[0], answers.at(-1)];
    if (least === undefined || most === undefined || least === most) return null;
    const quantiles = SHARES.map((q) => {
      const value = quantileOf(answers, q);
      return { q, value, atOrBelow: answers.filter((answer) => answer <= value).length / answers.length };
    });
    return { kind: 'answers', output: 'last', rows, values: profileOf(quantiles, [least, most], [answers.length]) };
  }
  const bins = curves.scoreBins ?? [];
  const [first, last] = [bins[0], bins.at(-1)];
  if (first === undefined || last === undefined || bins.length < 2) return null;
  const all = bins.reduce((sum, bin) => sum + bin.rows, 0);
  const shares: number[] = [];
  let below = 0;
  for (const bin of bins) shares.push((below += bin.rows) / all);
  const quantiles = SHARES.map((q) => {
    const at = shares.findIndex((share) => share >= q - 1e-12);
    return { q, value: bins[at]?.to ?? last.to, atOrBelow: shares[at] ?? 1 };
  });
  const values = profileOf(
    quantiles,
    [...bins.map(({ from }) => from), last.to],
    bins.map((bin) => bin.rows),
  );
  return { kind: 'answers', output: task === 'multiclass' ? 'greatest' : 'last', rows: all, values };
}

const profileOf = (quantiles: NumberProfile['quantiles'], edges: number[], counts: number[]): NumberProfile => ({
  kind: 'number',
  min: edges[0] ?? null,
  max: edges.at(-1) ?? null,
  mean: null,
  standardDeviation: null,
  quantiles,
  histogram: { edges, counts },
});
