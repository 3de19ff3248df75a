import type { onnx } from 'onnx-proto';
import { MillraceError, type Problem } from '../contracts/errors.ts';
import type { Signature } from '../contracts/signature.ts';
import type { Features } from '../contracts/features.ts';
import type { FittedFeatures } from './features/fitted-features.ts';
import { featuresToOnnx } from './features/features-to-onnx.ts';
import { createGraphBuilder, decodeModel, encodeModel, encodeProto, intAttribute, ONNX_TYPE, valueInfo } from './onnx/graph-builder.ts';
import type { OnnxFragment } from './trainer.ts';

export type PredictorGraph = Signature['graph'];

const INPUTS = ['numbers', 'dates', 'strings'] as const;
const OUTPUT = 'output';
/** Names in the file's metadata, so that the file explains itself beside its signature. */
const METADATA = {
  numbers: 'millrace.numbers',
  dates: 'millrace.dates',
  strings: 'millrace.strings',
  features: 'millrace.features',
  classes: 'millrace.classes',
  origin: 'millrace.origin',
};

/** What a later training goes on from: kept in the predictor's own file. */
export interface PredictorOrigin {
  readonly trainer: string;
  /** As the author wrote them, with every default filled in. */
  readonly features: Features;
  readonly fitted: FittedFeatures;
  /** `TrainedTrainer.learnt`. */
  readonly learnt: Uint8Array;
}

export interface PredictorGraphInput {
  readonly fitted: FittedFeatures;
  /** Builds the model's part on the tensor of that name, its names beginning with the prefix: a trained trainer's `toOnnx`. */
  readonly toOnnx: (input: string, prefix: string) => OnnxFragment;
  /** Columns of `output`: the number of classes, or 1. */
  readonly outputs: number;
  readonly classes?: readonly string[];
  readonly origin?: PredictorOrigin;
}

/**
 * One ONNX file from raw columns to `output`: the features' graph with the model's behind it. Same parts, same bytes.
 * The names of columns, features and classes lie in its metadata.
 */
export function buildPredictorGraph({ fitted, toOnnx, outputs, classes, origin }: PredictorGraphInput): {
  readonly onnx: Uint8Array;
  readonly graph: PredictorGraph;
} {
  const features = featuresToOnnx(fitted);
  const model = toOnnx(features.output, 'model_');
  const renamed = (name: string): string => (name === model.output ? OUTPUT : name);
  const nodes = [
    ...features.nodes,
    ...model.nodes.map((node) => ({ ...node, input: (node.input ?? []).map(renamed), output: (node.output ?? []).map(renamed) })),
  ];
  if (model.output === features.output) {
    nodes.push({ name: OUTPUT, opType: 'Identity', domain: '', input: [features.output], output: [OUTPUT], attribute: [] });
  }
  const graph = { numbers: [...fitted.graph.numbers], dates: [...fitted.graph.dates], strings: [...fitted.graph.strings] };
  const onnx = encodeModel({
    graphName: 'millrace-predictor',
    nodes,
    initializers: [...features.initializers, ...model.initializers],
    inputs: features.inputs,
    outputs: [valueInfo(OUTPUT, ONNX_TYPE.float, outputs)],
    opset: { ai: Math.max(features.opset.ai, model.opset.ai), ml: Math.max(features.opset.ml, model.opset.ml ?? 0) },
    metadata: {
      [METADATA.numbers]: JSON.stringify(graph.numbers),
      [METADATA.dates]: JSON.stringify(graph.dates),
      [METADATA.strings]: JSON.stringify(graph.strings),
      [METADATA.features]: JSON.stringify(features.names),
      ...(classes === undefined ? {} : { [METADATA.classes]: JSON.stringify(classes) }),
      ...(origin === undefined ? {} : { [METADATA.origin]: JSON.stringify({ ...origin, learnt: Buffer.from(origin.learnt).toString('base64') }) }),
    },
  });
  return { onnx, graph };
}

/**
 * What a later training goes on from.
 * @throws MODEL_INVALID when the file was made by a trainer that cannot go on, or before it could.
 */
