import type { onnx } from 'onnx-proto';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { MillraceError, type Problem } from '../../contracts/errors.ts';
import type { LearningTask, OnnxFragment } from '../trainer.ts';
import { createGraphBuilder, decodeModel, encodeProto, intAttribute, ONNX_TYPE } from './graph-builder.ts';

/**
 * Models that other tools wrote (skl2onnx, onnxmltools, LightGBM, torch.onnx, tf2onnx, …) as the model behind a feature
 * graph.
 *
 * Invariants:
 * 1. The file is run on real rows before it is believed: which output holds the answer, its type and shape are what
 *    onnxruntime gives, not what the file says.
 * 2. The fragment answers FLOAT [N, K] probabilities, or FLOAT [N, 1] values, whatever form the file gives them in.
 * 3. All names get the fragment's prefix, in nested graphs too.
 */
export interface ExternalModel {
  readonly toOnnx: (input: string, prefix: string) => OnnxFragment;
  /** What the file itself answers for the probe's rows, row-major [rows × K]. */
  readonly answers: Float64Array;
}

export interface ProbeRows {
  readonly rows: number;
  readonly columns: number;
  /** Row-major. */
  readonly data: Float32Array;
}

export interface ExternalModelInput {
  readonly bytes: Uint8Array;
  /** Files beside the model that hold its weights, by their name. */
  readonly beside: ReadonlyMap<string, Uint8Array>;
  readonly task: LearningTask;
  readonly probe: ProbeRows;
}

/** The opset of ai.onnx in which feature graphs are written: models of older ones are raised to it. */
const FEATURES_OPSET = 20;
/** Newest one that onnxruntime here reads. */
const NEWEST_OPSET = 25;
const SUM_TOLERANCE = 2e-3;
const TENSOR_TYPE: ReadonlyMap<number, 'float32' | 'float64'> = new Map([
  [1, 'float32'],
  [11, 'float64'],
]);
const TYPE_NAMES: Readonly<Record<number, string>> = { 1: 'FLOAT', 6: 'INT32', 7: 'INT64', 8: 'STRING', 9: 'BOOL', 10: 'FLOAT16', 11: 'DOUBLE' };

const refuse = (message: string, problems: readonly Problem[] = [], fix?: string): MillraceError =>
  new MillraceError('MODEL_INVALID', message, { problems, ...(fix === undefined ? {} : { fix }) });

/** @throws MODEL_INVALID with what is wrong and how to write the file instead */
export async function openExternalModel({ bytes, beside, task, probe }: ExternalModelInput): Promise<ExternalModel> {
  const model = tidyModel(bytes, beside);
  const graph = model.graph as onnx.IGraphProto;
  const input = theInput(graph, probe.columns);
  const opsets = opsetsOf(model);
  const probed = await runProbe(model, input, probe);
  const classes = task.kind === 'regression' ? 1 : task.kind === 'binary' ? 2 : task.classes;
  const answer = chooseAnswer(probed, classes, probe.rows);
  const answers = asAnswers(answer, classes, probe.rows);
  checkAnswers(answers, classes, probe.rows);
  const raise = opsets.ai < FEATURES_OPSET;
  return {
    answers,
    toOnnx: (from, prefix) => {
      const name = (own: string): string => (own === '' ? '' : `${prefix}m_${own}`);
      const before = createGraphBuilder(`${prefix}in_`);
      const value = input.elemType === ONNX_TYPE.float ? from : before.op('Cast', [from], [intAttribute('to', input.elemType)]);
      before.nodes.push({ name: `${prefix}input`, opType: 'Identity', domain: '', input: [value], output: [name(input.name)], attribute: [] });
      const lifted: onnx.ITensorProto[] = [];
      const inner = prefixed(graph, name);
      const nodes = (inner.node ?? []).map((node, index) => (raise ? raised(node, opsets, `${prefix}lift_${String(index)}_`, lifted) : node));
      const after = createGraphBuilder(`${prefix}out_`);
      let output = name(answer.name);
      if (answer.type !== 'float32') output = after.op('Cast', [output], [intAttribute('to', ONNX_TYPE.float)]);
      if (answer.dims.length !== 2) output = after.op('Reshape', [output, after.ints([-1, answer.width])]);
      if (classes === 2 && answer.width === 1)
        output = after.op('Concat', [after.op('Sub', [after.floats([1], [1, 1]), output]), output], [intAttribute('axis', 1)]);
      // an answer that is a constant or an initializer is no node's output
      output = after.op('Identity', [output]);
      return {
        nodes: [...before.nodes, ...nodes, ...after.nodes],
        initializers: [...before.initializers, ...(inner.initializer ?? []), ...lifted, ...after.initializers],
        output,
        opset: { ai: Math.max(FEATURES_OPSET, opsets.ai), ml: opsets.ml },
      };
    },
  };
}

