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
import { isHashed, partSize } from './category.ts';
import {
  type BinsStep,
  type CrossPart,
  type DatePart,
  type DatetimeStep,
  type FittedFeatures,
  type HashStep,
  isNormalised,
  type LookupStep,
  type NumericStep,
  type OneHotStep,
  SCALED_LIMIT,
  type Scale,
  type TextStep,
  waveFactor,
} from './fitted-features.ts';
import { HASH_FACTOR } from './murmur-hash.ts';
import { RE2_CHARACTER_PATTERN, RE2_WHITE_PATTERN, RE2_WORD_PATTERN, unitsOf } from './tokenize.ts';

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
 * empty text) stand for null. Text uses onnxruntime's contributed `Tokenizer`, hashing its `MurmurHash3`; all else is
 * standard ONNX.
 */
export function featuresToOnnx(fitted: FittedFeatures): FeatureGraph {
  const graph = createGraphBuilder('features_');
  const { numbers, dates, strings } = fitted.graph;
  const blocks: string[] = [];
  const inputs = { numbers, dates, strings };
  const pick = (input: keyof typeof inputs, wanted: readonly string[]): string => {
    const columns = inputs[input];
    if (wanted.length === columns.length && wanted.every((name, i) => name === columns[i])) return input;
    return graph.op('Gather', [input, graph.ints(wanted.map((name) => columns.indexOf(name)))], [intAttribute('axis', 1)]);
  };
  const column: ColumnPicker = ({ column: name, source }) => pick(source === 'number' ? 'numbers' : 'strings', [name]);
  const encoded = (step: LookupStep | OneHotStep | HashStep): string =>
    step.source === 'cross' ? crossBlock(graph, step.parts ?? [], column) : column({ column: step.column, source: step.source });

  const numericSteps = fitted.steps.filter((step): step is NumericStep => step.kind === 'numeric');
  if (numericSteps.length > 0) {
    blocks.push(
      numericBlock(
        graph,
        pick(
          'numbers',
          numericSteps.map((step) => step.column),
        ),
        numericSteps,
      ),
    );
  }
  const datetimeSteps = fitted.steps.filter((step): step is DatetimeStep => step.kind === 'datetime');
  if (datetimeSteps.length > 0) {
    blocks.push(
      datetimeBlock(
        graph,
        pick(
          'dates',
          datetimeSteps.map((step) => step.column),
        ),
        datetimeSteps,
      ),
    );
  }
  for (const step of fitted.steps) {
    if (step.kind === 'bins') blocks.push(binsBlock(graph, pick('numbers', [step.column]), step));
    else if (step.kind === 'indicator') blocks.push(graph.op('Cast', [graph.op('IsNaN', [pick('numbers', [step.column])])], [CAST_TO(ONNX_TYPE.float)]));
    else if (step.kind === 'lookup') blocks.push(lookupBlock(graph, encoded(step), step));
    else if (step.kind === 'oneHot') blocks.push(oneHotBlock(graph, encoded(step), step));
    else if (step.kind === 'hash') blocks.push(hashBlock(graph, encoded(step), step));
    else if (step.kind === 'text') blocks.push(textBlock(graph, pick('strings', [step.column]), step));
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

type ColumnPicker = (from: { readonly column: string; readonly source: 'number' | 'string' }) => string;

/** Cuts, fills, logs and scales all columns at once; NaN passes every comparison as false, so a column that keeps it does. */
function numericBlock(graph: GraphBuilder, input: string, steps: readonly NumericStep[]): string {
  let value = fillMissing(
    graph,
    clipBlock(
      graph,
      input,
      steps.map((step) => step.clip),
    ),
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

function clipBlock(graph: GraphBuilder, input: string, clips: readonly NumericStep['clip'][]): string {
  let value = input;
  if (clips.some((clip) => clip !== undefined && clip.high !== null)) {
    const high = graph.floats(clips.map((clip) => clip?.high ?? Number.POSITIVE_INFINITY));
    value = graph.op('Where', [graph.op('Greater', [value, high]), high, value]);
  }
  if (clips.some((clip) => clip !== undefined && clip.low !== null)) {
    const low = graph.floats(clips.map((clip) => clip?.low ?? Number.NEGATIVE_INFINITY));
    value = graph.op('Where', [graph.op('Less', [value, low]), low, value]);
  }
  return value;
}

/** A number [N, 1] → how many edges it reaches, or the column of that bin. */
function binsBlock(graph: GraphBuilder, input: string, step: BinsStep): string {
  const bin = binBlock(graph, input, step.edges, step.encode === 'ordinal' ? (step.missing ?? Number.NaN) : (step.missing ?? step.width));
  return step.encode === 'ordinal' ? scaleBlock(graph, bin, [step.scale]) : oneHotOf(graph, bin, step.width);
}

/** A number [N, 1] → its bin, FLOAT [N, 1]. */
function binBlock(graph: GraphBuilder, input: string, edges: readonly number[], missing: number): string {
  const reached = graph.op('Cast', [graph.op('GreaterOrEqual', [input, graph.floats(edges)])], [CAST_TO(ONNX_TYPE.float)]);
  const bin = graph.op('ReduceSum', [reached, graph.ints([1])], [intAttribute('keepdims', 1)]);
  return graph.op('Where', [graph.op('IsNaN', [input]), graph.floats([missing], []), bin]);
}

/** A place FLOAT [N, 1] → columns, one of which is 1; OneHot answers all zeros for a place beyond its depth. */
function oneHotOf(graph: GraphBuilder, place: string, width: number): string {
  const flat = graph.op('Cast', [graph.op('Reshape', [place, graph.ints([-1])])], [CAST_TO(ONNX_TYPE.int64)]);
  return graph.op('OneHot', [flat, graph.ints([width], []), graph.floats([0, 1])], [intAttribute('axis', 1)]);
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
function datetimeBlock(graph: GraphBuilder, input: string, steps: readonly DatetimeStep[]): string {
  const missing = graph.op('Equal', [input, graph.ints([NULL_INSTANT], [])]);
  const instants = graph.op('Where', [missing, graph.ints([0], []), input]);
  const wanted = [...new Set(steps.flatMap((step) => step.parts.map(({ part }) => part)))];
  const arithmetic = createDateArithmetic(graph, instants);
  const parts = wanted.map((part) => arithmetic(part));
  // [N, parts × columns]: part by part, each with all columns.
  const [single] = parts;
  const all = parts.length === 1 && single !== undefined ? single : graph.op('Concat', parts, [intAttribute('axis', 1)]);
  const repeated = parts.length === 1 ? missing : graph.op('Concat', new Array<string>(parts.length).fill(missing), [intAttribute('axis', 1)]);
  const floats = graph.op('Where', [repeated, graph.floats([Number.NaN], []), graph.op('Cast', [all], [CAST_TO(ONNX_TYPE.float)])]);
  const order = steps.flatMap((step, column) => step.parts.map(({ part }) => wanted.indexOf(part) * steps.length + column));
  let inOrder =
    order.length === wanted.length * steps.length && order.every((from, to) => from === to)
      ? floats
      : graph.op('Gather', [floats, graph.ints(order)], [intAttribute('axis', 1)]);
  const outputs = steps.flatMap((step) => step.parts);
  if (outputs.some(({ wave }) => wave !== undefined)) {
    const angle = graph.op('Mul', [inOrder, graph.floats(outputs.map(({ part, wave }) => (wave === undefined ? 0 : waveFactor(part))))]);
    const mask = (wanted: 'sin' | 'cos'): string =>
      graph.op('Greater', [graph.floats(outputs.map(({ wave }) => (wave === wanted ? 1 : 0))), graph.floats([0], [])]);
    const cosines = graph.op('Where', [mask('cos'), graph.op('Cos', [angle]), inOrder]);
    inOrder = graph.op('Where', [mask('sin'), graph.op('Sin', [angle]), cosines]);
  }
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
function keysAttribute(source: LookupStep['source'], keys: readonly (string | number)[]): onnx.IAttributeProto {
  if (source === 'cross') return intsAttribute('keys_int64s', keys.map(Number));
  return isText(keys) ? stringsAttribute('keys_strings', [...keys, '']) : floatsAttribute('keys_floats', keys as readonly number[]);
}

/** Category [N, 1] → number [N, 1] by one LabelEncoder; the missing value is the empty text, or NaN beside the table. */
function encodeLabels(graph: GraphBuilder, input: string, step: LookupStep | OneHotStep, values: readonly number[], other: number, missing: number): string {
  const { source } = step;
  const encoded = graph.op(
    'LabelEncoder',
    [input],
    [
      keysAttribute(source, step.keys),
      floatsAttribute('values_floats', source === 'string' ? [...values, missing] : values),
      floatAttribute('default_float', other),
    ],
    ML,
  );
  return source === 'number' ? graph.op('Where', [graph.op('IsNaN', [input]), graph.floats([missing], []), encoded]) : encoded;
}

/** Columns [N, 1] of a cross → one whole number, INT64 [N, 1]: places as digits, or joined hashes. */
function crossBlock(graph: GraphBuilder, parts: readonly CrossPart[], column: ColumnPicker): string {
  const hashed = isHashed(parts);
  let combined: string | undefined;
  for (const part of parts) {
    const value = partBlock(graph, part, column(part));
    if (hashed) {
      const before = combined === undefined ? undefined : graph.op('Mul', [combined, graph.ints([HASH_FACTOR], [])]);
      combined = graph.op('Mod', [before === undefined ? value : graph.op('Add', [before, value]), graph.ints([2 ** 32], [])]);
    } else combined = combined === undefined ? value : graph.op('Add', [graph.op('Mul', [combined, graph.ints([partSize(part)], [])]), value]);
  }
  return combined ?? '';
}

function partBlock(graph: GraphBuilder, part: CrossPart, input: string): string {
  if ('edges' in part) return graph.op('Cast', [binBlock(graph, input, part.edges, partSize(part) - 1)], [CAST_TO(ONNX_TYPE.int64)]);
  if (!('keys' in part)) return hashOf(graph, input, part.source);
  const step = { kind: 'oneHot', ...part, other: null, missing: null, width: 0 } as const;
  const places = part.keys.map((_, place) => place);
  return graph.op('Cast', [encodeLabels(graph, input, step, places, part.keys.length, part.keys.length + 1)], [CAST_TO(ONNX_TYPE.int64)]);
}

/** MurmurHash3 of each value, INT64 [N, …]; of a missing value 0. */
function hashOf(graph: GraphBuilder, input: string, source: 'number' | 'string'): string {
  const murmur = (value: string): string =>
    graph.op('Cast', [graph.op('MurmurHash3', [value], [intAttribute('positive', 1), intAttribute('seed', 0)], 'com.microsoft')], [CAST_TO(ONNX_TYPE.int64)]);
  if (source === 'string') return murmur(input);
  // -0 and 0 are one number, but not the same bytes.
  const zero = graph.floats([0], []);
  const unsigned = graph.op('Where', [graph.op('Equal', [input, zero]), zero, input]);
  return graph.op('Where', [graph.op('IsNaN', [input]), graph.ints([0], []), murmur(unsigned)]);
}

function hashBlock(graph: GraphBuilder, input: string, step: HashStep): string {
  const { source, width } = step;
  if (source === 'cross') return bucketColumns(graph, graph.op('Mod', [input, graph.ints([width], [])]), width);
  const bucket = graph.op('Mod', [hashOf(graph, input, source), graph.ints([width], [])]);
  const missing = source === 'number' ? graph.op('IsNaN', [input]) : graph.op('Equal', [input, graph.strings([''], [])]);
  return bucketColumns(graph, graph.op('Where', [missing, graph.ints([width], []), bucket]), width);
}

function bucketColumns(graph: GraphBuilder, bucket: string, width: number): string {
  return graph.op('OneHot', [graph.op('Reshape', [bucket, graph.ints([-1])]), graph.ints([width], []), graph.floats([0, 1])], [intAttribute('axis', 1)]);
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

/** Words or characters of texts [N, 1], [N, T]; shorter texts are filled up with U+0001. */
function unitsBlock(graph: GraphBuilder, input: string, analyzer: TextStep['analyzer']): string {
  const flat = graph.op('Reshape', [input, graph.ints([-1])]);
  const lowered = graph.op(
    'StringNormalizer',
    [flat],
    // Any other locale may be missing on a small machine, and the session would then fail to load.
    [stringAttribute('case_change_action', 'LOWER'), intAttribute('is_case_sensitive', 1), stringAttribute('locale', 'C')],
  );
  const units = graph.op(
    'Tokenizer',
    [lowered],
    [
      intAttribute('mark', 0),
      stringAttribute('pad_value', FILLING),
      intAttribute('mincharnum', 1),
      stringAttribute('tokenexp', analyzer === 'char' ? RE2_CHARACTER_PATTERN : RE2_WORD_PATTERN),
    ],
    'com.microsoft',
  );
  if (analyzer !== 'char') return units;
  const several = graph.op('RegexFullMatch', [units], [stringAttribute('pattern', RE2_WHITE_PATTERN)]);
  return graph.op('Where', [several, graph.strings([' '], []), units]);
}

/** What the graph's `Tokenizer` fills short rows up with; no text's word or character is it. */
const FILLING = '\u0001';

function textBlock(graph: GraphBuilder, input: string, step: TextStep): string {
  const units = unitsBlock(graph, input, step.analyzer);
  const counts = step.buckets === undefined ? vocabularyCounts(graph, units, step) : hashedCounts(graph, units, step, step.buckets);
  if (!isNormalised(step)) return counts;
  const norm = graph.op('ReduceL2', [counts, graph.ints([1])], [intAttribute('keepdims', 1)]);
  // A text without a known word stays at zeros.
  return graph.op('Div', [counts, graph.op('Max', [norm, graph.floats([1e-30], [])])]);
}

/** How often each term is in a text, weighed; idf is a part of the operator unless counts change before it. */
function vocabularyCounts(graph: GraphBuilder, units: string, step: TextStep): string {
  const byLength = Array.from({ length: step.ngrams }, (): string[][] => []);
  for (const term of step.terms) {
    const parts = unitsOf(step.analyzer, term);
    byLength[parts.length - 1]?.push(parts);
  }
  let start = 0;
  const starts = byLength.map((terms, i) => {
    const at = start;
    start += terms.length * (i + 1);
    return at;
  });
  const inOperator = step.weight === 'tfidf' && step.sublinear !== true;
  const counts = graph.op(
    'TfIdfVectorizer',
    [units],
    [
      stringAttribute('mode', step.weight === 'binary' ? 'IDF' : inOperator ? 'TFIDF' : 'TF'),
      intAttribute('min_gram_length', step.leastNgrams ?? 1),
      intAttribute('max_gram_length', step.ngrams),
      intAttribute('max_skip_count', 0),
      stringsAttribute('pool_strings', byLength.flat(2)),
      intsAttribute('ngram_counts', starts),
      intsAttribute(
        'ngram_indexes',
        step.terms.map((_, place) => place),
      ),
      ...(inOperator ? [floatsAttribute('weights', step.idf)] : []),
    ],
  );
  return inOperator || step.weight === 'binary' ? counts : weighedCounts(graph, counts, step);
}

function weighedCounts(graph: GraphBuilder, counts: string, step: TextStep): string {
  const one = graph.floats([1], []);
  if (step.weight === 'binary') return graph.op('Min', [counts, one]);
  let value = counts;
  if (step.sublinear === true) {
    const logged = graph.op('Add', [graph.op('Log', [graph.op('Max', [counts, one])]), one]);
    value = graph.op('Where', [graph.op('Greater', [counts, graph.floats([0], [])]), logged, counts]);
  }
  return step.weight === 'tfidf' ? graph.op('Mul', [value, graph.floats(step.idf)]) : value;
}

/** Counts of hashed n-grams: each n-gram's text is joined, hashed, and added where its bucket is. */
function hashedCounts(graph: GraphBuilder, units: string, step: TextStep, buckets: number): string {
  const separator = step.analyzer === 'char' ? undefined : graph.strings([' '], []);
  const from = (first: number, length: number): string =>
    length === 1
      ? units
      : graph.op('Slice', [units, graph.ints([first]), graph.ints(first === length - 1 ? [MOST_UNITS] : [first - length + 1]), graph.ints([1])]);
  const lengths = Array.from({ length: step.ngrams - (step.leastNgrams ?? 1) + 1 }, (_, i) => (step.leastNgrams ?? 1) + i);
  const parts = lengths.map((length) => {
    let term = from(0, length);
    let last = term;
    for (let i = 1; i < length; i++) {
      last = from(i, length);
      term = graph.op('StringConcat', [separator === undefined ? term : graph.op('StringConcat', [term, separator]), last]);
    }
    const whole = graph.op('Not', [graph.op('Equal', [last, graph.strings([FILLING], [])])]);
    return { bucket: graph.op('Mod', [hashOf(graph, term, 'string'), graph.ints([buckets], [])]), adds: graph.op('Cast', [whole], [CAST_TO(ONNX_TYPE.float)]) };
  });
  const joined = (all: readonly string[]): string => (all.length === 1 ? (all[0] ?? '') : graph.op('Concat', all, [intAttribute('axis', 1)]));
  const shape = graph.op('Concat', [graph.op('Shape', [units], [intAttribute('end', 1)]), graph.ints([buckets])], [intAttribute('axis', 0)]);
  const counts = graph.op(
    'ScatterElements',
    [graph.op('Expand', [graph.floats([0], []), shape]), joined(parts.map(({ bucket }) => bucket)), joined(parts.map(({ adds }) => adds))],
    [intAttribute('axis', 1), stringAttribute('reduction', 'add')],
  );
  return weighedCounts(graph, counts, step);
}

/** More than any text has. */
const MOST_UNITS = 2 ** 31 - 1;