export function predictorOrigin(onnx: Uint8Array): PredictorOrigin {
  const text = decodeOrRefuse(onnx).metadataProps.find(({ key }) => key === METADATA.origin)?.value ?? '';
  if (text === '') {
    throw new MillraceError('MODEL_INVALID', 'Training cannot go on from this model: it does not hold what its trainer learnt.', {
      fix: 'Go on from a model of the trainer linear, made by this version or a later one.',
    });
  }
  const origin = JSON.parse(text) as Omit<PredictorOrigin, 'learnt'> & { readonly learnt: string };
  return { ...origin, learnt: new Uint8Array(Buffer.from(origin.learnt, 'base64')) };
}

/** Element types that a bare file's inputs and outputs may have, beside the three of a signature. */
const TYPE_NAMES = new Map<number, string>([
  [1, 'FLOAT'],
  [6, 'INT32'],
  [7, 'INT64'],
  [8, 'STRING'],
  [9, 'BOOL'],
  [11, 'DOUBLE'],
]);

interface BareTensor {
  readonly name: string;
  readonly elemType: number;
  /** Columns; 1 for a tensor of one dimension, undefined when the file leaves it open. */
  readonly columns: number | undefined;
  readonly rank: number;
  readonly fixedRows: number | undefined;
}

/**
 * Makes a predictor of an ONNX file that was made elsewhere: its inputs become `numbers`, `dates` (an INT64 input of that
 * name) and `strings`, its output `output`, by nodes put around it; a file that has these names already is kept byte for
 * byte. Columns take the names in Millrace's own metadata, an input's name when it has one column, else f0, f1, ….
 * The answer of a classifier is its probabilities. Signature task: `raw`.
 * @throws MODEL_INVALID with every problem: no ONNX file, an open or fixed dimension, a ZipMap output, other types.
 */
export function wrapBareOnnx(bytes: Uint8Array): { readonly onnx: Uint8Array; readonly signature: Signature } {
  const model = decodeOrRefuse(bytes);
  const bare = model.graph;
  if (bare == null || (bare.node ?? []).length === 0) throw new MillraceError('MODEL_INVALID', 'The file has no ONNX graph.');
  const initialized = new Set((bare.initializer ?? []).map((tensor) => tensor.name));
  const problems: Problem[] = [];
  const inputs = (bare.input ?? []).filter((input) => !initialized.has(input.name)).map(bareTensor);
  if (inputs.length === 0) problems.push({ path: 'inputs', message: 'the graph has no input' });
  for (const input of inputs) problems.push(...inputProblems(input));
  const output = chooseOutput(bare.output ?? [], problems);
  if (problems.length > 0 || output === undefined) throw new MillraceError('MODEL_INVALID', 'The ONNX file cannot be served as it is.', { problems });

  const signature = bareSignature(model, inputs);
  const already =
    inputs.every((input) => (INPUTS as readonly string[]).includes(input.name)) &&
    output.name === OUTPUT &&
    output.elemType === ONNX_TYPE.float &&
    output.rank === 2;
  if (already) return { onnx: bytes, signature };
  return { onnx: rewire(model, bare, inputs, output), signature };
}

function decodeOrRefuse(bytes: Uint8Array): onnx.ModelProto {
  try {
    return decodeModel(bytes);
  } catch (cause) {
    throw new MillraceError('MODEL_INVALID', 'The file is not an ONNX model.', { cause });
  }
}

function bareTensor(info: onnx.IValueInfoProto): BareTensor {
  const tensor = info.type?.tensorType;
  const dims = tensor?.shape?.dim ?? [];
  const fixed = (at: number): number | undefined => {
    const value = Number(dims[at]?.dimValue ?? 0);
    return value > 0 ? value : undefined;
  };
  return {
    name: info.name ?? '',
    elemType: tensor?.elemType ?? 0,
    rank: dims.length,
    columns: dims.length === 1 ? 1 : fixed(1),
    fixedRows: fixed(0),
  };
}

