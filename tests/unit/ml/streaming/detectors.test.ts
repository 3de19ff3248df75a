import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type DetectorOptionsInput, DetectorStateSchema, KswinOptionsSchema } from '../../../../contracts/detectors.ts';
import { MillraceError } from '../../../../contracts/errors.ts';
import { createDetector, restoreDetector } from '../../../../ml/streaming/create-detector.ts';
import type { Detector } from '../../../../ml/streaming/detector.ts';
import { createKswin, equalSizesPValue } from '../../../../ml/streaming/kswin.ts';
import { createRandom } from '../../../../ml/random.ts';

interface River {
  readonly river: string;
  readonly elec2Errors: { readonly count: number; readonly bits: string };
  readonly elec2PriceMillionths: readonly number[];
  readonly cases: readonly {
    readonly kind: string;
    readonly options: Readonly<Record<string, unknown>>;
    readonly stream: string;
    readonly drift: readonly number[];
    readonly warnings?: number;
    readonly firstWarnings?: readonly number[];
  }[];
  readonly ownDraws: {
    readonly options: { readonly alpha: number; readonly windowSize: number; readonly statSize: number };
    readonly stream: string;
    readonly from: number;
    readonly to: number;
    readonly drift: readonly number[];
    readonly draws: string;
  };
}

// written by tests/fixtures/streaming/write.py with River 0.26.1
const river = JSON.parse(readFileSync(new URL('../../../fixtures/streaming/river.json', import.meta.url), 'utf8')) as River;

function seeded(seed: number, count: number, value: (i: number, uniform: () => number) => number): number[] {
  const random = createRandom(seed);
  return Array.from({ length: count }, (_, i) => value(i, () => random.next()));
}
const bell = (uniform: () => number): number => uniform() + uniform() + uniform() + uniform() - 2;
const bits = Buffer.from(river.elec2Errors.bits, 'base64');

const STREAMS: Readonly<Record<string, readonly number[]>> = {
  'abrupt errors': seeded(1, 3000, (i, u) => (u() < (i < 1500 ? 0.2 : 0.45) ? 1 : 0)),
  'abrupt values': seeded(2, 2000, (i, u) => bell(u) + (i < 1000 ? 0 : 1)),
  gradual: seeded(3, 4000, (i, u) => bell(u) + i / 2000),
  'better and worse': seeded(4, 4000, (i, u) => (u() < ([0.4, 0.1, 0.6, 0.2][Math.floor(i / 1000)] ?? 0) ? 1 : 0)),
  wider: seeded(5, 2000, (i, u) => bell(u) * (i < 1000 ? 1 : 4)),
  'far from zero': seeded(6, 2000, (i, u) => 1_000_000 + bell(u) - (i < 900 ? 0 : 2)),
  'no change': seeded(7, 4000, (_, u) => bell(u)),
  constant: new Array<number>(1500).fill(0.25),
  alternating: Array.from({ length: 1500 }, (_, i) => i % 2),
  'one outlier': Array.from({ length: 900 }, (_, i) => (i === 400 ? 1000 : 1)),
  tiny: [0, 1, 1, 0, 1],
  'one value': [1],
  none: [],
  'elec2 errors': Array.from({ length: river.elec2Errors.count }, (_, i) => ((bits[i >> 3] ?? 0) >> (7 - (i & 7))) & 1),
  'elec2 prices': river.elec2PriceMillionths.map((price) => price / 1e6),
};

function flags(detector: Detector, stream: readonly number[]): { readonly drift: number[]; readonly warnings: number[] } {
  const [drift, warnings]: [number[], number[]] = [[], []];
  stream.forEach((value, i) => {
    const signal = detector.update(value);
    if (signal.drift) drift.push(i);
    if (signal.warning === true) warnings.push(i);
  });
  return { drift, warnings };
}

const throughJson = (detector: Detector): Detector => restoreDetector(JSON.parse(JSON.stringify(detector.state())));

const KINDS: readonly DetectorOptionsInput[] = [
  { kind: 'adwin', clock: 4, delta: 0.2 },
  { kind: 'pageHinkley', threshold: 1, minInstances: 5 },
  { kind: 'ddm', warmStart: 5, driftThreshold: 2 },
  { kind: 'kswin', windowSize: 20, statSize: 8, alpha: 0.05, seed: 3 },
];

