import type { onnx } from 'onnx-proto';
import { MillraceError } from '../../contracts/errors.ts';
import { opsetsOf, prefixed, raised } from '../onnx/external-model.ts';
import { createGraphBuilder, decodeModel, encodeModel, intAttribute, ONNX_TYPE, valueInfo } from '../onnx/graph-builder.ts';
import type { PredictorGraph } from '../predictor.ts';
import type { OnnxFragment } from '../trainer.ts';
import { metaInput } from './meta-model.ts';

export interface JoinedMember {
  readonly onnx: Uint8Array;
  readonly graph: PredictorGraph;
}

export interface JoinInput {
  readonly members: readonly JoinedMember[];
  /** All columns that any member reads. */
  readonly graph: PredictorGraph;
  /** Number of classes, or 1. */
  readonly outputs: number;
  readonly classes?: readonly string[];
  readonly combine:
    | { readonly kind: 'mean' /** One a member; sums to 1. A member of 0 is left out. */; readonly weights: readonly number[] }
    | { readonly kind: 'meta'; readonly toOnnx: (input: string, prefix: string) => OnnxFragment };
}

const INPUTS = ['numbers', 'dates', 'strings'] as const;
const TYPES = { numbers: ONNX_TYPE.float, dates: ONNX_TYPE.int64, strings: ONNX_TYPE.string } as const;
/** In which the graphs of features are written. */
const OPSET = 20;

/**
 * One ONNX file of several: each member's graph, with its columns gathered from the common inputs, and behind them the
 * weighted mean of their answers or the meta model. Same parts, same bytes.
 */
export function joinPredictors({ members, graph, outputs, classes, combine }: JoinInput): Uint8Array<ArrayBuffer> {
  const nodes: onnx.INodeProto[] = [];
  const initializers: onnx.ITensorProto[] = [];
  const opset = { ai: OPSET, ml: 3 };
  const answers: { readonly tensor: string; readonly weight: number }[] = [];
  members.forEach((member, index) => {
    const weight = combine.kind === 'mean' ? (combine.weights[index] ?? 0) : 1;
    if (weight === 0) return;
    const part = memberNodes(member, graph, `m${String(index)}_`);
    nodes.push(...part.nodes);
    initializers.push(...part.initializers);
    opset.ai = Math.max(opset.ai, part.opset.ai);
    opset.ml = Math.max(opset.ml, part.opset.ml);
    answers.push({ tensor: part.output, weight });
  });
  const end = createGraphBuilder('ensemble_');
  let result: string;
  if (combine.kind === 'mean') {
    const weighted = answers.map(({ tensor, weight }) => (weight === 1 ? tensor : end.op('Mul', [tensor, end.floats([weight], [])])));
    result = weighted.length === 1 ? (weighted[0] ?? '') : end.op('Sum', weighted);
  } else {
    const meta = combine.toOnnx(
      metaInput(
        end,
        answers.map(({ tensor }) => tensor),
        outputs,
      ),
      'meta_',
    );
    nodes.push(...end.nodes.splice(0), ...meta.nodes);
    initializers.push(...meta.initializers);
    opset.ai = Math.max(opset.ai, meta.opset.ai);
    opset.ml = Math.max(opset.ml, meta.opset.ml ?? 0);
    result = meta.output;
  }
  nodes.push(...end.nodes, { name: 'output', opType: 'Identity', domain: '', input: [result], output: ['output'], attribute: [] });
  initializers.push(...end.initializers);
  return encodeModel({
    graphName: 'millrace-ensemble',
    nodes,
    initializers,
    inputs: INPUTS.filter((input) => graph[input].length > 0).map((input) => valueInfo(input, TYPES[input], graph[input].length)),
    outputs: [valueInfo('output', ONNX_TYPE.float, outputs)],
    opset,
    metadata: {
      'millrace.numbers': JSON.stringify(graph.numbers),
      'millrace.dates': JSON.stringify(graph.dates),
      'millrace.strings': JSON.stringify(graph.strings),
      ...(classes === undefined ? {} : { 'millrace.classes': JSON.stringify(classes) }),
    },
  });
}

function memberNodes(member: JoinedMember, whole: PredictorGraph, prefix: string) {
  const model = decodeModel(member.onnx);
  const { graph } = model;
  if (graph == null) throw new MillraceError('MODEL_INVALID', 'A member has no graph.');
  const opsets = opsetsOf(model);
  const name = (own: string): string => (own === '' ? '' : `${prefix}${own}`);
  const before = createGraphBuilder(`${prefix}in_`);
  for (const input of INPUTS) {
    const wanted = member.graph[input];
    if (wanted.length === 0) continue;
    const places = wanted.map((column) => whole[input].indexOf(column));
    const all = places.length === whole[input].length && places.every((place, at) => place === at);
    const value = all ? input : before.op('Gather', [input, before.ints(places)], [intAttribute('axis', 1)]);
    before.nodes.push({ name: name(`take_${input}`), opType: 'Identity', domain: '', input: [value], output: [name(input)], attribute: [] });
  }
  const lifted: onnx.ITensorProto[] = [];
  const inner = prefixed(graph, name);
  const own = (inner.node ?? []).map((node, at) => (opsets.ai < OPSET ? raised(node, opsets, `${prefix}lift_${String(at)}_`, lifted) : node));
  return {
    nodes: [...before.nodes, ...own],
    initializers: [...before.initializers, ...(inner.initializer ?? []), ...lifted],
    output: name('output'),
    opset: opsets,
  };
}
