import { calibrationError } from './binary.ts';
import { descendingOrder, type Figures, type Judge, judgeOf, once, ratio, requireAnswers, totalOf } from './judge.ts';

/** Of more classes the areas under pairs of them say little and cost much. */
const MOST_RANKED_CLASSES = 100;

interface ClassCounts {
  readonly hits: Float64Array;
  readonly answered: Float64Array;
  readonly present: Float64Array;
}

interface Areas {
  readonly ovr: number;
  readonly ovrWeighted: number;
  readonly ovo: number;
  readonly ovoWeighted: number;
}

interface Pass {
  readonly total: () => number;
  readonly counts: () => ClassCounts;
  readonly areas: () => Areas;
  readonly quadraticKappa: () => number;
  readonly mean: (of: (row: number) => number) => number;
  readonly ece: () => number;
}

type ClassFigure = (counts: ClassCounts, k: number) => number;
const at = (values: Float64Array, k: number): number => values[k] as number;
const precision: ClassFigure = (c, k) => ratio(at(c.hits, k), at(c.answered, k));
const recall: ClassFigure = (c, k) => ratio(at(c.hits, k), at(c.present, k));
const f1: ClassFigure = (c, k) => ratio(2 * at(c.hits, k), at(c.answered, k) + at(c.present, k));

/** The mean over the classes that occur or are answered, plain or by their rows. */
function meanOver(counts: ClassCounts, figure: ClassFigure, byRows: boolean): number {
  let sum = 0;
  let whole = 0;
  for (let k = 0; k < counts.hits.length; k++) {
    if (at(counts.answered, k) + at(counts.present, k) === 0) continue;
    const weight = byRows ? at(counts.present, k) : 1;
    sum += weight * figure(counts, k);
    whole += weight;
  }
  return ratio(sum, whole);
}

/**
 * Judges a classification with K classes; `probabilities` is [rows × K].
 * @throws SOURCE_EMPTY, MODEL_INVALID
 */
export function multiclassJudge(y: Float64Array, probabilities: Float64Array, classes: number): Judge {
  requireAnswers(y, probabilities, classes);
  const rows = y.length;
  const answers = mostProbable(probabilities, classes);
  const orders = once(() =>
    Array.from({ length: classes }, (_, k) => {
      const scores = columnOf(probabilities, classes, k);
      return { scores, order: descendingOrder(scores) };
    }),
  );
  const losses = once(() =>
    Float64Array.from(y, (label, row) => -Math.log(Math.min(1 - Number.EPSILON, Math.max(Number.EPSILON, probabilities[row * classes + label] as number)))),
  );
  const places = once(() => placesOf(y, probabilities, classes));
  const squares = once(() => squaredDistances(y, probabilities, classes));
  const topK = (k: number) => (pass: Pass) => {
    const place = places();
    return pass.mean((row) => ((place[row] as number) < k ? 1 : 0));
  };
  const ranked = classes <= MOST_RANKED_CLASSES;
  const figures: Figures<Pass> = {
    logLoss: (pass) => {
      const loss = losses();
      return pass.mean((row) => loss[row] as number);
    },
    brier: (pass) => {
      const square = squares();
      return pass.mean((row) => square[row] as number);
    },
    accuracy: (pass) => pass.counts().hits.reduce((sum, hit) => sum + hit, 0) / pass.total(),
    macroF1: (pass) => meanOver(pass.counts(), f1, false),
    balancedAccuracy: (pass) => balanced(pass.counts()),
    macroPrecision: (pass) => meanOver(pass.counts(), precision, false),
    macroRecall: (pass) => meanOver(pass.counts(), recall, false),
    weightedPrecision: (pass) => meanOver(pass.counts(), precision, true),
    weightedRecall: (pass) => meanOver(pass.counts(), recall, true),
    weightedF1: (pass) => meanOver(pass.counts(), f1, true),
    matthews: (pass) => matthews(pass.counts(), pass.total()),
    cohenKappa: (pass) => kappa(pass.counts(), pass.total()),
    quadraticKappa: (pass) => pass.quadraticKappa(),
    ece: (pass) => pass.ece(),
    ...(ranked
      ? {
          aucOvr: (pass: Pass) => pass.areas().ovr,
          aucOvrWeighted: (pass: Pass) => pass.areas().ovrWeighted,
          aucOvo: (pass: Pass) => pass.areas().ovo,
          aucOvoWeighted: (pass: Pass) => pass.areas().ovoWeighted,
        }
      : {}),
    ...(classes > 2 ? { top2Accuracy: topK(2) } : {}),
    ...(classes > 3 ? { top3Accuracy: topK(3) } : {}),
    ...(classes > 5 ? { top5Accuracy: topK(5) } : {}),
  };
  const confidence = once(() => Float64Array.from(answers, (k, row) => probabilities[row * classes + k] as number));
  const right = Float64Array.from(answers, (k, row) => (k === y[row] ? 1 : 0));
  return judgeOf<Pass>(rows, figures, (weights) => {
    const total = once(() => totalOf(weights, rows));
    const counts = once(() => countClasses(y, answers, classes, weights));
    return {
      total,
      counts,
      mean: (of) => {
        let sum = 0;
        for (let row = 0; row < rows; row++) sum += (weights === undefined ? 1 : (weights[row] as number)) * of(row);
        return sum / total();
      },
      areas: once(() => areasUnder(y, classes, counts().present, orders(), weights)),
      quadraticKappa: () => quadraticKappa(y, answers, counts(), total(), weights),
      ece: () => calibrationError(right, confidence(), weights, total()),
    };
  });
}

