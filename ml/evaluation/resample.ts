import { createRandom, type Random } from '../random.ts';

/** Gives the weights of one bootstrap replicate after the other: how often each row was drawn. The array is used again. */
export type Resampler = () => Float64Array;

/** Draws rows with replacement, from each stratum as many as it has (Efron 1979). */
export function rowResampler(strata: readonly Uint32Array[], rows: number, seed: number): Resampler {
  const random = createRandom(seed);
  const weights = new Float64Array(rows);
  return () => {
    weights.fill(0);
    for (const stratum of strata) {
      for (let i = 0; i < stratum.length; i++) {
        const row = stratum[random.below(stratum.length)] as number;
        weights[row] = (weights[row] as number) + 1;
      }
    }
    return weights;
  };
}

/** Draws how often each bin of `counts` rows comes (Poisson), then scales each stratum to its rows. */
export function binResampler(counts: Float64Array, strata: readonly Uint32Array[], seed: number): Resampler {
  const random = createRandom(seed);
  const weights = new Float64Array(counts.length);
  const totals = strata.map((bins) => bins.reduce((sum, bin) => sum + (counts[bin] as number), 0));
  return () => {
    strata.forEach((bins, s) => {
      let drawn = 0;
      for (const bin of bins) drawn += weights[bin] = poisson(counts[bin] as number, random);
      const scale = drawn === 0 ? 0 : (totals[s] as number) / drawn;
      for (const bin of bins) weights[bin] = (weights[bin] as number) * scale;
    });
    return weights;
  };
}

/** Above this the normal distribution is near enough: its third moment is off by less than 1 in 7. */
const MOST_INVERTED = 50;

function poisson(mean: number, random: Random): number {
  if (mean > MOST_INVERTED) return Math.max(0, Math.round(mean + Math.sqrt(mean) * random.normal()));
  let left = random.next();
  let share = Math.exp(-mean);
  let k = 0;
  while (left >= share && k < 10 * MOST_INVERTED) {
    left -= share;
    k++;
    share *= mean / k;
  }
  return k;
}

/** Above this variance the normal distribution is near enough: its third moment is off by less than 1 in 5. */
const MOST_EXACT_VARIANCE = 25;

/** How many of `trials` succeed, each with probability `p`. */
export function binomial(trials: number, p: number, random: Random): number {
  if (p > 0.5) return trials - binomial(trials, 1 - p, random);
  if (p <= 0) return 0;
  if (trials * p * (1 - p) > MOST_EXACT_VARIANCE) {
    return Math.min(trials, Math.max(0, Math.round(trials * p + Math.sqrt(trials * p * (1 - p)) * random.normal())));
  }
  let left = random.next();
  let share = (1 - p) ** trials;
  let k = 0;
  while (left >= share && k < trials) {
    left -= share;
    k++;
    share *= ((trials - k + 1) / k) * (p / (1 - p));
  }
  return k;
}

/** Row numbers by class, in their order; all in one where there are no classes. */
export function strataOf(y: Float64Array, classes: number | undefined): Uint32Array[] {
  if (classes === undefined) return [Uint32Array.from(y.keys())];
  const strata = Array.from({ length: classes }, (): number[] => []);
  y.forEach((label, row) => strata[label]?.push(row));
  return strata.filter((rows) => rows.length > 0).map((rows) => Uint32Array.from(rows));
}
