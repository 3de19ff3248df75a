import type { onnx } from 'onnx-proto';
import {
  createGraphBuilder,
  floatAttribute,
  floatsAttribute,
  type GraphBuilder,
  intAttribute,
  intsAttribute,
  ONNX_TYPE,
  stringAttribute,
  stringsAttribute,
  valueInfo,
} from '../onnx/graph-builder.ts';
import {
  type DatePart,
  type DatetimeStep,
  type FittedFeatures,
  type LookupStep,
  type NumericStep,
  type OneHotStep,
  SCALED_LIMIT,
  type Scale,
  type TextStep,
} from './fitted-features.ts';
import { RE2_WORD_PATTERN } from './tokenize.ts';

/** The features as a piece of an ONNX graph: raw columns in three grouped inputs, one FLOAT [N, F] out. */
export interface FeatureGraph {
  readonly nodes: readonly onnx.INodeProto[];
  readonly initializers: readonly onnx.ITensorProto[];
  /** `numbers`, `dates`, `strings`; an input without columns is left out. */
  readonly inputs: readonly onnx.IValueInfoProto[];
  readonly output: string;
  /** Names of the output's columns. */
  readonly names: readonly string[];
  readonly opset: { readonly ai: number; readonly ml: number };
}

const ML = 'ai.onnx.ml';
const CAST_TO = (type: number): onnx.IAttributeProto => intAttribute('to', type);
/** Stands for a null in `dates`. */
const NULL_INSTANT = -(2n ** 63n);
const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;

/**
 * Compiles fitted features into ONNX. Feed it as contracts/signature.ts says: NaN, the least int64 and `\u0000` (or the
 * empty text) stand for null. Text uses onnxruntime's contributed `Tokenizer`; all else is standard ONNX.
 */
export function featuresToOnnx(fitted: FittedFeatures): FeatureGraph {
  const graph = createGraphBuilder('features_');
  const { numbers, dates, strings } = fitted.graph;
  const blocks: string[] = [];
  const pick = (input: 'numbers' | 'strings', columns: readonly string[], wanted: readonly string[]): string =>
    wanted.length === columns.length ? input : graph.op('Gather', [input, graph.ints(wanted.map((name) => columns.indexOf(name)))], [intAttribute('axis', 1)]);
  const one = (step: { readonly column: string; readonly source: 'number' | 'string' }): string =>
    step.source === 'number' ? pick('numbers', numbers, [step.column]) : pick('strings', strings, [step.column]);

  const numericSteps = fitted.steps.filter((step): step is NumericStep => step.kind === 'numeric');
  if (numericSteps.length > 0) {
    blocks.push(
      numericBlock(
        graph,
        pick(
          'numbers',
          numbers,
          numericSteps.map((step) => step.column),
        ),
        numericSteps,
      ),
    );
  }
  const datetimeSteps = fitted.steps.filter((step): step is DatetimeStep => step.kind === 'datetime');
  if (datetimeSteps.length > 0) blocks.push(datetimeBlock(graph, datetimeSteps));
  for (const step of fitted.steps) {
    if (step.kind === 'lookup') blocks.push(lookupBlock(graph, one(step), step));
    else if (step.kind === 'oneHot') blocks.push(oneHotBlock(graph, one(step), step));
    else if (step.kind === 'text') blocks.push(textBlock(graph, pick('strings', strings, [step.column]), step));
  }
  const [single] = blocks;
  const output = blocks.length === 1 && single !== undefined ? single : graph.op('Concat', blocks, [intAttribute('axis', 1)]);
  return {
    nodes: graph.nodes,
    initializers: graph.initializers,
    inputs: [
      ...(numbers.length > 0 ? [valueInfo('numbers', ONNX_TYPE.float, numbers.length)] : []),
      ...(dates.length > 0 ? [valueInfo('dates', ONNX_TYPE.int64, dates.length)] : []),
      ...(strings.length > 0 ? [valueInfo('strings', ONNX_TYPE.string, strings.length)] : []),
    ],
    output: output === 'numbers' ? graph.op('Identity', ['numbers']) : output,
    names: fitted.names,
    opset: { ai: 20, ml: 3 },
  };
}