function inputProblems(input: BareTensor): Problem[] {
  const path = `inputs.${input.name}`;
  const problems: Problem[] = [];
  if (!TYPE_NAMES.has(input.elemType))
    problems.push({ path, message: 'the type is none of FLOAT, DOUBLE, INT32, INT64, BOOL, STRING', found: String(input.elemType) });
  if (input.rank !== 1 && input.rank !== 2) problems.push({ path, message: 'the input must be a table [rows, columns]', found: `${input.rank} dimensions` });
  else if (input.columns === undefined) {
    problems.push({
      path,
      message: 'the number of columns is open',
      fix: 'export the model with the number of columns stated, as FloatTensorType([None, columns])',
    });
  }
  if (input.fixedRows !== undefined) {
    problems.push({
      path,
      message: 'the number of rows is fixed',
      found: String(input.fixedRows),
      fix: 'export the model with a free first dimension (dynamic_axes)',
    });
  }
  return problems;
}

function chooseOutput(infos: readonly onnx.IValueInfoProto[], problems: Problem[]): BareTensor | undefined {
  const outputs = infos.map(bareTensor);
  const zipMap = infos.find((info) => info.type?.sequenceType != null || info.type?.mapType != null);
  if (zipMap !== undefined && !outputs.some((output) => output.name === OUTPUT)) {
    problems.push({
      path: `outputs.${zipMap.name ?? ''}`,
      message: 'the probabilities come as a list of maps (ZipMap), not as a tensor',
      fix: 'export the model again with options={"zipmap": False} in skl2onnx.to_onnx',
    });
    return undefined;
  }
  const usable = outputs.filter((output) => TYPE_NAMES.has(output.elemType) && output.elemType !== ONNX_TYPE.string && output.rank <= 2);
  const isReal = (output: BareTensor): boolean => output.elemType === 1 || output.elemType === 11;
  const chosen =
    usable.find((output) => output.name === OUTPUT) ?? usable.find((output) => isReal(output) && output.rank === 2) ?? usable.find(isReal) ?? usable[0];
  if (chosen === undefined) {
    problems.push({
      path: 'outputs',
      message: 'no output is a table of numbers',
      found: outputs.map((output) => `${output.name} (${TYPE_NAMES.get(output.elemType) ?? 'other'})`).join(', '),
    });
  }
  return chosen;
}

const inputOf = (tensor: BareTensor): (typeof INPUTS)[number] =>
  tensor.elemType === ONNX_TYPE.string ? 'strings' : tensor.elemType === ONNX_TYPE.int64 && tensor.name === 'dates' ? 'dates' : 'numbers';

function bareSignature(model: onnx.ModelProto, inputs: readonly BareTensor[]): Signature {
  const metadata = new Map(model.metadataProps.map(({ key, value }) => [key ?? '', value ?? '']));
  let unnamed = 0;
  const named = inputs.flatMap((tensor) => {
    const columns = tensor.columns ?? 1;
    const kept = (INPUTS as readonly string[]).includes(tensor.name) ? keptNames(metadata.get(`millrace.${tensor.name}`), columns) : undefined;
    const names = kept ?? (columns === 1 ? [tensor.name] : Array.from({ length: columns }, () => `f${unnamed++}`));
    return names.map((name) => ({ name, input: inputOf(tensor), integer: tensor.elemType === 6 || tensor.elemType === 7, boolean: tensor.elemType === 9 }));
  });
  const of = (input: (typeof INPUTS)[number]): string[] => named.filter((column) => column.input === input).map((column) => column.name);
  return {
    columns: named.map(({ name, input, integer, boolean }) => ({
      name,
      type: input === 'strings' ? 'string' : input === 'dates' ? 'timestamp' : boolean ? 'boolean' : integer ? 'integer' : 'number',
    })),
    transforms: [],
    graph: { numbers: of('numbers'), dates: of('dates'), strings: of('strings') },
    task: { kind: 'raw' },
    threshold: 0.5,
  };
}

function keptNames(json: string | undefined, columns: number): string[] | undefined {
  if (json === undefined) return undefined;
  try {
    const names: unknown = JSON.parse(json);
    return Array.isArray(names) && names.length === columns && names.every((name) => typeof name === 'string') ? names : undefined;
  } catch {
    // Metadata is free text; a file whose text is no JSON has no names.
    return undefined;
  }
}

