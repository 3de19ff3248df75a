import type { LineageEdge } from '../contracts/lineage.ts';

/**
 * Places the nodes of a graph in layers, what comes before above what comes after.
 *
 * Invariants:
 * 1. An edge leads to a lower layer. One that passes layers has a place of its own in each, so that it crosses no node.
 * 2. The same graph gives the same picture.
 */
export interface Placed {
  /** Middle of the node. */
  readonly x: number;
  readonly y: number;
}

export interface Layout {
  readonly width: number;
  readonly height: number;
  readonly nodes: ReadonlyMap<string, Placed>;
  /** Points that an edge goes through, from the middle of its first node to that of its last. */
  readonly edges: readonly { readonly edge: LineageEdge; readonly points: readonly Placed[] }[];
}

export interface LayoutSizes {
  readonly nodeWidth: number;
  readonly nodeHeight: number;
  readonly gapX: number;
  readonly gapY: number;
}

/** Passes over all layers that put what belongs together side by side. */
const PASSES = 12;
/** Passes that move nodes over what they are tied to. */
const SETTLING = 16;
/** Room of an edge in a layer that it only passes. */
const PASSING_WIDTH = 18;

interface Slot {
  readonly id: string;
  readonly width: number;
  order: number;
  x: number;
  readonly up: Slot[];
  readonly down: Slot[];
}

/** `ids` in an order in which what comes before stands before. */
export function layered(ids: readonly string[], edges: readonly LineageEdge[], sizes: LayoutSizes): Layout {
  const layerOf = layersOf(ids, edges);
  const layers: Slot[][] = Array.from({ length: Math.max(0, ...layerOf.values()) + 1 }, () => []);
  const slots = new Map<string, Slot>();
  const put = (id: string, layer: number, width: number): Slot => {
    const slot: Slot = { id, width, order: layers[layer]?.length ?? 0, x: 0, up: [], down: [] };
    layers[layer]?.push(slot);
    return slot;
  };
  for (const id of ids) slots.set(id, put(id, layerOf.get(id) ?? 0, sizes.nodeWidth));
  const ways = edges.flatMap((edge) => {
    const [first, last] = [slots.get(edge.from), slots.get(edge.to)];
    const [top, bottom] = [layerOf.get(edge.from) ?? 0, layerOf.get(edge.to) ?? 0];
    if (first === undefined || last === undefined || bottom <= top) return [];
    const way = [first, ...Array.from({ length: bottom - top - 1 }, (_, i) => put(`${edge.from} ${edge.to} ${i}`, top + 1 + i, PASSING_WIDTH)), last];
    way.slice(1).forEach((slot, i) => {
      const before = way[i];
      before?.down.push(slot);
      if (before !== undefined) slot.up.push(before);
    });
    return [{ edge, way }];
  });
  order(layers);
  const width = spread(layers, sizes);
  const heightOf = (layer: number): number => sizes.nodeHeight / 2 + layer * (sizes.nodeHeight + sizes.gapY);
  const yOf = new Map(layers.flatMap((layer, index) => layer.map((slot): [string, number] => [slot.id, heightOf(index)])));
  const at = ({ id, x }: Slot): Placed => ({ x, y: yOf.get(id) ?? 0 });
  return {
    width,
    height: heightOf(layers.length - 1) + sizes.nodeHeight / 2,
    nodes: new Map([...slots].map(([id, slot]) => [id, at(slot)])),
    edges: ways.map(({ edge, way }) => ({ edge, points: way.map(at) })),
  };
}