/** The file as one model without lists of maps among its outputs. @throws MODEL_INVALID */
export function tidyModel(bytes: Uint8Array, beside: ReadonlyMap<string, Uint8Array>): onnx.ModelProto {
  const model = decode(bytes);
  const graph = model.graph as onnx.IGraphProto;
  embedWeights(graph, beside);
  removeZipMaps(graph);
  return model;
}

function decode(bytes: Uint8Array): onnx.ModelProto {
  let model: onnx.ModelProto;
  try {
    model = decodeModel(bytes);
  } catch (cause) {
    throw new MillraceError('MODEL_INVALID', 'model.onnx is not an ONNX file, or only a part of one.', { cause });
  }
  if (model.graph == null || (model.graph.node ?? []).length === 0) throw refuse('model.onnx has no graph.');
  if (model.functions.length > 0)
    throw refuse('model.onnx has functions of its own, which cannot be joined to the features.', [
      {
        path: 'functions',
        message: 'the file defines functions',
        found: String(model.functions.length),
        fix: 'inline them: onnx.inliner.inline_local_functions(model), or torch.onnx.export(…, dynamo=False)',
      },
    ]);
  return model;
}

interface Opsets {
  readonly ai: number;
  readonly ml: number;
}

export function opsetsOf(model: onnx.ModelProto): Opsets {
  const version = (domain: string): number =>
    Math.max(
      0,
      ...model.opsetImport.filter((set) => (set.domain ?? '') === domain || (domain === '' && set.domain === 'ai.onnx')).map((set) => Number(set.version ?? 0)),
    );
  const known = new Set(['', 'ai.onnx', 'ai.onnx.ml', 'com.microsoft']);
  const used = new Set((model.graph?.node ?? []).map((node) => node.domain ?? ''));
  const unknown = [...used].filter((domain) => !known.has(domain));
  const opsets = { ai: version('') || 1, ml: version('ai.onnx.ml') };
  const problems: Problem[] = [
    ...unknown.map((domain): Problem => ({ path: 'opset', message: 'operators of this domain are not known', found: domain })),
    ...(opsets.ai > NEWEST_OPSET
      ? [{ path: 'opset', message: `must be at most ${String(NEWEST_OPSET)}`, found: String(opsets.ai), fix: 'export with an older target_opset' }]
      : []),
    ...(opsets.ai < 7 && used.has('') ? [{ path: 'opset', message: 'is too old', found: String(opsets.ai), fix: 'export with target_opset=17 or later' }] : []),
  ];
  if (problems.length > 0) throw refuse('model.onnx uses operators that cannot be joined to the features.', problems);
  return opsets;
}

/** Puts weights that lie in files beside the model into it. */
function embedWeights(graph: onnx.IGraphProto, beside: ReadonlyMap<string, Uint8Array>): void {
  const EXTERNAL = 1;
  const embed = (tensor: onnx.ITensorProto): void => {
    const location: number | null | undefined = tensor.dataLocation;
    if (location !== EXTERNAL) return;
    const entries = new Map((tensor.externalData ?? []).map(({ key, value }) => [key ?? '', value ?? '']));
    const name = entries.get('location') ?? '';
    const file = beside.get(name);
    if (file === undefined)
      throw refuse(
        `model.onnx keeps its weights in ${name}, which is not beside it.`,
        [],
        'Write that file into the output folder too, or save the model in one file.',
      );
    const offset = Number(entries.get('offset') ?? 0);
    const length = entries.has('length') ? Number(entries.get('length')) : file.length - offset;
    if (offset < 0 || length < 0 || offset + length > file.length) throw refuse(`model.onnx names weights beyond the end of ${name}: the file is not whole.`);
    tensor.rawData = file.slice(offset, offset + length);
    tensor.dataLocation = 0;
    tensor.externalData = [];
  };
  const walk = (inner: onnx.IGraphProto): void => {
    for (const tensor of inner.initializer ?? []) embed(tensor);
    for (const node of inner.node ?? [])
      for (const attribute of node.attribute ?? []) {
        if (attribute.t != null) embed(attribute.t);
        if (attribute.g != null) walk(attribute.g);
        for (const nested of attribute.graphs ?? []) walk(nested);
      }
  };
  walk(graph);
  if ((graph.sparseInitializer ?? []).length > 0) throw refuse('model.onnx has sparse weights, which cannot be read here.');
}