/** Puts Gather and Cast nodes between the grouped inputs and the file's own, and one Cast or Reshape behind its output. */
function rewire(model: onnx.ModelProto, bare: onnx.IGraphProto, inputs: readonly BareTensor[], output: BareTensor): Uint8Array {
  const taken = new Set([...(bare.node ?? []).flatMap((node) => [...(node.input ?? []), ...(node.output ?? [])]), ...inputs.map((input) => input.name)]);
  let prefix = 'millrace_';
  while ([...taken].some((name) => name.startsWith(prefix))) prefix += '_';
  // The file's own tensors make room for the four names of a signature.
  const own = (name: string): string => (name !== '' && ([...INPUTS, OUTPUT] as readonly string[]).includes(name) ? `${prefix}own_${name}` : name);
  const before = createGraphBuilder(`${prefix}in_`);
  const after = createGraphBuilder(`${prefix}out_`);
  const widths = { numbers: 0, dates: 0, strings: 0 };
  const renames = new Map<string, string>();
  const parts = inputs.map((tensor) => {
    const input = inputOf(tensor);
    const first = widths[input];
    widths[input] += tensor.columns ?? 1;
    return { tensor, input, first };
  });
  for (const { tensor, input, first } of parts) {
    const columns = tensor.columns ?? 1;
    let value: string = input;
    if (columns !== widths[input]) {
      value = before.op('Gather', [value, before.ints(Array.from({ length: columns }, (_, i) => first + i))], [intAttribute('axis', 1)]);
    }
    if (tensor.rank === 1) value = before.op('Reshape', [value, before.ints([-1])]);
    if (input === 'numbers' && tensor.elemType !== ONNX_TYPE.float) value = before.op('Cast', [value], [intAttribute('to', tensor.elemType)]);
    // Nested graphs may read the file's inputs by name, so they keep their names wherever these are free.
    if (own(tensor.name) === tensor.name) {
      before.nodes.push({ name: `${prefix}${tensor.name}`, opType: 'Identity', domain: '', input: [value], output: [tensor.name], attribute: [] });
    } else renames.set(tensor.name, value);
  }
  let result = own(output.name);
  if (output.elemType !== ONNX_TYPE.float) result = after.op('Cast', [result], [intAttribute('to', ONNX_TYPE.float)]);
  if (output.rank === 1) result = after.op('Reshape', [result, after.ints([-1, 1])]);
  const last = { name: `${prefix}output`, opType: 'Identity', domain: '', input: [result], output: [OUTPUT], attribute: [] };
  const rename = (name: string): string => renames.get(name) ?? own(name);
  const graph: onnx.IGraphProto = {
    ...bare,
    node: [
      ...before.nodes,
      ...(bare.node ?? []).map((node) => ({ ...node, input: (node.input ?? []).map(rename), output: (node.output ?? []).map(own) })),
      ...after.nodes,
      last,
    ],
    initializer: [...(bare.initializer ?? []).map((tensor) => ({ ...tensor, name: own(tensor.name ?? '') })), ...before.initializers, ...after.initializers],
    input: [
      ...INPUTS.filter((input) => widths[input] > 0).map((input) =>
        valueInfo(input, { numbers: ONNX_TYPE.float, dates: ONNX_TYPE.int64, strings: ONNX_TYPE.string }[input], widths[input]),
      ),
      // Before IR version 4 an initializer had to be an input too.
      ...(bare.input ?? []).filter((input) => !inputs.some((tensor) => tensor.name === input.name)),
    ],
    output: [
      {
        name: OUTPUT,
        type: {
          tensorType: {
            elemType: ONNX_TYPE.float,
            shape: { dim: [{ dimParam: 'N' }, output.columns === undefined ? { dimParam: 'K' } : { dimValue: output.columns }] },
          },
        },
      },
    ],
    valueInfo: [],
  };
  model.graph = graph;
  return encodeProto(model);
}