/** Fills, logs and scales all columns at once; NaN passes every comparison as false, so a column that keeps it does. */
function numericBlock(graph: GraphBuilder, input: string, steps: readonly NumericStep[]): string {
  let value = fillMissing(
    graph,
    input,
    steps.map((step) => step.fill),
  );
  if (steps.some((step) => step.log)) {
    const zero = graph.floats([0], []);
    const positive = graph.op('Where', [graph.op('Less', [value, zero]), zero, value]);
    const logged = graph.op('Log', [graph.op('Add', [positive, graph.floats([1], [])])]);
    if (steps.every((step) => step.log)) value = logged;
    else {
      // A number with a bit for each column picks the logged ones: a float mask keeps the initializers to two types.
      const mask = graph.op('Greater', [graph.floats(steps.map((step) => (step.log ? 1 : 0))), zero]);
      value = graph.op('Where', [mask, logged, value]);
    }
  }
  return scaleBlock(
    graph,
    value,
    steps.map((step) => step.scale),
  );
}

function fillMissing(graph: GraphBuilder, input: string, fills: readonly (number | null)[]): string {
  if (fills.every((fill) => fill === null)) return input;
  const fill = graph.floats(fills.map((value) => value ?? Number.NaN));
  return graph.op('Where', [graph.op('IsNaN', [input]), fill, input]);
}

function scaleBlock(graph: GraphBuilder, input: string, scales: readonly (Scale | null)[]): string {
  if (scales.every((scale) => scale === null)) return input;
  const moved = graph.op('Sub', [input, graph.floats(scales.map((scale) => scale?.mean ?? 0))]);
  const value = graph.op('Mul', [moved, graph.floats(scales.map((scale) => scale?.factor ?? 1))]);
  const high = graph.floats(scales.map((scale) => (scale === null ? Number.POSITIVE_INFINITY : SCALED_LIMIT)));
  const low = graph.floats(scales.map((scale) => (scale === null ? Number.NEGATIVE_INFINITY : -SCALED_LIMIT)));
  const cut = graph.op('Where', [graph.op('Greater', [value, high]), high, value]);
  return graph.op('Where', [graph.op('Less', [cut, low]), low, cut]);
}

/** All date columns at once, part by part, in int64; then the parts that each column asked for. */
function datetimeBlock(graph: GraphBuilder, steps: readonly DatetimeStep[]): string {
  const missing = graph.op('Equal', ['dates', graph.ints([NULL_INSTANT], [])]);
  const instants = graph.op('Where', [missing, graph.ints([0], []), 'dates']);
  const wanted = [...new Set(steps.flatMap((step) => step.parts.map(({ part }) => part)))];
  const arithmetic = createDateArithmetic(graph, instants);
  const parts = wanted.map((part) => arithmetic(part));
  // [N, parts × columns]: part by part, each with all columns.
  const [single] = parts;
  const all = parts.length === 1 && single !== undefined ? single : graph.op('Concat', parts, [intAttribute('axis', 1)]);
  const repeated = parts.length === 1 ? missing : graph.op('Concat', new Array<string>(parts.length).fill(missing), [intAttribute('axis', 1)]);
  const floats = graph.op('Where', [repeated, graph.floats([Number.NaN], []), graph.op('Cast', [all], [CAST_TO(ONNX_TYPE.float)])]);
  const order = steps.flatMap((step, column) => step.parts.map(({ part }) => wanted.indexOf(part) * steps.length + column));
  const inOrder =
    order.length === wanted.length * steps.length && order.every((from, to) => from === to)
      ? floats
      : graph.op('Gather', [floats, graph.ints(order)], [intAttribute('axis', 1)]);
  const outputs = steps.flatMap((step) => step.parts);
  return scaleBlock(
    graph,
    fillMissing(
      graph,
      inOrder,
      outputs.map(({ fill }) => fill),
    ),
    outputs.map(({ scale }) => scale),
  );
}

