import { describe, expect, it } from 'vitest';
import { DomainDriftSchema } from '../../../../contracts/drift.ts';
import { classifyDomain, type DomainRows } from '../../../../ml/drift/domain-classifier.ts';
import { createRandom } from '../../../../ml/random.ts';

/** Two normal columns, in recent rows with that correlation and mean, and a category. */
function rowsOf({ rows = 1_000, correlation = 0, shift = 0, seed = 1 }): DomainRows {
  const random = createRandom(seed);
  const data = new Float32Array(rows * 3);
  const recent = new Float64Array(rows);
  for (let row = 0; row < rows; row++) {
    const isRecent = row % 2 === 1;
    recent[row] = isRecent ? 1 : 0;
    const [a, b] = [random.normal(), random.normal()];
    const r = isRecent ? correlation : 0;
    data[row] = a + (isRecent ? shift : 0);
    data[rows + row] = r * a + Math.sqrt(1 - r * r) * b;
    data[2 * rows + row] = random.below(4);
  }
  return { x: { kind: 'dense', rows, columns: 3, data }, recent, names: ['a', 'b', 'kind'], categories: [0, 0, 4] };
}

describe('a domain classifier', () => {
  it('tells sides of one distribution from each other as often as a coin does', async () => {
    for (const classifier of ['gbdt', 'linear'] as const) {
      let inside = 0;
      for (let seed = 1; seed <= 3; seed++) {
        const found = await classifyDomain(rowsOf({ seed }), { seed, classifier });
        expect(DomainDriftSchema.parse(found)).toEqual(found);
        expect(Math.abs(found.auc - 0.5)).toBeLessThan(0.08);
        if (found.pValue > 0.01) inside++;
      }
      expect(inside).toBeGreaterThanOrEqual(2);
    }
  });

  it('names the column that moved', async () => {
    for (const classifier of ['gbdt', 'linear'] as const) {
      const found = await classifyDomain(rowsOf({ shift: 1 }), { seed: 3, classifier });
      // the best area of two normal distributions one deviation apart is Φ(1/√2) = 0.760
      expect(found.auc).toBeGreaterThan(0.71);
      expect(found.low).toBeLessThan(0.77);
      expect(found.pValue).toBeLessThan(1e-10);
      expect(found.columns[0]?.column).toBe('a');
      expect(found.columns.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 9);
    }
  });

  it('sees two columns that go together where each by itself is as it was', async () => {
    const found = await classifyDomain(rowsOf({ rows: 2_000, correlation: 0.95 }), { seed: 5 });
    expect(found.low).toBeGreaterThan(0.6);
    expect(new Set(found.columns.slice(0, 2).map(({ column }) => column))).toEqual(new Set(['a', 'b']));
    expect(await classifyDomain(rowsOf({ rows: 2_000, correlation: 0.95 }), { seed: 5 })).toEqual(found);
  });

  it('bears missing values and constants, and says what it lacks', async () => {
    const { x, recent, ...rest } = rowsOf({ rows: 200 });
    const constant = { ...x, data: x.data.map((_, at) => (at < 200 ? Number.NaN : 1)) };
    for (const classifier of ['gbdt', 'linear'] as const) {
      const found = await classifyDomain({ x: constant, recent, ...rest }, { seed: 1, classifier });
      expect(found.auc).toBeCloseTo(0.5, 1);
      expect(found.columns.every(({ share }) => Number.isFinite(share))).toBe(true);
    }
    await expect(classifyDomain({ x, recent: new Float64Array(200), ...rest }, { seed: 1 })).rejects.toMatchObject({ code: 'SPLIT_IMPOSSIBLE' });
    await expect(classifyDomain({ x, recent, ...rest }, { seed: 1, signal: AbortSignal.abort(new Error('stop')) })).rejects.toThrow('stop');
  });
});
