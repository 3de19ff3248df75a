import { describe, expect, it } from 'vitest';
import { latencyBin, latencyBoundMs, NOT_A_NUMBER_BIN, probabilityBin, VALUE_BINS, valueBin } from '../../../contracts/serving-bins.ts';
import type { Signature } from '../../../contracts/signature.ts';
import { createServingFigures } from '../../../serving/serving-figures.ts';

const signature = (task: Signature['task'], threshold = 0.5): Signature => ({
  columns: [],
  transforms: [],
  graph: { numbers: [], dates: [], strings: [] },
  task,
  threshold,
});
const served = { model: 'm', version: 3, predictor: 'a'.repeat(64) };

describe('figures of a version', () => {
  it('are given out second by second, each request once', () => {
    const figures = createServingFigures('server-1');
    const version = figures.of('flights', served);
    expect(figures.of('flights', served)).toBe(version);
    version.count(200, 1, 2);
    version.count(500, 1, 30);
    version.count(400, 1, 0.01);
    expect(figures.takeInterval(10_500)).toEqual([
      {
        server: 'server-1',
        endpoint: 'flights',
        model: 'm',
        version: 3,
        from: '1970-01-01T00:00:09.000Z',
        requests: 3,
        errors: 1,
        latencyMsSum: 32.01,
        latencyMsMax: 30,
        latency: [0, 1, latencyBin(2), 1, latencyBin(30), 1],
        labels: [],
        outputs: [],
        compared: 0,
        equal: 0,
      },
    ]);
    expect(figures.takeInterval(11_500)).toEqual([]);
    version.count(200, 1, 2);
    expect(figures.takeInterval(11_600)[0]).toMatchObject({
      from: '1970-01-01T00:00:10.000Z',
      requests: 1,
      errors: 0,
      latencyMsMax: 2,
      latency: [latencyBin(2), 1],
    });
  });

  it('hold the answered classes, by the threshold, and the probabilities of the positive one', () => {
    const figures = createServingFigures('server-1');
    const version = figures.of('flights', served);
    version.count(200, 3, 1);
    const binary = signature({ kind: 'binary', target: 'late', classes: ['no', 'yes'] }, 0.7);
    // the first row is another request's
    version.countOutputs(binary, [0, 1, 0.4, 0.6, 0.1, 0.9, Number.NaN, Number.NaN], 2, 1, 3);
    expect(figures.takeInterval(1_000)[0]).toMatchObject({ labels: [0, 1, 1, 1, NOT_A_NUMBER_BIN, 1], outputs: [12, 1, 18, 1, NOT_A_NUMBER_BIN, 1] });
  });

  it('hold the classes of several, and the values of numbers', () => {
    const figures = createServingFigures('server-1');
    const several = figures.of('several', served);
    several.count(200, 2, 1);
    several.countOutputs(signature({ kind: 'multiclass', target: 't', classes: ['a', 'b', 'c'] }), [0.1, 0.2, 0.7, 0.5, 0.3, 0.2], 3, 0, 2);
    const numbers = figures.of('numbers', served);
    numbers.count(200, 3, 1);
    numbers.countOutputs(signature({ kind: 'regression', target: 't' }), [100, 101, -5], 1, 0, 3);
    const [one, two] = figures.takeInterval(1_000);
    expect(one).toMatchObject({ labels: [0, 1, 2, 1], outputs: [0, 1, 2, 1] });
    expect(two).toMatchObject({ labels: [], outputs: [valueBin(-5), 1, valueBin(100), 2] });
  });

  it('hold pairs of a shadow, also in a second without requests', () => {
    const figures = createServingFigures('server-1');
    figures.of('flights', served).countCompared(10, 9);
    expect(figures.takeInterval(1_000)).toMatchObject([{ requests: 0, compared: 10, equal: 9 }]);
    expect(figures.takeInterval(2_000)).toEqual([]);
  });
});

describe('bins', () => {
  it('of latencies hold what lies above the bound before, up to their own', () => {
    expect([0, 0.05, Number.NaN].map(latencyBin)).toEqual([0, 0, 0]);
    for (const bin of [1, 40, 100, 150]) {
      expect(latencyBin(latencyBoundMs(bin))).toBe(bin);
      expect(latencyBin(latencyBoundMs(bin) * 1.001)).toBe(bin + 1);
    }
    expect(latencyBoundMs(latencyBin(3_600_000))).toBe(Number.POSITIVE_INFINITY);
  });

  it('of values mirror negative ones, keep zero apart, and have an end', () => {
    const middle = valueBin(0);
    expect(middle).toBe((VALUE_BINS - 1) / 2);
    for (const value of [1e-5, 0.3, 7, 1e6]) expect(valueBin(value) - middle).toBe(middle - valueBin(-value));
    expect(valueBin(8) - valueBin(4)).toBe(4);
    expect([valueBin(Infinity), valueBin(-Infinity), valueBin(1e-9), valueBin(Number.NaN)]).toEqual([VALUE_BINS - 1, 0, middle, NOT_A_NUMBER_BIN]);
  });

  it('of probabilities are twenty', () => {
    expect([0, 0.049, 0.05, 0.999, 1, 1.0001, -0.001].map(probabilityBin)).toEqual([0, 0, 1, 19, 19, 19, 0]);
  });
});