/** The arithmetic of date-parts.ts in ONNX; each intermediate result is made once, when first asked for. */
function createDateArithmetic(graph: GraphBuilder, instants: string): (part: DatePart) => string {
  const constant = (value: number): string => graph.ints([value], []);
  const add = (a: string, value: number): string => graph.op('Add', [a, constant(value)]);
  const subtract = (a: string, b: string): string => graph.op('Sub', [a, b]);
  const multiply = (a: string, value: number): string => graph.op('Mul', [a, constant(value)]);
  /** Truncates, so only for numbers from 0 on, or exact quotients. */
  const divide = (a: string, value: number): string => graph.op('Div', [a, constant(value)]);
  /** Takes the divisor's sign, as ONNX says for whole numbers. */
  const modulo = (a: string, value: number): string => graph.op('Mod', [a, constant(value)]);
  const floorDivide = (a: string, value: number): string => divide(subtract(a, modulo(a, value)), value);
  const once = (make: () => string): (() => string) => {
    let made: string | undefined;
    return () => {
      made ??= make();
      return made;
    };
  };
  const days = once(() => floorDivide(instants, DAY_MS));
  const shifted = once(() => add(days(), 719_468));
  const dayOfEra = once(() => modulo(shifted(), 146_097));
  const yearOfEra = once(() => {
    const d = dayOfEra();
    const leapFree = subtract(graph.op('Add', [subtract(d, divide(d, 1460)), divide(d, 36_524)]), divide(d, 146_096));
    return divide(leapFree, 365);
  });
  const dayFromMarch = once(() => {
    const y = yearOfEra();
    return graph.op('Add', [subtract(subtract(dayOfEra(), multiply(y, 365)), divide(y, 4)), divide(y, 100)]);
  });
  const monthFromMarch = once(() => divide(add(multiply(dayFromMarch(), 5), 2), 153));
  const inNextYear = once(() => divide(add(monthFromMarch(), 2), 12));
  return (part) => {
    switch (part) {
      case 'epochDays':
        return days();
      case 'dayOfWeek':
        return modulo(add(days(), 4), 7);
      case 'hour':
        return divide(modulo(instants, DAY_MS), HOUR_MS);
      case 'minute':
        return divide(modulo(instants, HOUR_MS), MINUTE_MS);
      case 'year':
        return graph.op('Add', [graph.op('Add', [yearOfEra(), multiply(divide(subtract(shifted(), dayOfEra()), 146_097), 400)]), inNextYear()]);
      case 'month':
        return subtract(add(monthFromMarch(), 3), multiply(inNextYear(), 12));
      case 'day':
        return add(subtract(dayFromMarch(), divide(add(multiply(monthFromMarch(), 153), 2), 5)), 1);
      case 'dayOfYear': {
        const y = yearOfEra();
        const asInt = (condition: string): string => graph.op('Cast', [condition], [CAST_TO(ONNX_TYPE.int64)]);
        const isZero = (a: string): string => graph.op('Equal', [a, constant(0)]);
        const century = graph.op('And', [isZero(modulo(y, 100)), graph.op('Not', [isZero(y)])]);
        const leap = asInt(graph.op('And', [isZero(modulo(y, 4)), graph.op('Not', [century])]));
        const spring = add(graph.op('Add', [dayFromMarch(), leap]), 60);
        const winter = add(dayFromMarch(), -305);
        return graph.op('Where', [graph.op('Equal', [inNextYear(), constant(1)]), winter, spring]);
      }
    }
  };
}

const isText = (keys: readonly (string | number)[]): keys is readonly string[] => typeof keys[0] === 'string';
const keysAttribute = (keys: readonly (string | number)[], more: readonly string[]): onnx.IAttributeProto =>
  isText(keys) ? stringsAttribute('keys_strings', [...keys, ...more]) : floatsAttribute('keys_floats', keys as readonly number[]);

