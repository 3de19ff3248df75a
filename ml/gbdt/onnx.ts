import onnxProto from 'onnx-proto';
import type { onnx } from 'onnx-proto';
import type { OnnxFragment } from '../trainer.ts';
import type { GbdtModel } from './model.ts';

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

/** The model as one TreeEnsembleRegressor (ai.onnx.ml 3), with the link function behind it where there is one. */
export function toOnnxFragment(model: GbdtModel, input: string, prefix: string): OnnxFragment {
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

  const scores = `${prefix}scores`;
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
  const opset = { ai: 13, ml: 3 };
  if (model.kind === 'regression') return { nodes: [ensemble], initializers: [], output: scores, opset };
  const output = `${prefix}probabilities`;
  if (model.kind === 'multiclass') {
    return {
      nodes: [ensemble, new NodeProto({ opType: 'Softmax', name: `${prefix}softmax`, input: [scores], output: [output], attribute: [integer('axis', 1)] })],
      initializers: [],
      output,
      opset,
    };
  }
  const one = `${prefix}one`;
  return {
    nodes: [
      ensemble,
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
    initializers: [new TensorProto({ name: one, dims: [1], dataType: TensorProto.DataType.FLOAT, floatData: [1] })],
    output,
    opset,
  };
}
