import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type LayoutSizes, layered } from '../../../reports/lineage-layout.ts';

const SIZES: LayoutSizes = { nodeWidth: 100, nodeHeight: 40, gapX: 10, gapY: 20 };
const edge = (from: string, to: string) => ({ from, to, how: '' });

describe('the layout of a graph', () => {
  it('puts a chain under one another, in one column', () => {
    const { nodes, width, height } = layered(['a', 'b', 'c'], [edge('a', 'b'), edge('b', 'c')], SIZES);
    expect([...nodes]).toEqual([
      ['a', { x: 50, y: 20 }],
      ['b', { x: 50, y: 80 }],
      ['c', { x: 50, y: 140 }],
    ]);
    expect([width, height]).toEqual([100, 160]);
  });

  it('puts what nothing comes before right above what it leads to', () => {
    const { nodes } = layered(['a', 'late', 'b', 'c'], [edge('a', 'b'), edge('b', 'c'), edge('late', 'c')], SIZES);
    expect(nodes.get('late')?.y).toBe(nodes.get('b')?.y);
  });

  it('leads every edge down, lets no two nodes of a layer touch, and gives the same picture again, whatever the graph', () => {
    const graphs = fc
      .integer({ min: 1, max: 25 })
      .chain((n) => fc.tuple(fc.constant(n), fc.array(fc.tuple(fc.nat(n - 1), fc.nat(n - 1)), { maxLength: 50 })))
      .map(([n, pairs]) => ({
        ids: Array.from({ length: n }, (_, i) => `n${String(i)}`),
        edges: pairs.filter(([from, to]) => from < to).map(([from, to]) => edge(`n${String(from)}`, `n${String(to)}`)),
      }));
    fc.assert(
      fc.property(graphs, ({ ids, edges }) => {
        const layout = layered(ids, edges, SIZES);
        expect(layout.nodes.size).toBe(ids.length);
        expect(layout.edges).toHaveLength(edges.length);
        for (const { points } of layout.edges)
          for (const [i, point] of points.slice(1).entries()) expect(point.y).toBeGreaterThan(points[i]?.y ?? Number.POSITIVE_INFINITY);
        const placed = [...layout.nodes.values()];
        for (const [i, a] of placed.entries()) {
          expect(a.x).toBeGreaterThanOrEqual(49.99);
          expect(a.x).toBeLessThanOrEqual(layout.width - 49.99);
          for (const b of placed.slice(i + 1)) if (a.y === b.y) expect(Math.abs(a.x - b.x)).toBeGreaterThanOrEqual(109.99);
        }
        expect(layered(ids, edges, SIZES)).toEqual(layout);
      }),
      { numRuns: 150, seed: 8 },
    );
  });
});
