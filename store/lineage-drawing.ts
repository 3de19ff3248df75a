import type { LineageEdge, LineageGraph, LineageNode } from '../contracts/lineage.ts';

/** A graph while it is drawn. */
export interface LineageDrawing {
  /** Adds a node, once. False where there is no room for it: then nothing is tied to it. */
  readonly add: (node: LineageNode) => boolean;
  /** Ties two nodes that are there, once. */
  readonly link: (from: string, to: string, how: string) => void;
  readonly has: (id: string) => boolean;
  /** Whether an edge leads from one to the other, or to a stage that leads there. */
  readonly reaches: (from: string, to: string) => boolean;
  /** Notes that something was left out. */
  readonly truncate: () => void;
  readonly finish: () => Pick<LineageGraph, 'nodes' | 'edges' | 'truncated'>;
}

/** Begins a graph of at most so many nodes. */
export function createLineageDrawing(mostNodes: number): LineageDrawing {
  const nodes = new Map<string, LineageNode>();
  const edges = new Map<string, LineageEdge>();
  const after = new Map<string, Set<string>>();
  let truncated = false;
  return {
    add(node) {
      if (nodes.has(node.id)) return true;
      if (nodes.size >= mostNodes) {
        truncated = true;
        return false;
      }
      nodes.set(node.id, node);
      return true;
    },
    link(from, to, how) {
      if (from === to || !nodes.has(from) || !nodes.has(to)) return;
      const key = `${from}\n${to}`;
      if (edges.has(key)) return;
      edges.set(key, { from, to, how });
      const next = after.get(from);
      if (next === undefined) after.set(from, new Set([to]));
      else next.add(to);
    },
    has: (id) => nodes.has(id),
    reaches: (from, to) => after.get(from)?.has(to) === true || [...(after.get(from) ?? [])].some((middle) => after.get(middle)?.has(to) === true),
    truncate() {
      truncated = true;
    },
    finish: () => ({ nodes: inOrder([...nodes.values()], [...edges.values()]), edges: [...edges.values()], truncated }),
  };
}

/** What comes before stands before; of those that may stand anywhere, the older first. */
function inOrder(nodes: readonly LineageNode[], edges: readonly LineageEdge[]): readonly LineageNode[] {
  const waits = new Map(nodes.map(({ id }) => [id, 0]));
  for (const { to } of edges) waits.set(to, (waits.get(to) ?? 0) + 1);
  const before = (a: LineageNode, b: LineageNode): number => compare(a.at ?? '', b.at ?? '') || compare(a.id, b.id);
  const next = grouped(edges, ({ from }) => from);
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const ready = nodes.filter(({ id }) => waits.get(id) === 0).sort(before);
  const done: LineageNode[] = [];
  for (let node = ready.shift(); node !== undefined; node = ready.shift()) {
    done.push(node);
    for (const { to } of next.get(node.id) ?? []) {
      const left = (waits.get(to) ?? 0) - 1;
      waits.set(to, left);
      const freed = byId.get(to);
      if (left === 0 && freed !== undefined) ready.splice(placeFor(ready, freed, before), 0, freed);
    }
  }
  // a circle cannot come of records that only look back; what would be in one is not lost
  const placed = new Set(done);
  return [...done, ...nodes.filter((node) => !placed.has(node))];
}

function placeFor(sorted: readonly LineageNode[], node: LineageNode, before: (a: LineageNode, b: LineageNode) => number): number {
  const at = sorted.findIndex((other) => before(node, other) < 0);
  return at === -1 ? sorted.length : at;
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** Items by a key of theirs, each group in their order. */
export function grouped<Item>(items: readonly Item[], keyOf: (item: Item) => string): ReadonlyMap<string, readonly Item[]> {
  const groups = new Map<string, Item[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [item]);
    else group.push(item);
  }
  return groups;
}
