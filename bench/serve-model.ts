import type { Predictor, Signature } from '../contracts/signature.ts';
import {
  createGraphBuilder,
  encodeModel,
  floatAttribute,
  floatsAttribute,
  intAttribute,
  intsAttribute,
  ONNX_TYPE,
  stringAttribute,
  stringsAttribute,
  valueInfo,
} from '../ml/onnx/graph-builder.ts';
import { createRandom } from '../ml/random.ts';

/** The raw columns of the serving benchmarks: numbers, texts and one timestamp. */
export interface ServeModel {
  readonly onnx: Uint8Array;
  readonly signature: Signature;
  readonly rows: readonly Readonly<Record<string, string | number>>[];
  /** The same rows as the graph takes them. */
  readonly packed: readonly { readonly numbers: readonly number[]; readonly dates: readonly number[]; readonly strings: readonly string[] }[];
}

export interface ServeModelOptions {
  /** Raw columns in all. */
  readonly columns: number;
  /** `mixed` (the default): one is a timestamp, about a third of the rest are texts. */
  readonly kinds?: 'mixed' | 'numbers';
  readonly trees: number;
  readonly leaves: number;
  readonly seed: number;
}

const DAY_MS = 86_400_000;
const START_MS = Date.UTC(2001, 0, 1);
const CATEGORIES = 50;
const ROWS = 64;

/** A model with random trees: what a request costs depends on their number and size, not on what they learnt. */
export function makeServeModel({ columns, kinds = 'mixed', trees, leaves, seed }: ServeModelOptions): ServeModel {
  const source = createRandom(seed);
  const random = (): number => source.next();
  const mixed = kinds === 'mixed';
  const textCount = mixed ? Math.round((columns - 1) / 3) : 0;
  const dates = mixed ? ['departed_at'] : [];
  const numbers = Array.from({ length: columns - dates.length - textCount }, (_, i) => `number_${i + 1}`);
  const strings = Array.from({ length: textCount }, (_, i) => `text_${i + 1}`);
  const graph = createGraphBuilder('serve_');

  const features = mixed ? mixedFeatures(graph) : 'numbers';

  const tree: Record<'ids' | 'nodes' | 'features' | 'trues' | 'falses' | 'targetTrees' | 'targetNodes', number[]> & {
    modes: string[];
    values: number[];
    weights: number[];
  } = {
    ids: [],
    nodes: [],
    features: [],
    trues: [],
    falses: [],
    modes: [],
    values: [],
    targetTrees: [],
    targetNodes: [],
    weights: [],
  };
  for (let t = 0; t < trees; t += 1) {
    // Leaves are split at random until there are enough: as uneven as trees grown leaf by leaf.
    const children = new Map<number, readonly [number, number]>();
    const open = [0];
    let count = 1;
    while (open.length < leaves) {
      const [node = 0] = open.splice(Math.floor(random() * open.length), 1);
      children.set(node, [count, count + 1]);
      open.push(count, count + 1);
      count += 2;
    }
    for (let node = 0; node < count; node += 1) {
      const [left, right] = children.get(node) ?? [0, 0];
      const leaf = !children.has(node);
      tree.ids.push(t);
      tree.nodes.push(node);
      tree.features.push(leaf ? 0 : Math.floor(random() * columns));
      tree.modes.push(leaf ? 'LEAF' : 'BRANCH_LEQ');
      tree.values.push(leaf ? 0 : random());
      tree.trues.push(left);
      tree.falses.push(right);
      if (!leaf) continue;
      tree.targetTrees.push(t);
      tree.targetNodes.push(node);
      tree.weights.push((random() - 0.5) / 5);
    }
  }
  const score = graph.op(
    'TreeEnsembleRegressor',
    [features],
    [
      intsAttribute('nodes_treeids', tree.ids),
      intsAttribute('nodes_nodeids', tree.nodes),
      intsAttribute('nodes_featureids', tree.features),
      stringsAttribute('nodes_modes', tree.modes),
      floatsAttribute('nodes_values', tree.values),
      intsAttribute('nodes_truenodeids', tree.trues),
      intsAttribute('nodes_falsenodeids', tree.falses),
      intsAttribute('target_treeids', tree.targetTrees),
      intsAttribute('target_nodeids', tree.targetNodes),
      intsAttribute(
        'target_ids',
        tree.targetNodes.map(() => 0),
      ),
      floatsAttribute('target_weights', tree.weights),
      intAttribute('n_targets', 1),
      stringAttribute('post_transform', 'NONE'),
    ],
    'ai.onnx.ml',
  );
  const positive = graph.op('Sigmoid', [score]);
  const negative = graph.op('Sub', [graph.floats([1]), positive]);
  graph.nodes.push({ opType: 'Concat', input: [negative, positive], output: ['output'], name: 'output', domain: '', attribute: [intAttribute('axis', 1)] });

  const packed = Array.from({ length: ROWS }, () => ({
    numbers: numbers.map(() => Math.round(random() * 10_000) / 10_000),
    dates: dates.map(() => START_MS + Math.floor(random() * 365) * DAY_MS),
    strings: strings.map(() => `category-${Math.floor(random() * CATEGORIES)}`),
  }));
  const rows = packed.map((row) => ({
    ...Object.fromEntries(numbers.map((name, i) => [name, row.numbers[i] ?? 0])),
    ...Object.fromEntries(strings.map((name, i) => [name, row.strings[i] ?? ''])),
    ...Object.fromEntries(dates.map((name, i) => [name, new Date(row.dates[i] ?? 0).toISOString()])),
  }));
  return {
    onnx: encodeModel({
      graphName: 'serve',
      nodes: graph.nodes,
      initializers: graph.initializers,
      inputs: [
        valueInfo('numbers', ONNX_TYPE.float, numbers.length),
        ...(mixed ? [valueInfo('dates', ONNX_TYPE.int64, dates.length), valueInfo('strings', ONNX_TYPE.string, strings.length)] : []),
      ],
      outputs: [valueInfo('output', ONNX_TYPE.float, 2)],
      opset: { ai: 17, ml: 3 },
      metadata: {},
    }),
    signature: {
      columns: [
        ...numbers.map((name) => ({ name, type: 'number' as const })),
        ...strings.map((name) => ({ name, type: 'string' as const })),
        ...dates.map((name) => ({ name, type: 'timestamp' as const })),
      ],
      transforms: [],
      graph: { numbers, dates, strings },
      task: { kind: 'binary', target: 'delayed', classes: ['no', 'yes'] },
      threshold: 0.5,
    },
    rows,
    packed,
  };
}

