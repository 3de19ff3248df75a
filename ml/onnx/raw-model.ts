import type { onnx } from 'onnx-proto';
import { MillraceError } from '../../contracts/errors.ts';
import type { Signature } from '../../contracts/signature.ts';
import { wrapBareOnnx } from '../predictor.ts';
import { checkAnswers, tidyModel } from './external-model.ts';
import { createGraphBuilder, decodeModel, encodeProto, intAttribute, valueInfo, ONNX_TYPE } from './graph-builder.ts';

export type RawKind = 'numbers' | 'dates' | 'strings';

/** A model of raw columns that another tool wrote, as a predictor's graph: `output` may still be one probability. */
export function openRawModel(
  bytes: Uint8Array,
  beside: ReadonlyMap<string, Uint8Array>,
  columns: readonly { readonly name: string; readonly kind: RawKind }[],
): { readonly onnx: Uint8Array; readonly graph: Signature['graph'] } {
  const { onnx, signature } = wrapBareOnnx(encodeProto(tidyModel(bytes, beside)));
  const problems = (['numbers', 'dates', 'strings'] as const).flatMap((kind) => {
    const known = columns.filter((column) => column.kind === kind).map(({ name }) => name);
    const asked = signature.graph[kind];
    const byName = asked.every((name) => known.includes(name));
    // a tensor of all columns of a kind holds them in the order of the task file
    return byName || asked.length === known.length
      ? []
      : [
          {
            path: kind,
            message: `must be columns of the task, ${known.join(', ') || 'which has none of this kind'}, or all of them in one input`,
            found: asked.join(', ').slice(0, 300),
          },
        ];
  });
  if (problems.length > 0)
    throw new MillraceError('MODEL_INVALID', 'The inputs of model.onnx are not the raw columns.', {
      problems,
      fix: 'Give each input the name of its column, or one input for all columns of a kind.',
    });
  const named = (kind: RawKind): string[] => {
    const known = columns.filter((column) => column.kind === kind).map(({ name }) => name);
    const asked = signature.graph[kind];
    return asked.every((name) => known.includes(name)) ? [...asked] : known;
  };
  return { onnx, graph: { numbers: named('numbers'), dates: named('dates'), strings: named('strings') } };
}

/**
 * The graph with its answer as a signature has it: K probabilities a row, or one value.
 * @throws MODEL_INVALID for answers that are none
 */
export function finishRawModel(bytes: Uint8Array, answers: Float32Array, rows: number, classes: number): Uint8Array {
  const width = answers.length / rows;
  if (width === classes) {
    checkAnswers(answers, classes, rows);
    return bytes;
  }
  if (classes !== 2 || width !== 1) {
    throw new MillraceError('MODEL_INVALID', `model.onnx answers ${String(width)} numbers a row, and must answer ${String(classes)}.`, {
      problems: [
        {
          path: 'outputs',
          message: classes === 1 ? 'must be one number a row' : 'must be one probability a class, in the order of task.classes',
          found: String(width),
        },
      ],
    });
  }
  checkAnswers(
    Float64Array.from({ length: rows * 2 }, (_, i) => (i % 2 === 0 ? 1 - (answers[i >> 1] ?? Number.NaN) : (answers[i >> 1] ?? Number.NaN))),
    2,
    rows,
  );
  const model = decodeModel(bytes);
  const graph = model.graph as onnx.IGraphProto;
  const one = 'millrace_probability';
  const renamed = (name: string): string => (name === 'output' ? one : name);
  const both = createGraphBuilder('millrace_both_');
  const joined = both.op('Concat', [both.op('Sub', [both.floats([1], [1, 1]), one]), one], [intAttribute('axis', 1)]);
  both.nodes.push({ name: 'millrace_both', opType: 'Identity', domain: '', input: [joined], output: ['output'], attribute: [] });
  graph.node = [
    ...(graph.node ?? []).map((node) => ({ ...node, input: (node.input ?? []).map(renamed), output: (node.output ?? []).map(renamed) })),
    ...both.nodes,
  ];
  graph.initializer = [...(graph.initializer ?? []), ...both.initializers];
  graph.output = [valueInfo('output', ONNX_TYPE.float, 2)];
  return encodeProto(model);
}
