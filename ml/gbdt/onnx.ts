import onnxProto from 'onnx-proto';
import type { onnx } from 'onnx-proto';
import type { OnnxFragment } from '../trainer.ts';
import { type GbdtModel, isMember, MEMBER_WORDS } from './model.ts';

const { AttributeProto, NodeProto, TensorProto } = onnxProto.onnx;

const integers = (name: string, ints: readonly number[]): onnx.IAttributeProto =>
  new AttributeProto({ name, type: AttributeProto.AttributeType.INTS, ints: [...ints] });
const numbers = (name: string, floats: readonly number[]): onnx.IAttributeProto =>
  new AttributeProto({ name, type: AttributeProto.AttributeType.FLOATS, floats: [...floats] });
const integer = (name: string, i: number): onnx.IAttributeProto => new AttributeProto({ name, type: AttributeProto.AttributeType.INT, i });
const texts = (name: string, values: readonly string[]): onnx.IAttributeProto =>
  new AttributeProto({ name, type: AttributeProto.AttributeType.STRINGS, strings: values.map((value) => new TextEncoder().encode(value)) });
const text = (name: string, value: string): onnx.IAttributeProto =>
  new AttributeProto({ name, type: AttributeProto.AttributeType.STRING, s: new TextEncoder().encode(value) });

/** The model's trees as one node, with the link function behind it where there is one. */
export function toOnnxFragment(model: GbdtModel, input: string, prefix: string): OnnxFragment {
  const scores = `${prefix}scores`;
  const byCategory = model.trees.some((tree) => tree.byCategory.includes(1));
  const { nodes: ensemble, initializers, ml } = byCategory ? treesWithSets(model, input, scores, prefix) : treesOfNumbers(model, input, scores, prefix);
  const opset = { ai: 13, ml };
  if (model.kind === 'regression') return { nodes: ensemble, initializers, output: scores, opset };
  const output = `${prefix}probabilities`;
  if (model.kind === 'multiclass') {
    return {
      nodes: [...ensemble, new NodeProto({ opType: 'Softmax', name: `${prefix}softmax`, input: [scores], output: [output], attribute: [integer('axis', 1)] })],
      initializers,
      output,
      opset,
    };
  }
  const one = `${prefix}one`;
  return {
    nodes: [
      ...ensemble,
      new NodeProto({ opType: 'Sigmoid', name: `${prefix}sigmoid`, input: [scores], output: [`${prefix}positive`] }),
      new NodeProto({ opType: 'Sub', name: `${prefix}complement`, input: [one, `${prefix}positive`], output: [`${prefix}negative`] }),
      new NodeProto({
        opType: 'Concat',
        name: `${prefix}concat`,
        input: [`${prefix}negative`, `${prefix}positive`],
        output: [output],
        attribute: [integer('axis', 1)],
      }),
    ],
    initializers: [...initializers, new TensorProto({ name: one, dims: [1], dataType: TensorProto.DataType.FLOAT, floatData: [1] })],
    output,
    opset,
  };
}

interface TreeNodes {
  readonly nodes: readonly onnx.INodeProto[];
  readonly initializers: readonly onnx.ITensorProto[];
  /** Least opset of ai.onnx.ml. */
  readonly ml: number;
}

/** A TreeEnsembleRegressor (ai.onnx.ml 3). */
function treesOfNumbers(model: GbdtModel, input: string, scores: string, prefix: string): TreeNodes {
  const nodes = {
    treeIds: [] as number[],
    ids: [] as number[],
    features: [] as number[],
    modes: [] as string[],
    values: [] as number[],
    yes: [] as number[],
    no: [] as number[],
    missing: [] as number[],
  };
  const leaves = { treeIds: [] as number[], ids: [] as number[], outputs: [] as number[], values: [] as number[] };
  const addNode = (tree: number, id: number, feature: number, mode: string, value: number, yes: number, no: number, missingYes: number): void => {
    nodes.treeIds.push(tree);
    nodes.ids.push(id);
    nodes.features.push(feature);
    nodes.modes.push(mode);
    nodes.values.push(value);
    nodes.yes.push(yes);
    nodes.no.push(no);
    nodes.missing.push(missingYes);
  };
  const addLeaf = (tree: number, id: number, output: number, value: number): void => {
    addNode(tree, id, 0, 'LEAF', 0, 0, 0, 0);
    leaves.treeIds.push(tree);
    leaves.ids.push(id);
    leaves.outputs.push(output);
    leaves.values.push(value);
  };
  model.trees.forEach((tree, treeId) => {
    const splits = tree.feature.length;
    const idOf = (child: number): number => (child < 0 ? splits + ~child : child);
    tree.feature.forEach((feature, node) => {
      addNode(
        treeId,
        node,
        feature,
        'BRANCH_LEQ',
        tree.threshold[node] ?? 0,
        idOf(tree.left[node] ?? 0),
        idOf(tree.right[node] ?? 0),
        tree.missingLeft[node] ?? 0,
      );
    });
    tree.leafValue.forEach((value, leaf) => {
      addLeaf(treeId, splits + leaf, tree.output, value);
    });
  });
  // An ensemble without any tree is not valid ONNX.
  if (model.trees.length === 0) addLeaf(0, 0, 0, 0);

  const ensemble = new NodeProto({
    opType: 'TreeEnsembleRegressor',
    domain: 'ai.onnx.ml',
    name: `${prefix}trees`,
    input: [input],
    output: [scores],
    attribute: [
      integer('n_targets', model.outputs),
      text('aggregate_function', 'SUM'),
      text('post_transform', 'NONE'),
      numbers('base_values', [...model.baseScores]),
      integers('nodes_treeids', nodes.treeIds),
      integers('nodes_nodeids', nodes.ids),
      integers('nodes_featureids', nodes.features),
      texts('nodes_modes', nodes.modes),
      numbers('nodes_values', nodes.values),
      integers('nodes_truenodeids', nodes.yes),
      integers('nodes_falsenodeids', nodes.no),
      integers('nodes_missing_value_tracks_true', nodes.missing),
      integers('target_treeids', leaves.treeIds),
      integers('target_nodeids', leaves.ids),
      integers('target_ids', leaves.outputs),
      numbers('target_weights', leaves.values),
    ],
  });
  return { nodes: [ensemble], initializers: [], ml: 3 };
}

