/**
 * Votes of several labelling functions (or people) combined into one label a row, with how sure it is.
 *
 * Rows with the same votes are one pattern, so that the work does not grow with the rows.
 */
export interface VotePattern {
  /** For each voter the index of the class, or null where it abstains. */
  readonly votes: readonly (number | null)[];
  readonly rows: number;
}

export interface CombinedVotes {
  /** For each pattern the probability of each class. */
  readonly posteriors: readonly (readonly number[])[];
  /** For each voter the probability that a vote it gives is right. */
  readonly accuracies: readonly number[];
  readonly iterations: number;
}

/** The share of the votes that each class has; where nobody votes all are alike. */
export function majority(patterns: readonly VotePattern[], classes: number): CombinedVotes {
  const posteriors = patterns.map(({ votes }) => shares(votes, classes));
  return { posteriors, accuracies: accuraciesOf(patterns, posteriors), iterations: 0 };
}

export interface DawidSkeneOptions {
  /** `missing`: an abstention says nothing (people). `response`: whether a voter abstains depends on the class (rules, most of which can vote for one class only). */
  readonly abstentions: 'missing' | 'response';
  /** Default 100. */
  readonly maxIterations?: number;
  /** Default 1e-5: stops when the log-likelihood of a row gains less. */
  readonly tolerance?: number;
}

const FLOOR = 1e-10;

/**
 * Voters weighed by how often they err, class by class: expectation-maximisation from the majority's labels (A. P. Dawid,
 * A. M. Skene, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm", 1979).
 */
export function dawidSkene(patterns: readonly VotePattern[], classes: number, options: DawidSkeneOptions): CombinedVotes {
  const { abstentions, maxIterations = 100, tolerance = 1e-5 } = options;
  const voters = patterns[0]?.votes.length ?? 0;
  const responses = abstentions === 'response' ? classes + 1 : classes;
  const response = (vote: number | null): number | null => (vote !== null ? vote : abstentions === 'response' ? classes : null);
  const used = patterns.filter(({ votes }) => votes.some((vote) => vote !== null));
  const rows = used.reduce((sum, pattern) => sum + pattern.rows, 0);
  let posteriors = used.map(({ votes }) => shares(votes, classes));
  let last = Number.NEGATIVE_INFINITY;
  let iterations = 0;
  const most = rows > 0 ? maxIterations : 0;
  while (iterations < most) {
    iterations += 1;
    // how often each voter says what, given the class
    const priors = new Array<number>(classes).fill(0);
    const said = new Float64Array(voters * classes * responses);
    used.forEach(({ votes, rows: weight }, p) => {
      for (let c = 0; c < classes; c++) {
        const share = (posteriors[p]?.[c] ?? 0) * weight;
        priors[c] = (priors[c] ?? 0) + share / rows;
        votes.forEach((vote, voter) => {
          const r = response(vote);
          if (r === null) return;
          const at = (voter * classes + c) * responses + r;
          said[at] = (said[at] ?? 0) + share;
        });
      }
    });
    for (let block = 0; block < voters * classes; block++) {
      const from = block * responses;
      let sum = 0;
      for (let r = 0; r < responses; r++) sum += said[from + r] ?? 0;
      for (let r = 0; r < responses; r++) said[from + r] = Math.max(FLOOR, sum > 0 ? (said[from + r] ?? 0) / sum : 0);
    }
    // what each row is, given what was said
    let likelihood = 0;
    posteriors = used.map(({ votes, rows: weight }) => {
      const logs = priors.map((prior, c) =>
        votes.reduce(
          (sum: number, vote, voter) => {
            const r = response(vote);
            return r === null ? sum : sum + Math.log(said[(voter * classes + c) * responses + r] ?? FLOOR);
          },
          Math.log(Math.max(prior, FLOOR)),
        ),
      );
      const top = Math.max(...logs);
      const scale = logs.reduce((sum, log) => sum + Math.exp(log - top), 0);
      likelihood += weight * (top + Math.log(scale));
      return logs.map((log) => Math.exp(log - top) / scale);
    });
    const mean = likelihood / rows;
    if (mean - last < tolerance) break;
    last = mean;
  }
  const found = new Map(used.map((pattern, p) => [pattern, posteriors[p] ?? []]));
  const all = patterns.map((pattern) => found.get(pattern) ?? shares(pattern.votes, classes));
  return { posteriors: all, accuracies: accuraciesOf(patterns, all), iterations };
}

function shares(votes: readonly (number | null)[], classes: number): readonly number[] {
  const given = votes.filter((vote) => vote !== null);
  if (given.length === 0) return new Array<number>(classes).fill(1 / classes);
  const counts = new Array<number>(classes).fill(0);
  for (const vote of given) counts[vote] = (counts[vote] ?? 0) + 1;
  return counts.map((count) => count / given.length);
}

function accuraciesOf(patterns: readonly VotePattern[], posteriors: readonly (readonly number[])[]): readonly number[] {
  const voters = patterns[0]?.votes.length ?? 0;
  return Array.from({ length: voters }, (_, voter) => {
    let right = 0;
    let given = 0;
    patterns.forEach(({ votes, rows }, p) => {
      const vote = votes[voter];
      if (vote === null || vote === undefined) return;
      given += rows;
      right += rows * (posteriors[p]?.[vote] ?? 0);
    });
    return given === 0 ? Number.NaN : right / given;
  });
}
