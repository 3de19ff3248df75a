import { describe, expect, test } from 'vitest';
import { createBinFinder, findBounds, sampleRows, writeBins } from '../../../ml/gbdt/binning.ts';
import { bindKernels, compileKernels, HISTOGRAM_STRIDE_BYTES, MAX_GROUP_WIDTH } from '../../../ml/gbdt/kernels.ts';
import { rocAuc } from '../../../ml/gbdt/roc-auc.ts';
import { createSeededRandom } from '../../../ml/gbdt/seeded-random.ts';
import { wasmRuntime } from '../../../ml/gbdt/wasm-runtime.ts';

const PAGES = 32;
const memory = new wasmRuntime.Memory({ initial: PAGES, maximum: PAGES, shared: true });
const kernels = bindKernels(compileKernels(PAGES), memory);
const bytes = new Uint8Array(memory.buffer);
const ints = new Int32Array(memory.buffer);
const floats = new Float32Array(memory.buffer);
const doubles = new Float64Array(memory.buffer);
const at = { bins: 4096, order: 65_536, derivatives: 131_072, histogram: 262_144, second: 524_288, goesLeft: 1024, right: 786_432 };

describe('kernels', () => {
  test('the exponential is right to 1e-10 over its whole range, and passes on what is not a number', () => {
    const values = Array.from({ length: 1024 }, (_, i) => (i - 512) * 1.37);
    doubles.set(values, at.second / 8);
    doubles[at.second / 8 + 3] = Number.NaN;
    kernels.exponential(at.second, at.second + 1024 * 8);
    values.forEach((value, i) => {
      if (i === 3) expect(doubles[at.second / 8 + i]).toBeNaN();
      else expect((doubles[at.second / 8 + i] ?? 0) / Math.exp(value) - 1).toBeCloseTo(0, 10);
    });
  });

  test.each(Array.from({ length: MAX_GROUP_WIDTH }, (_, i) => i + 1))(
    'a histogram of %i features adds each row to its bins, by order and by range',
    (width) => {
      const random = createSeededRandom(width, 1);
      const rows = 500;
      for (let i = 0; i < rows * width; i += 1) bytes[at.bins + i] = Math.floor(random() * 256);
      for (let i = 0; i < rows * 2; i += 1) floats[at.derivatives / 4 + i] = Math.fround(random() - 0.5);
      const chosen = Array.from({ length: 200 }, (_, i) => 100 + i);
      ints.set(chosen, at.order / 4);
      kernels.clear(at.histogram, width * HISTOGRAM_STRIDE_BYTES);
      kernels.clear(at.second, width * HISTOGRAM_STRIDE_BYTES);
      kernels.histogram[width - 1]?.(at.bins, at.order, at.order + 800, at.derivatives, at.histogram);
      kernels.histogramOfRange[width - 1]?.(at.bins, 100, 300, at.derivatives, at.second);
      const expected = new Float64Array((width * HISTOGRAM_STRIDE_BYTES) / 8);
      for (const row of chosen) {
        for (let f = 0; f < width; f += 1) {
          const target = (f * HISTOGRAM_STRIDE_BYTES) / 8 + 2 * (bytes[at.bins + row * width + f] ?? 0);
          expected[target] = (expected[target] ?? 0) + (floats[at.derivatives / 4 + 2 * row] ?? 0);
          expected[target + 1] = (expected[target + 1] ?? 0) + (floats[at.derivatives / 4 + 2 * row + 1] ?? 0);
        }
      }
      expect(doubles.slice(at.histogram / 8, at.histogram / 8 + expected.length)).toEqual(expected);
      expect(doubles.slice(at.second / 8, at.second / 8 + expected.length)).toEqual(expected);
      kernels.subtractHistogram(at.histogram, at.histogram + width * HISTOGRAM_STRIDE_BYTES, at.second);
      expect(doubles.slice(at.histogram / 8, at.histogram / 8 + expected.length).every((sum) => sum === 0)).toBe(true);
    },
  );

  test('the partition keeps the order of both sides, in place and from a range', () => {
    const rows = 1000;
    for (let i = 0; i < rows * 3; i += 1) bytes[at.bins + i] = (i * 37) % 256;
    for (let b = 0; b < 256; b += 1) bytes[at.goesLeft + b] = b % 3 === 0 ? 1 : 0;
    const left = Array.from({ length: rows }, (_, row) => row).filter((row) => (bytes[at.bins + row * 3 + 1] ?? 0) % 3 === 0);
    const right = Array.from({ length: rows }, (_, row) => row).filter((row) => (bytes[at.bins + row * 3 + 1] ?? 0) % 3 !== 0);
    ints.set(
      Array.from({ length: rows }, (_, row) => row),
      at.order / 4,
    );
    const inPlace = kernels.partition(at.bins + 1, 3, at.order, at.order + rows * 4, at.goesLeft, at.order, at.right);
    expect((inPlace - at.order) / 4).toBe(left.length);
    expect([...ints.slice(at.order / 4, at.order / 4 + left.length)]).toEqual(left);
    expect([...ints.slice(at.right / 4, at.right / 4 + right.length)]).toEqual(right);
    const fromRange = kernels.partitionRange(at.bins + 1, 3, 0, rows, at.goesLeft, at.second, at.right);
    expect([...ints.slice(at.second / 4, fromRange / 4)]).toEqual(left);
  });
});