/** The most probable class of each row; of equal ones the first. */
export function mostProbable(probabilities: Float64Array, classes: number): Float64Array {
  return Float64Array.from({ length: probabilities.length / classes }, (_, row) => {
    let best = 0;
    for (let k = 1; k < classes; k++) if ((probabilities[row * classes + k] as number) > (probabilities[row * classes + best] as number)) best = k;
    return best;
  });
}

const columnOf = (probabilities: Float64Array, classes: number, k: number): Float64Array =>
  Float64Array.from({ length: probabilities.length / classes }, (_, row) => probabilities[row * classes + k] as number);

/** How many classes stand before the row's own; of equal ones the last class stands first, as scikit-learn has it. */
function placesOf(y: Float64Array, probabilities: Float64Array, classes: number): Float64Array {
  return Float64Array.from(y, (label, row) => {
    const own = probabilities[row * classes + label] as number;
    let before = 0;
    for (let k = 0; k < classes; k++) {
      const p = probabilities[row * classes + k] as number;
      if (p > own || (p === own && k > label)) before++;
    }
    return before;
  });
}

function squaredDistances(y: Float64Array, probabilities: Float64Array, classes: number): Float64Array {
  return Float64Array.from(y, (label, row) => {
    let sum = 0;
    for (let k = 0; k < classes; k++) sum += ((probabilities[row * classes + k] as number) - (k === label ? 1 : 0)) ** 2;
    return sum;
  });
}

function countClasses(y: Float64Array, answers: Float64Array, classes: number, weights: Float64Array | undefined): ClassCounts {
  const [hits, answered, present] = [new Float64Array(classes), new Float64Array(classes), new Float64Array(classes)];
  for (let row = 0; row < y.length; row++) {
    const [label, answer] = [y[row] as number, answers[row] as number];
    const weight = weights === undefined ? 1 : (weights[row] as number);
    answered[answer] = (answered[answer] as number) + weight;
    present[label] = (present[label] as number) + weight;
    if (answer === label) hits[label] = (hits[label] as number) + weight;
  }
  return { hits, answered, present };
}

function balanced(counts: ClassCounts): number {
  const there = [...counts.present.keys()].filter((k) => at(counts.present, k) > 0);
  return ratio(
    there.reduce((sum, k) => sum + recall(counts, k), 0),
    there.length,
  );
}