/** Category [N, 1] → number [N, 1] by one LabelEncoder; the missing value is the empty text, or NaN beside the table. */
function encodeLabels(graph: GraphBuilder, input: string, step: LookupStep | OneHotStep, values: readonly number[], other: number, missing: number): string {
  const text = step.source === 'string';
  const encoded = graph.op(
    'LabelEncoder',
    [input],
    [keysAttribute(step.keys, ['']), floatsAttribute('values_floats', text ? [...values, missing] : values), floatAttribute('default_float', other)],
    ML,
  );
  return text ? encoded : graph.op('Where', [graph.op('IsNaN', [input]), graph.floats([missing], []), encoded]);
}

function lookupBlock(graph: GraphBuilder, input: string, step: LookupStep): string {
  if (step.width === 1) return encodeLabels(graph, input, step, step.values, step.other[0] ?? 0, step.missing[0] ?? Number.NaN);
  const groups = step.keys.length;
  const place = placeBlock(graph, input, step, groups, groups + 1);
  const table = graph.floats(
    [...step.values, ...step.other, ...step.missing].map((value) => value ?? Number.NaN),
    [groups + 2, step.width],
  );
  return graph.op('Gather', [table, place], [intAttribute('axis', 0)]);
}

/** Category [N, 1] → its place, INT64 [N]. Float32 holds every place up to 16 million. */
function placeBlock(graph: GraphBuilder, input: string, step: LookupStep | OneHotStep, other: number, missing: number): string {
  const places = step.keys.map((_, place) => place);
  const flat = graph.op('Reshape', [encodeLabels(graph, input, step, places, other, missing), graph.ints([-1])]);
  return graph.op('Cast', [flat], [CAST_TO(ONNX_TYPE.int64)]);
}

function oneHotBlock(graph: GraphBuilder, input: string, step: OneHotStep): string {
  // OneHot answers all zeros for an index beyond its depth.
  const nothing = step.width;
  const other = step.other ?? nothing;
  const place = placeBlock(graph, input, step, other, step.missing ?? other);
  return graph.op('OneHot', [place, graph.ints([step.width], []), graph.floats([0, 1])], [intAttribute('axis', 1)]);
}

function textBlock(graph: GraphBuilder, input: string, step: TextStep): string {
  const flat = graph.op('Reshape', [input, graph.ints([-1])]);
  const lowered = graph.op(
    'StringNormalizer',
    [flat],
    // Any other locale may be missing on a small machine, and the session would then fail to load.
    [stringAttribute('case_change_action', 'LOWER'), intAttribute('is_case_sensitive', 1), stringAttribute('locale', 'C')],
  );
  const words = graph.op(
    'Tokenizer',
    [lowered],
    [intAttribute('mark', 0), stringAttribute('pad_value', '\u0001'), intAttribute('mincharnum', 1), stringAttribute('tokenexp', RE2_WORD_PATTERN)],
    'com.microsoft',
  );
  const byLength = Array.from({ length: step.ngrams }, (_, i) => step.terms.filter((term) => term.split(' ').length === i + 1));
  let start = 0;
  const starts = byLength.map((terms, i) => {
    const at = start;
    start += terms.length * (i + 1);
    return at;
  });
  const counts = graph.op(
    'TfIdfVectorizer',
    [words],
    [
      stringAttribute('mode', step.weight === 'binary' ? 'IDF' : step.weight === 'tfidf' ? 'TFIDF' : 'TF'),
      intAttribute('min_gram_length', 1),
      intAttribute('max_gram_length', step.ngrams),
      intAttribute('max_skip_count', 0),
      stringsAttribute(
        'pool_strings',
        byLength.flat().flatMap((term) => term.split(' ')),
      ),
      intsAttribute('ngram_counts', starts),
      intsAttribute(
        'ngram_indexes',
        step.terms.map((_, place) => place),
      ),
      ...(step.weight === 'tfidf' ? [floatsAttribute('weights', step.idf)] : []),
    ],
  );
  if (step.weight !== 'tfidf') return counts;
  const norm = graph.op('ReduceL2', [counts, graph.ints([1])], [intAttribute('keepdims', 1)]);
  // A text without a known word stays at zeros.
  return graph.op('Div', [counts, graph.op('Max', [norm, graph.floats([1e-30], [])])]);
}