/** A list of maps from class to probability is made of a tensor of probabilities: that is what is answered instead. */
function removeZipMaps(graph: onnx.IGraphProto): void {
  const zipMaps = (graph.node ?? []).filter((node) => node.opType === 'ZipMap');
  for (const zipMap of zipMaps) {
    const [from] = zipMap.input ?? [];
    const [to] = zipMap.output ?? [];
    if (from === undefined || to === undefined) continue;
    const labels = zipMap.attribute?.find(({ name }) => name === 'classlabels_int64s')?.ints?.map(Number);
    if (labels !== undefined && labels.some((label, index) => label !== index)) {
      throw refuse('The classes of model.onnx are not those of the task.', [
        {
          path: 'classes',
          message: 'must be 0, 1, 2, …, as the target column numbers them',
          found: labels.join(', ').slice(0, 200),
          fix: 'train on the target column as it is',
        },
      ]);
    }
    graph.node = (graph.node ?? []).filter((node) => node !== zipMap);
    graph.output = (graph.output ?? []).map((output) => (output.name === to ? { name: from, type: { tensorType: { elemType: ONNX_TYPE.float } } } : output));
  }
  // sequences and maps of other making cannot be answers
  graph.output = (graph.output ?? []).filter((output) => output.type?.sequenceType == null && output.type?.mapType == null);
  if (graph.output.length === 0) throw refuse('model.onnx answers lists of maps, not a tensor.', [], 'Export it with options={"zipmap": False}.');
}

function theInput(graph: onnx.IGraphProto, columns: number): { readonly name: string; readonly elemType: number } {
  const initialized = new Set((graph.initializer ?? []).map(({ name }) => name));
  const inputs = (graph.input ?? []).filter(({ name }) => !initialized.has(name));
  const [input] = inputs;
  if (input === undefined || inputs.length > 1) {
    throw refuse(
      `model.onnx has ${String(inputs.length)} inputs, and needs one: FLOAT [N, ${String(columns)}].`,
      inputs.map(({ name }) => ({ path: `inputs.${name ?? ''}`, message: 'is an input' })),
      `Export it with one input, such as initial_types=[("input", FloatTensorType([None, ${String(columns)}]))], or train with input: 'raw'.`,
    );
  }
  const tensor = input.type?.tensorType;
  const path = `inputs.${input.name ?? ''}`;
  const elemType = tensor?.elemType ?? 0;
  const dims = tensor?.shape?.dim;
  const size = (at: number): number => Number(dims?.[at]?.dimValue ?? 0);
  const problems: Problem[] = [];
  if (elemType !== 1 && elemType !== 11) problems.push({ path, message: 'must be FLOAT or DOUBLE', found: TYPE_NAMES[elemType] ?? String(elemType) });
  if (dims != null && dims.length !== 2)
    problems.push({ path, message: `must be a table [N, ${String(columns)}]`, found: `${String(dims.length)} dimensions` });
  else if (dims != null) {
    if (size(1) > 0 && size(1) !== columns)
      problems.push({
        path,
        message: `must take the ${String(columns)} feature columns`,
        found: `${String(size(1))} columns`,
        fix: 'train on all feature columns of the task file, and not on the target',
      });
    if (size(0) > 0)
      problems.push({
        path,
        message: 'the number of rows is fixed',
        found: String(size(0)),
        fix: 'export with a free first dimension: FloatTensorType([None, F]), or dynamic_axes={"input": {0: "N"}}',
      });
  }
  if (problems.length > 0) throw refuse('model.onnx cannot take the features.', problems);
  return { name: input.name ?? '', elemType };
}

interface Probed {
  readonly name: string;
  readonly type: Tensor.Type;
  readonly dims: readonly number[];
  readonly data: Tensor.DataType;
}

/** What onnxruntime says, in one line and without paths. */
export const reasonOf = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error))
    .split('\n')[0]
    ?.replaceAll(/(?:\/[^\s/:]+){2,}/g, '…')
    .slice(0, 400) ?? '';

async function runProbe(model: onnx.ModelProto, input: { readonly name: string; readonly elemType: number }, probe: ProbeRows): Promise<readonly Probed[]> {
  const { rows, columns, data } = probe;
  let session: InferenceSession;
  try {
    session = await InferenceSession.create(encodeProto(model), { intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 4 });
  } catch (error) {
    throw refuse('onnxruntime cannot load model.onnx.', [{ path: 'model.onnx', message: 'is refused', found: reasonOf(error) }]);
  }
  try {
    const dims = [rows, columns];
    const feed = TENSOR_TYPE.get(input.elemType) === 'float64' ? new Tensor('float64', Float64Array.from(data), dims) : new Tensor('float32', data, dims);
    const results = await session.run({ [input.name]: feed });
    return session.outputNames.flatMap((name) => {
      const result = results[name];
      return result === undefined ? [] : [{ name, type: result.type, dims: result.dims, data: result.data }];
    });
  } catch (error) {
    throw refuse(`model.onnx cannot compute ${String(rows)} rows of ${String(columns)} features.`, [
      { path: 'model.onnx', message: 'failed', found: reasonOf(error) },
    ]);
  } finally {
    await session.release();
  }
}

