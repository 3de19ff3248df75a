import type { LoadedPredictor } from './loaded-predictor.ts';
import type { FoundAnswers } from './precomputed.ts';

/** An answer as it was precomputed: the texts that `AnswerWriter` writes. */
interface Answered {
  readonly label?: string;
  readonly probabilities?: Readonly<Record<string, number | null>>;
  readonly value?: number | null;
  readonly output?: readonly (number | null)[];
}

interface DecidedAnswers {
  readonly answers: readonly (string | null)[];
  /** Why answers have no action, where rules would give them one; undefined: all have theirs, or there are no rules. */
  readonly undecided: string | undefined;
}

const hasAll = (row: unknown, columns: readonly string[]): row is Readonly<Record<string, unknown>> =>
  typeof row === 'object' && row !== null && columns.every((name) => Object.hasOwn(row, name));

/**
 * Adds the action to answers that were precomputed, by the rules that decide now. Rules that look at a request's columns need the
 * rows beside the keys. Nothing is drawn at random, as answers by key are not logged; nor is anything put before people.
 * `version`: what the endpoint serves; undefined: nothing.
 */
export function decideAnswers(
  found: FoundAnswers,
  version: { readonly predictor: LoadedPredictor; readonly served: { readonly predictor: string } } | undefined,
  rows: readonly unknown[] | undefined,
): DecidedAnswers {
  const { answers } = found;
  const decider = version?.predictor.decider;
  if (version === undefined || decider === undefined || answers.every((answer) => answer === null)) return { answers, undecided: undefined };
  if (version.served.predictor !== found.predictor) return { answers, undecided: 'The predictions by key are of another version than the rules.' };
  const { columns } = decider;
  const { task } = version.predictor.signature;
  let undecided: string | undefined;
  const decided = answers.map((answer, index) => {
    if (answer === null) return null;
    const row = rows?.[index];
    if (columns.length > 0 && !hasAll(row, columns)) {
      undecided ??= `The rules look at ${columns.join(', ')}: send the rows beside the keys.`;
      return answer;
    }
    const { label, probabilities, value, output } = JSON.parse(answer) as Answered;
    const numbers = 'classes' in task ? task.classes.map((name) => probabilities?.[name]) : (output ?? [value]);
    const action = decider.decideByRules({
      values: hasAll(row, columns) ? row : undefined,
      output: numbers.map((number) => number ?? Number.NaN),
      from: 0,
      answered: 'classes' in task ? task.classes.indexOf(label ?? '') : 0,
    });
    return `${answer.slice(0, -1)},"action":${action}}`;
  });
  return { answers: decided, undecided };
}