describe('bins', () => {
  const EDGES = [Number.NEGATIVE_INFINITY, -3.4e38, -7, -1e-45, -0, 0, 1e-45, 0.1, 1, Math.fround(1 + 2 ** -23), 250, 3.4e38, Number.POSITIVE_INFINITY];

  test('the table finds the bin that comparing with every bound finds, also at the edges of float32', () => {
    const random = createSeededRandom(3, 1);
    for (const maxBins of [2, 16, 255]) {
      const values = Float32Array.from({ length: 5000 }, (_, i) =>
        i % 10 === 0 ? (EDGES[Math.floor(random() * EDGES.length)] ?? 0) : (random() - 0.5) * 10 ** Math.floor(random() * 12 - 6),
      );
      const bounds = findBounds(values.slice(), maxBins);
      expect(bounds.length).toBeLessThanOrEqual(maxBins);
      expect(bounds.at(-1)).toBe(Number.POSITIVE_INFINITY);
      const bins = new Uint8Array(values.length);
      writeBins(createBinFinder(bounds), values, new Int32Array(values.buffer), 0, values.length, bounds.length, bins, 0, 1);
      values.forEach((value, i) => {
        expect(bins[i]).toBe(bounds.findIndex((bound) => value <= bound));
      });
    }
  });

  test('few distinct values get a bin each, bounds at the middles', () => {
    expect([...findBounds(Float32Array.of(...[1, 2, 4].flatMap((v) => [v, v, v, v]), Number.NaN), 255)]).toEqual([1.5, 3, Number.POSITIVE_INFINITY]);
  });

  test('many distinct values get bins of about equal counts, and a frequent value one of its own', () => {
    const values = Float32Array.from({ length: 20_000 }, (_, i) => (i % 2 === 0 ? 0.5 : i / 20_000));
    const bounds = findBounds(values.slice(), 11);
    const counts = new Array<number>(bounds.length).fill(0);
    for (const value of values) {
      const bin = bounds.findIndex((bound) => value <= bound);
      counts[bin] = (counts[bin] ?? 0) + 1;
    }
    expect(Math.max(...counts)).toBeLessThan(10_200);
    expect([...counts].sort((a, b) => b - a)[1]).toBeLessThan(1200);
  });

  test('the sample is of ascending rows, fixed by the seed, and all rows when they are few', () => {
    expect([...sampleRows(5, 1)]).toEqual([0, 1, 2, 3, 4]);
    const rows = sampleRows(1_000_000, 4);
    expect(rows).toHaveLength(200_000);
    expect(rows.every((row, i) => i === 0 || row > (rows[i - 1] ?? 0))).toBe(true);
    expect(sampleRows(1_000_000, 4)).toEqual(rows);
    expect(sampleRows(1_000_000, 5)).not.toEqual(rows);
  });
});

describe('area under the ROC curve', () => {
  test('is the one that scikit-learn 1.9.1 gives, ties and weights included', () => {
    const y = Float64Array.of(0, 0, 1, 1, 0, 1, 1, 0);
    const scores = Float64Array.of(0.1, 0.4, 0.35, 0.8, 0.4, 0.4, 0.9, 0.2);
    expect(rocAuc(y, scores)).toBeCloseTo(0.8125, 12);
    expect(rocAuc(y, scores, Float64Array.of(1, 2, 1, 3, 1, 1, 2, 1))).toBeCloseTo(0.8714285714285714, 12);
  });
});