type Answer = Probed & { readonly width: number };

function chooseAnswer(probed: readonly Probed[], classes: number, rows: number): Answer {
  const widthOf = ({ data }: Probed): number => data.length / rows;
  const fits = (output: Probed): boolean => {
    const width = widthOf(output);
    return (output.type === 'float32' || output.type === 'float64') && output.dims[0] === rows && (width === classes || (classes === 2 && width === 1));
  };
  const candidates = probed.filter(fits);
  const chosen =
    candidates.find(({ name }) => name === 'output') ??
    candidates.find(({ name }) => /prob/i.test(name)) ??
    candidates.find((output) => widthOf(output) === classes) ??
    candidates[0];
  if (chosen !== undefined) return { ...chosen, width: widthOf(chosen) };
  const needed =
    classes === 1 ? 'one number a row, FLOAT [N, 1]' : classes === 2 ? 'probabilities, FLOAT [N, 2] or [N, 1]' : `probabilities, FLOAT [N, ${String(classes)}]`;
  const onlyLabels = classes > 1 && probed.every(({ type }) => type === 'int64' || type === 'int32' || type === 'string');
  throw refuse(
    onlyLabels ? 'model.onnx answers labels, and no probabilities.' : `model.onnx does not answer ${needed}.`,
    probed.map(({ name, type, dims }) => ({
      path: `outputs.${name}`,
      message: `must be ${needed}`,
      found: `${type} [${dims.join(', ')}] for ${String(rows)} rows`,
    })),
    classes === 1 ? 'Export a regression.' : 'Export the classifier with its probabilities, one column for each class in the order of task.classes.',
  );
}

function asAnswers({ data, width }: Answer, classes: number, rows: number): Float64Array {
  const values = Float64Array.from(data as ArrayLike<number>);
  if (width === classes) return values;
  const both = new Float64Array(rows * 2);
  values.forEach((p, row) => {
    both[2 * row] = 1 - p;
    both[2 * row + 1] = p;
  });
  return both;
}

/** @throws MODEL_INVALID for what is not finite, and for rows that are no probabilities */
export function checkAnswers(answers: ArrayLike<number> & Iterable<number>, classes: number, rows: number): void {
  const values = Float64Array.from(answers);
  if (values.some((value) => !Number.isFinite(value)))
    throw refuse('model.onnx answers values that are not finite.', [], 'Look at the loss: training may have diverged.');
  if (classes === 1) return;
  for (let row = 0; row < rows; row++) {
    const of = values.subarray(row * classes, (row + 1) * classes);
    const sum = of.reduce((total, p) => total + p, 0);
    if (of.every((p) => p >= -SUM_TOLERANCE && p <= 1 + SUM_TOLERANCE) && Math.abs(sum - 1) <= SUM_TOLERANCE) continue;
    throw refuse(
      'model.onnx answers numbers that are no probabilities.',
      [
        {
          path: 'outputs',
          message: 'must lie in 0 … 1 and sum to 1 in each row',
          found: [...of]
            .slice(0, 5)
            .map((p) => p.toPrecision(4))
            .join(', '),
        },
      ],
      'Put a softmax (two classes with one output: a sigmoid) at the end of the model.',
    );
  }
}

/** The graph with each name given anew, in nested graphs too. */
export function prefixed(graph: onnx.IGraphProto, name: (own: string) => string): onnx.IGraphProto {
  return {
    ...graph,
    node: (graph.node ?? []).map((node) => ({
      ...node,
      name: name(node.name ?? ''),
      input: (node.input ?? []).map(name),
      output: (node.output ?? []).map(name),
      attribute: (node.attribute ?? []).map((attribute) => ({
        ...attribute,
        ...(attribute.g == null ? {} : { g: prefixed(attribute.g, name) }),
        ...((attribute.graphs ?? []).length === 0 ? {} : { graphs: attribute.graphs?.map((nested) => prefixed(nested, name)) ?? [] }),
      })),
    })),
    initializer: (graph.initializer ?? []).map((tensor) => ({ ...tensor, name: name(tensor.name ?? '') })),
    input: (graph.input ?? []).map((info) => ({ ...info, name: name(info.name ?? '') })),
    output: (graph.output ?? []).map((info) => ({ ...info, name: name(info.name ?? '') })),
    valueInfo: [],
  };
}