describe('streaming detectors', () => {
  it.each(river.cases.map((given) => [given.kind, JSON.stringify(given.options), given.stream, given] as const))(
    '%s %s flags what River flags: %s',
    (kind, _, stream, expected) => {
      const values = STREAMS[stream] ?? [];
      const found = flags(createDetector({ kind, ...expected.options } as DetectorOptionsInput), values);
      expect(found.drift).toEqual(expected.drift);
      if (expected.warnings !== undefined) {
        expect(found.warnings).toHaveLength(expected.warnings);
        expect(found.warnings.slice(0, 20)).toEqual(expected.firstWarnings);
      }
    },
  );

  it('flag changes on real errors, and nothing on what never changes', () => {
    const found = (stream: string): number => river.cases.reduce((sum, one) => sum + (one.stream === stream ? one.drift.length : 0), 0);
    expect(found('elec2 errors')).toBeGreaterThan(100);
    expect(found('constant')).toBe(0);
  });

  it("kswin flags what River flags with River's own draws", () => {
    const { options, stream, from, to, drift, draws } = river.ownDraws;
    const indices = Buffer.from(draws, 'base64');
    const given = (draw: number, _of: number, count: number): ArrayLike<number> => indices.subarray(draw * count, (draw + 1) * count);
    const detector = createKswin(KswinOptionsSchema.parse({ kind: 'kswin', ...options }), given);
    expect(flags(detector, STREAMS[stream]?.slice(from, to) ?? []).drift).toEqual(drift);
    expect(drift.length).toBeGreaterThan(0);
  });

  it.each(KINDS)('$kind goes on from its state as if it had never stopped', (options) => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 120 }), fc.nat(120), (values, at) => {
        const whole = createDetector(options);
        let parted = createDetector(options);
        for (const [i, value] of values.entries()) {
          if (i === at) parted = throughJson(parted);
          expect(parted.update(value)).toEqual(whole.update(value));
        }
        expect(parted.state()).toEqual(whole.state());
        expect(DetectorStateSchema.parse(parted.state())).toEqual(parted.state());
      }),
      { numRuns: 60, seed: 1 },
    );
  });

  it.each(KINDS)('$kind keeps a state that does not grow with the stream', (options) => {
    const detector = createDetector(options);
    const random = createRandom(8);
    const sizes = [2_000, 60_000].map((count) => {
      for (let i = 0; i < count; i++) detector.update(random.next());
      return JSON.stringify(detector.state()).length;
    });
    expect(sizes[1]).toBeLessThan((sizes[0] ?? 0) * 2 + 500);
    expect(sizes[1]).toBeLessThan(6_000);
  });

  it.each(KINDS)('$kind refuses what is no number and stays as it was', (options) => {
    const detector = createDetector(options);
    detector.update(0.5);
    const before = detector.state();
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY]) expect(() => detector.update(value)).toThrow(MillraceError);
    expect(detector.state()).toEqual(before);
  });

  it('ddm says that it watches error rates', () => {
    expect(() => createDetector({ kind: 'ddm' }).update(3)).toThrow('The detector ddm watches an error rate.');
  });

  it('name every option and every state that does not fit', () => {
    const problemsOf = (call: () => unknown): readonly string[] => {
      try {
        call();
      } catch (error) {
        if (error instanceof MillraceError) return error.problems.map(({ path }) => path);
      }
      return [];
    };
    expect(problemsOf(() => createDetector({ kind: 'adwin', delta: 2, clock: 0 }))).toEqual(['delta', 'clock']);
    expect(problemsOf(() => createDetector({ kind: 'kswin', windowSize: 20, statSize: 15 }))).toEqual(['statSize']);
    expect(problemsOf(() => restoreDetector({ kind: 'ddm', values: -1 }))).toEqual(expect.arrayContaining(['options', 'values', 'errorRate']));
    expect(problemsOf(() => restoreDetector(null))).toEqual(['detector']);
  });
});

describe('docs/monitoring.md', () => {
  const page = readFileSync(new URL('../../../../docs/monitoring.md', import.meta.url), 'utf8');
  const section = /^## Detectors$([\s\S]*?)^## /m.exec(page)?.[1] ?? '';

  it('lists detectors that can be made, and that find their kind of change', () => {
    const listed = JSON.parse(/```json\n([\s\S]*?)```/.exec(section)?.[1] ?? '[]') as { readonly detector: DetectorOptionsInput }[];
    const changed: Readonly<Record<string, readonly number[]>> = {
      adwin: STREAMS['abrupt errors'] ?? [],
      ddm: STREAMS['abrupt errors'] ?? [],
      kswin: STREAMS['wider'] ?? [],
      pageHinkley: Array.from({ length: 80 }, (_, i) => (i < 60 ? 120 + (i % 3) : 240)),
    };
    expect(listed.map(({ detector }) => detector.kind)).toEqual(['adwin', 'ddm', 'kswin', 'pageHinkley']);
    for (const { detector } of listed) {
      const stream = changed[detector.kind] ?? [];
      const [first = 0] = flags(createDetector(detector), stream).drift;
      expect(first, detector.kind).toBeGreaterThanOrEqual(stream.length / 2);
    }
  });

  it('says what the defaults are', () => {
    const defaults = KINDS.map(({ kind }) => createDetector({ kind }).state().options as unknown as Readonly<Record<string, string | number>>);
    for (const { kind, ...options } of defaults) {
      for (const [name, value] of Object.entries(options)) {
        const row = section.split('\n').find((line) => line.includes(`\`${name}\``) && line.split('|').length === 5) ?? '';
        expect(section, `${kind}.${name}`).toContain(`\`${name}\``);
        if (kind === 'adwin' || kind === 'ddm') expect(row.split('|')[2], `${kind}.${name}`).toContain(String(value));
      }
    }
  });
});

describe('the test of two samples of one size', () => {
  it.each([
    // SciPy 1.17.1: ks_2samp(method='exact') of two samples of n values at a distance of h / n
    [1, 1, 1],
    [2, 3, 0.6],
    [5, 10, 0.16782134274394334],
    [12, 30, 0.015643390496754332],
    [13, 30, 0.006548396368058784],
    [60, 300, 1.1562157228282306e-5],
  ])('has the p-value of SciPy at a distance of %i / %i: %d', (h, n, pValue) => {
    expect(Math.abs(equalSizesPValue(h, n) / pValue - 1)).toBeLessThan(1e-9);
  });
});