/** Gorodkin (2004), from the classes' totals. */
function matthews({ hits, answered, present }: ClassCounts, total: number): number {
  let [right, both, squaresAnswered, squaresPresent] = [0, 0, 0, 0];
  for (let k = 0; k < hits.length; k++) {
    right += at(hits, k);
    both += at(answered, k) * at(present, k);
    squaresAnswered += at(answered, k) ** 2;
    squaresPresent += at(present, k) ** 2;
  }
  return ratio(right * total - both, Math.sqrt(Math.max(0, total ** 2 - squaresAnswered) * Math.max(0, total ** 2 - squaresPresent)));
}

function kappa({ hits, answered, present }: ClassCounts, total: number): number {
  let [right, chance] = [0, 0];
  for (let k = 0; k < hits.length; k++) {
    right += at(hits, k);
    chance += (at(answered, k) * at(present, k)) / total;
  }
  return total - chance === 0 ? Number.NaN : 1 - (total - right) / (total - chance);
}

function quadraticKappa(y: Float64Array, answers: Float64Array, counts: ClassCounts, total: number, weights: Float64Array | undefined): number {
  let found = 0;
  for (let row = 0; row < y.length; row++)
    found += (weights === undefined ? 1 : (weights[row] as number)) * ((y[row] as number) - (answers[row] as number)) ** 2;
  // Σᵢⱼ nᵢ mⱼ (i - j)² from the moments of both margins
  const moments = (margin: Float64Array): [number, number] => [
    margin.reduce((sum, weight, k) => sum + weight * k, 0),
    margin.reduce((sum, weight, k) => sum + weight * k * k, 0),
  ];
  const [firstPresent, secondPresent] = moments(counts.present);
  const [firstAnswered, secondAnswered] = moments(counts.answered);
  const expected = (secondPresent * total + secondAnswered * total - 2 * firstPresent * firstAnswered) / total;
  return expected === 0 ? Number.NaN : 1 - found / expected;
}

/** One pass a class: rows of the class against each other class (one against one), and against all (one against the rest). */
function areasUnder(
  y: Float64Array,
  classes: number,
  present: Float64Array,
  columns: readonly { readonly scores: Float64Array; readonly order: Uint32Array }[],
  weights: Float64Array | undefined,
): Areas {
  const rows = y.length;
  const there = [...present.keys()].filter((k) => at(present, k) > 0);
  if (there.length < 2) return { ovr: Number.NaN, ovrWeighted: Number.NaN, ovo: Number.NaN, ovoWeighted: Number.NaN };
  const total = there.reduce((sum, k) => sum + at(present, k), 0);
  const pair = new Float64Array(classes * classes);
  let [ovr, ovrWeighted] = [0, 0];
  for (const a of there) {
    const { scores, order } = columns[a] as { scores: Float64Array; order: Uint32Array };
    let above = 0;
    for (let i = 0; i < rows; ) {
      const score = scores[order[i] as number];
      const from = i;
      let own = 0;
      for (; i < rows && scores[order[i] as number] === score; i++) {
        const row = order[i] as number;
        if (y[row] === a) own += weights === undefined ? 1 : (weights[row] as number);
      }
      for (let j = from; j < i; j++) {
        const row = order[j] as number;
        const cell = a * classes + (y[row] as number);
        pair[cell] = (pair[cell] as number) + (weights === undefined ? 1 : (weights[row] as number)) * (above + own / 2);
      }
      above += own;
    }
    const against = there.filter((b) => b !== a).reduce((sum, b) => sum + at(pair, a * classes + b), 0);
    const area = against / (at(present, a) * (total - at(present, a)));
    ovr += area / there.length;
    ovrWeighted += (area * at(present, a)) / total;
  }
  let [ovo, pairs, ovoWeighted, share] = [0, 0, 0, 0];
  for (const a of there) {
    for (const b of there) {
      if (b <= a) continue;
      const area = (at(pair, a * classes + b) + at(pair, b * classes + a)) / (2 * at(present, a) * at(present, b));
      const prevalence = at(present, a) + at(present, b);
      ovo += area;
      pairs++;
      ovoWeighted += area * prevalence;
      share += prevalence;
    }
  }
  return { ovr, ovrWeighted, ovo: ovo / pairs, ovoWeighted: ovoWeighted / share };
}