/** Operators that read `axes` as an attribute before this opset, and as an input from it on. */
const AXES_BECAME_INPUT: ReadonlyMap<string, number> = new Map([
  ...['Squeeze', 'Unsqueeze', 'ReduceSum'].map((op) => [op, 13] as const),
  ...['ReduceMean', 'ReduceMax', 'ReduceMin', 'ReduceProd', 'ReduceL1', 'ReduceL2', 'ReduceLogSum', 'ReduceLogSumExp', 'ReduceSumSquare'].map(
    (op) => [op, 18] as const,
  ),
]);
/** Operators that changed in a way that cannot be made up for here, and since when they are as now. */
const CHANGED: ReadonlyMap<string, number> = new Map([
  ['Slice', 10],
  ['TopK', 11],
  ['Pad', 11],
  ['Clip', 11],
  ['Resize', 13],
  ['Upsample', 99],
  ['Scatter', 99],
  ['Loop', 11],
  ['Scan', 9],
  ['BatchNormalization', 9],
  ['GridSample', 20],
  ['DFT', 20],
  ['OneHot', 9],
  ['RNN', 7],
  ['LSTM', 7],
  ['GRU', 7],
]);
const ATTRIBUTE_INTS = 7;

/** The node as opset 20 writes it. */
export function raised(node: onnx.INodeProto, opsets: Opsets, prefix: string, lifted: onnx.ITensorProto[]): onnx.INodeProto {
  const op = node.opType ?? '';
  if (node.domain === 'ai.onnx.ml') {
    if (op === 'LabelEncoder' && opsets.ml < 2) throw tooOld(op, opsets.ml, 'ai.onnx.ml', 2);
    return node;
  }
  if ((node.domain ?? '') !== '' && node.domain !== 'ai.onnx') return node;
  const attributes = node.attribute ?? [];
  const nested = attributes.map((attribute) =>
    attribute.g == null
      ? attribute
      : {
          ...attribute,
          g: { ...attribute.g, node: (attribute.g.node ?? []).map((inner, index) => raised(inner, opsets, `${prefix}${String(index)}_`, lifted)) },
        },
  );
  const plain = { ...node, attribute: nested };
  const changed = CHANGED.get(op);
  if (changed !== undefined && opsets.ai < changed) throw tooOld(op, opsets.ai, 'ai.onnx', changed);
  const asInput = (attribute: string): onnx.INodeProto => {
    const values = attributes.find(({ name, type }) => name === attribute && Number(type) === ATTRIBUTE_INTS)?.ints;
    if (values == null) return plain;
    const constant = createGraphBuilder(prefix);
    const [data = ''] = node.input ?? [];
    const withInput = { ...plain, input: [data, constant.ints(values.map(Number))], attribute: nested.filter(({ name }) => name !== attribute) };
    lifted.push(...constant.initializers);
    return withInput;
  };
  const axesSince = AXES_BECAME_INPUT.get(op);
  if (axesSince !== undefined && opsets.ai < axesSince) return asInput('axes');
  if (op === 'Split') {
    const split = opsets.ai < 13 ? asInput('split') : plain;
    const sized = (split.input ?? []).length > 1;
    return sized || opsets.ai >= 18 ? split : { ...split, attribute: [...(split.attribute ?? []), intAttribute('num_outputs', (node.output ?? []).length)] };
  }
  if ((op === 'Softmax' || op === 'LogSoftmax' || op === 'Hardmax') && opsets.ai < 13 && !attributes.some(({ name }) => name === 'axis'))
    return { ...plain, attribute: [...nested, intAttribute('axis', 1)] };
  if (op === 'Dropout' && opsets.ai < 12) return { ...plain, attribute: nested.filter(({ name }) => name !== 'ratio') };
  if (op === 'BatchNormalization' && opsets.ai < 14) return { ...plain, output: (node.output ?? []).slice(0, 1) };
  return plain;
}

const tooOld = (op: string, found: number, domain: string, needed: number): MillraceError =>
  refuse(`model.onnx uses ${op} of an old opset, which cannot be joined to the features.`, [
    {
      path: 'opset',
      message: `${domain} must be ${needed > FEATURES_OPSET ? 'one without this operator' : `at least ${String(needed)}`}`,
      found: String(found),
      fix: 'export with target_opset=17 or later',
    },
  ]);