/** Numbers, texts as the places of their categories, and the time in years, side by side. */
function mixedFeatures(graph: ReturnType<typeof createGraphBuilder>): string {
  const keys = Array.from({ length: CATEGORIES }, (_, i) => `category-${i}`);
  const codes = graph.op(
    'LabelEncoder',
    ['strings'],
    [
      stringsAttribute('keys_strings', keys),
      floatsAttribute(
        'values_floats',
        keys.map((_, i) => i / CATEGORIES),
      ),
      floatAttribute('default_float', -1),
    ],
    'ai.onnx.ml',
  );
  const sinceStart = graph.op('Sub', ['dates', graph.ints([START_MS], [1])]);
  const days = graph.op('Div', [graph.op('Cast', [sinceStart], [intAttribute('to', ONNX_TYPE.float)]), graph.floats([DAY_MS * 365])]);
  return graph.op('Concat', ['numbers', codes, days], [intAttribute('axis', 1)]);
}

/** The predictor of such a model, as the artifact store keeps it. */
export function serveModelPredictor(model: ServeModel, onnx: { readonly sha256: string; readonly sizeBytes: number }): Predictor {
  return {
    format: 'millrace-predictor/1',
    onnx: onnx.sha256,
    onnxSizeBytes: onnx.sizeBytes,
    signature: model.signature,
    trainer: { name: 'random trees', parameters: {} },
    trainingProfile: null,
    sample: { rows: [], output: [] },
    importance: [],
    unserved: {},
    lookups: [],
  };
}
