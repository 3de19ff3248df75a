import onnxProto from 'onnx-proto';
import type { onnx } from 'onnx-proto';

/** Element types of ONNX tensors, by their number in `TensorProto.DataType`. */
export const ONNX_TYPE = { float: 1, int64: 7, string: 8 } as const;
/** Attribute types, by their number in `AttributeProto.AttributeType`. */
const ATTRIBUTE_TYPE = { float: 1, int: 2, string: 3, tensor: 4, floats: 6, ints: 7, strings: 8 } as const;

const encoder = new TextEncoder();

export const intAttribute = (name: string, value: number): onnx.IAttributeProto => ({ name, type: ATTRIBUTE_TYPE.int, i: value });
export const floatAttribute = (name: string, value: number): onnx.IAttributeProto => ({ name, type: ATTRIBUTE_TYPE.float, f: value });
export const stringAttribute = (name: string, value: string): onnx.IAttributeProto => ({ name, type: ATTRIBUTE_TYPE.string, s: encoder.encode(value) });
export const intsAttribute = (name: string, values: readonly number[]): onnx.IAttributeProto => ({ name, type: ATTRIBUTE_TYPE.ints, ints: [...values] });
export const floatsAttribute = (name: string, values: readonly number[]): onnx.IAttributeProto => ({ name, type: ATTRIBUTE_TYPE.floats, floats: [...values] });
export const stringsAttribute = (name: string, values: readonly string[]): onnx.IAttributeProto => ({
  name,
  type: ATTRIBUTE_TYPE.strings,
  strings: values.map((value) => encoder.encode(value)),
});

const bytesOf = (view: Float32Array | BigInt64Array): Uint8Array => new Uint8Array(view.buffer, view.byteOffset, view.byteLength).slice();

export function floatTensor(name: string, dims: readonly number[], values: ArrayLike<number>): onnx.ITensorProto {
  return { name, dims: [...dims], dataType: ONNX_TYPE.float, rawData: bytesOf(Float32Array.from(values)) };
}

export function int64Tensor(name: string, dims: readonly number[], values: readonly (number | bigint)[]): onnx.ITensorProto {
  return { name, dims: [...dims], dataType: ONNX_TYPE.int64, rawData: bytesOf(BigInt64Array.from(values, (value) => BigInt(value))) };
}

/** A tensor's place in a graph's inputs or outputs: [N, columns] with a free first dimension. */
export function valueInfo(name: string, elemType: number, columns: number): onnx.IValueInfoProto {
  return { name, type: { tensorType: { elemType, shape: { dim: [{ dimParam: 'N' }, { dimValue: columns }] } } } };
}

/** Collects nodes and initializers; each name is `prefix` and a count, so the same calls give the same bytes. */
export interface GraphBuilder {
  readonly nodes: onnx.INodeProto[];
  readonly initializers: onnx.ITensorProto[];
  /** Adds a node with one output and returns the output's name. */
  op(opType: string, inputs: readonly string[], attributes?: readonly onnx.IAttributeProto[], domain?: string): string;
  /** Adds a constant float tensor and returns its name. */
  floats(values: ArrayLike<number>, dims?: readonly number[]): string;
  /** Adds a constant string tensor and returns its name. */
  strings(values: readonly string[], dims?: readonly number[]): string;
  /** Adds a constant int64 tensor and returns its name; the same values and shape are kept once. */
  ints(values: readonly (number | bigint)[], dims?: readonly number[]): string;
}

export function createGraphBuilder(prefix: string): GraphBuilder {
  const nodes: onnx.INodeProto[] = [];
  const initializers: onnx.ITensorProto[] = [];
  const knownInts = new Map<string, string>();
  return {
    nodes,
    initializers,
    op: (opType, inputs, attributes = [], domain = '') => {
      const output = `${prefix}${opType}_${nodes.length}`;
      nodes.push({ name: output, opType, domain, input: [...inputs], output: [output], attribute: [...attributes] });
      return output;
    },
    floats: (values, dims = [values.length]) => {
      const name = `${prefix}c${initializers.length}`;
      initializers.push(floatTensor(name, dims, values));
      return name;
    },
    strings: (values, dims = [values.length]) => {
      const name = `${prefix}c${initializers.length}`;
      initializers.push({ name, dims: [...dims], dataType: ONNX_TYPE.string, stringData: values.map((value) => encoder.encode(value)) });
      return name;
    },
    ints: (values, dims = [values.length]) => {
      const key = `${dims.join('x')}:${values.join(',')}`;
      const known = knownInts.get(key);
      if (known !== undefined) return known;
      const name = `${prefix}c${initializers.length}`;
      initializers.push(int64Tensor(name, dims, values));
      knownInts.set(key, name);
      return name;
    },
  };
}

export interface OnnxModelParts {
  readonly graphName: string;
  readonly nodes: readonly onnx.INodeProto[];
  readonly initializers: readonly onnx.ITensorProto[];
  readonly inputs: readonly onnx.IValueInfoProto[];
  readonly outputs: readonly onnx.IValueInfoProto[];
  /** Least opsets; domains that no node uses are left out of the file. */
  readonly opset: { readonly ai: number; readonly ml: number };
  /** Free key-value pairs kept in the file, written in the order of their keys. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** IR version 9 belongs to opset 20 (ONNX 1.15) and is read by every onnxruntime since 1.17. */
const IR_VERSION = 9;

/** Serialises a model; the same parts give the same bytes. */
export function encodeModel(parts: OnnxModelParts): Uint8Array<ArrayBuffer> {
  const domains = new Set(parts.nodes.map((node) => node.domain ?? ''));
  const opsetImport: onnx.IOperatorSetIdProto[] = [{ domain: '', version: parts.opset.ai }];
  if (domains.has('ai.onnx.ml')) opsetImport.push({ domain: 'ai.onnx.ml', version: parts.opset.ml });
  if (domains.has('com.microsoft')) opsetImport.push({ domain: 'com.microsoft', version: 1 });
  return encodeProto({
    irVersion: IR_VERSION,
    producerName: 'millrace',
    opsetImport,
    graph: { name: parts.graphName, node: [...parts.nodes], initializer: [...parts.initializers], input: [...parts.inputs], output: [...parts.outputs] },
    metadataProps: Object.keys(parts.metadata)
      .sort()
      .map((key) => ({ key, value: parts.metadata[key] ?? '' })),
  });
}

/** @throws when the bytes are not an ONNX model's protobuf. */

export function decodeModel(bytes: Uint8Array): onnx.ModelProto {
  return onnxProto.onnx.ModelProto.decode(bytes);
}

/** Serialised into memory of its own, so that it can be handed to another thread. */
export function encodeProto(model: onnx.IModelProto): Uint8Array<ArrayBuffer> {
  return new Uint8Array(onnxProto.onnx.ModelProto.encode(model).finish());
}