const BRANCH = { leq: 0, less: 1, member: 6 } as const;

/**
 * A TreeEnsemble (ai.onnx.ml 5), which knows splits by a set of values. A value that is missing is a member of no set:
 * it goes where `nodes_missing_value_tracks_true` says. A set may not be
 * empty: a split of missing values from all others asks for less than -∞.
 */
function treesWithSets(model: GbdtModel, input: string, scores: string, prefix: string): TreeNodes {
  const roots: number[] = [];
  const [features, modes, splits, trueIds, trueLeaf, falseIds, falseLeaf, missing]: number[][] = [[], [], [], [], [], [], [], []];
  const members: number[] = [];
  const leaves = { targets: [] as number[], weights: [] as number[] };
  const add = (of: { feature: number; mode: number; split: number; yes: number; yesLeaf: number; no: number; noLeaf: number; missingYes: number }): void => {
    features?.push(of.feature);
    modes?.push(of.mode);
    splits?.push(of.split);
    trueIds?.push(of.yes);
    trueLeaf?.push(of.yesLeaf);
    falseIds?.push(of.no);
    falseLeaf?.push(of.noLeaf);
    missing?.push(of.missingYes);
  };
  for (const tree of model.trees) {
    const firstNode = features?.length ?? 0;
    const firstLeaf = leaves.weights.length;
    roots.push(firstNode);
    tree.feature.forEach((feature, node) => {
      const [left, right] = [tree.left[node] ?? 0, tree.right[node] ?? 0];
      const codes =
        tree.byCategory[node] === 1 ? Array.from({ length: 32 * MEMBER_WORDS }, (_, code) => code).filter((code) => isMember(tree, node, code)) : undefined;
      add({
        feature,
        mode: codes === undefined ? BRANCH.leq : codes.length === 0 ? BRANCH.less : BRANCH.member,
        split: codes === undefined ? (tree.threshold[node] ?? 0) : codes.length === 0 ? Number.NEGATIVE_INFINITY : 0,
        yes: left < 0 ? firstLeaf + ~left : firstNode + left,
        yesLeaf: left < 0 ? 1 : 0,
        no: right < 0 ? firstLeaf + ~right : firstNode + right,
        noLeaf: right < 0 ? 1 : 0,
        missingYes: tree.missingLeft[node] ?? 0,
      });
      // not a number ends a set
      if (codes !== undefined && codes.length > 0) members.push(...codes, Number.NaN);
    });
    // A tree without a split is a root whose both sides are its one leaf.
    if (tree.feature.length === 0) add({ feature: 0, mode: BRANCH.leq, split: 0, yes: firstLeaf, yesLeaf: 1, no: firstLeaf, noLeaf: 1, missingYes: 0 });
    for (const value of tree.leafValue) {
      leaves.targets.push(tree.output);
      leaves.weights.push(value);
    }
  }
  const sums = `${prefix}sums`;
  const base = `${prefix}base`;
  const ensemble = new NodeProto({
    opType: 'TreeEnsemble',
    domain: 'ai.onnx.ml',
    name: `${prefix}trees`,
    input: [input],
    output: [sums],
    attribute: [
      integer('n_targets', model.outputs),
      integer('aggregate_function', 1), // sum
      integer('post_transform', 0), // none
      integers('tree_roots', roots),
      integers('nodes_featureids', features ?? []),
      bytesTensor('nodes_modes', modes ?? []),
      floatsTensor('nodes_splits', splits ?? []),
      integers('nodes_truenodeids', trueIds ?? []),
      integers('nodes_trueleafs', trueLeaf ?? []),
      integers('nodes_falsenodeids', falseIds ?? []),
      integers('nodes_falseleafs', falseLeaf ?? []),
      integers('nodes_missing_value_tracks_true', missing ?? []),
      floatsTensor('membership_values', members),
      integers('leaf_targetids', leaves.targets),
      floatsTensor('leaf_weights', leaves.weights),
    ],
  });
  return {
    nodes: [ensemble, new NodeProto({ opType: 'Add', name: `${prefix}addBase`, input: [sums, base], output: [scores] })],
    initializers: [new TensorProto({ name: base, dims: [model.outputs], dataType: TensorProto.DataType.FLOAT, floatData: [...model.baseScores] })],
    ml: 5,
  };
}

const bytesTensor = (name: string, values: readonly number[]): onnx.IAttributeProto =>
  tensor(name, TensorProto.DataType.UINT8, values.length, Uint8Array.from(values));
const floatsTensor = (name: string, values: readonly number[]): onnx.IAttributeProto =>
  tensor(name, TensorProto.DataType.FLOAT, values.length, new Uint8Array(Float32Array.from(values).buffer));

function tensor(name: string, dataType: number, count: number, rawData: Uint8Array): onnx.IAttributeProto {
  return new AttributeProto({ name, type: AttributeProto.AttributeType.TENSOR, t: new TensorProto({ name, dims: [count], dataType, rawData }) });
}