/** As far down as what comes before asks; what nothing comes before stands right above what it leads to. */
function layersOf(ids: readonly string[], edges: readonly LineageEdge[]): ReadonlyMap<string, number> {
  const layer = new Map<string, number>();
  const place = new Map(ids.map((id, index) => [id, index]));
  const looksBack = (edge: LineageEdge): boolean => (place.get(edge.from) ?? Number.POSITIVE_INFINITY) < (place.get(edge.to) ?? -1);
  const into = new Map<string, string[]>();
  const outOf = new Map<string, string[]>();
  for (const edge of edges.filter(looksBack)) {
    into.set(edge.to, [...(into.get(edge.to) ?? []), edge.from]);
    outOf.set(edge.from, [...(outOf.get(edge.from) ?? []), edge.to]);
  }
  for (const id of ids) layer.set(id, Math.max(-1, ...(into.get(id) ?? []).map((before) => layer.get(before) ?? 0)) + 1);
  for (const id of ids.toReversed()) {
    const after = outOf.get(id) ?? [];
    if (after.length > 0 && (into.get(id) ?? []).length === 0) layer.set(id, Math.min(...after.map((next) => layer.get(next) ?? 1)) - 1);
  }
  return layer;
}

/** Orders each layer by the middle of what its slots are tied to, downwards and upwards in turn. */
function order(layers: readonly Slot[][]): void {
  const middle = (tied: readonly Slot[], otherwise: number): number =>
    tied.length === 0 ? otherwise : tied.reduce((sum, slot) => sum + slot.order, 0) / tied.length;
  for (let pass = 0; pass < PASSES; pass++) {
    const down = pass % 2 === 0;
    for (const layer of down ? layers : layers.toReversed()) {
      const wanted = new Map(layer.map((slot) => [slot, middle(down ? slot.up : slot.down, slot.order)]));
      layer.sort((a, b) => (wanted.get(a) ?? 0) - (wanted.get(b) ?? 0) || a.order - b.order);
      layer.forEach((slot, index) => {
        slot.order = index;
      });
    }
  }
}

/** Gives each slot its x, in its layer's order without touching; returns the width of all. */
function spread(layers: readonly Slot[][], { gapX }: LayoutSizes): number {
  const room = (left: Slot, right: Slot): number => (left.width + right.width) / 2 + gapX;
  for (const layer of layers)
    layer.forEach((slot, index) => {
      const before = layer[index - 1];
      slot.x = before === undefined ? slot.width / 2 : before.x + room(before, slot);
    });
  for (let pass = 0; pass < SETTLING; pass++) {
    const down = pass % 2 === 0;
    for (const layer of down ? layers : layers.toReversed()) {
      const wanted = layer.map((slot) => {
        const tied = down ? slot.up : slot.down;
        return tied.length === 0 ? slot.x : tied.reduce((sum, { x }) => sum + x, 0) / tied.length;
      });
      settle(layer, wanted, room);
    }
  }
  const edgesOf = (side: 1 | -1): number[] => layers.flatMap((layer) => layer.map(({ x, width }) => x + (side * width) / 2));
  const left = Math.min(0, ...edgesOf(-1));
  const least = Math.min(...edgesOf(-1), Number.POSITIVE_INFINITY);
  const shift = Number.isFinite(least) ? -least : -left;
  for (const layer of layers) for (const slot of layer) slot.x += shift;
  return Math.max(0, ...edgesOf(1));
}

/** Puts slots as near to where they are wanted as their order and their room let them: neighbours that would touch move together. */
function settle(layer: readonly Slot[], wanted: readonly number[], room: (left: Slot, right: Slot) => number): void {
  const blocks: { slots: Slot[]; offsets: number[]; sum: number; at: number }[] = [];
  layer.forEach((slot, index) => {
    let block = { slots: [slot], offsets: [0], sum: wanted[index] ?? 0, at: wanted[index] ?? 0 };
    for (let before = blocks.at(-1); before !== undefined; before = blocks.at(-1)) {
      const [last, first] = [before.slots.at(-1), block.slots[0]];
      if (last === undefined || first === undefined) break;
      const shift = (before.offsets.at(-1) ?? 0) + room(last, first);
      if (before.at + shift <= block.at) break;
      blocks.pop();
      const slots = [...before.slots, ...block.slots];
      const sum = before.sum + block.sum - block.slots.length * shift;
      block = { slots, offsets: [...before.offsets, ...block.offsets.map((offset) => offset + shift)], sum, at: sum / slots.length };
    }
    blocks.push(block);
  });
  for (const { slots, offsets, at } of blocks)
    slots.forEach((slot, index) => {
      slot.x = at + (offsets[index] ?? 0);
    });
}
