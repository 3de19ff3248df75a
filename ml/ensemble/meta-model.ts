import type { DenseMatrix } from '../matrix.ts';
import type { GraphBuilder } from '../onnx/graph-builder.ts';
import { intAttribute } from '../onnx/graph-builder.ts';
import type { LearningTask, TrainedTrainer } from '../trainer.ts';
import { bindTrainer } from '../trainers.ts';

/**
 * The model on top of a stack. It reads what members answer: of two classes the log odds, of more the log of each
 * probability, of a regression the value. A weight of 1 on one member alone, and of 0 on the others, is that member.
 */
export interface MetaModel {
  /** As recorded: every default filled in. */
  readonly parameters: unknown;
  readonly trained: TrainedTrainer;
  /** Of each member: how much it counts. Sums to 1. */
  readonly shares: readonly number[];
}

/** A probability under this counts as this much: its logarithm stays finite. */
export const LEAST_PROBABILITY = 1e-6;

const widthOf = (outputs: number): number => (outputs === 2 ? 1 : outputs);

/** What the meta model reads of the members' answers (row-major [rows × outputs] each), as float32 like the graph. */
export function metaMatrix(answers: readonly ArrayLike<number>[], rows: number, outputs: number): DenseMatrix {
  const width = widthOf(outputs);
  const data = new Float32Array(rows * width * answers.length);
  const log = (p: number): number => Math.fround(Math.log(Math.fround(Math.min(1, Math.max(LEAST_PROBABILITY, p)))));
  answers.forEach((answer, member) => {
    for (let column = 0; column < width; column++) {
      const at = (member * width + column) * rows;
      for (let row = 0; row < rows; row++) {
        const value = (output: number): number => answer[row * outputs + output] ?? Number.NaN;
        data[at + row] = outputs === 1 ? value(0) : outputs === 2 ? log(value(1)) - log(value(0)) : log(value(column));
      }
    }
  });
  return { kind: 'dense', rows, columns: width * answers.length, data };
}

/** The same of members' tensors FLOAT [N, outputs], in a graph; gives the tensor's name. */
export function metaInput(graph: GraphBuilder, tensors: readonly string[], outputs: number): string {
  const read = tensors.map((tensor) => {
    if (outputs === 1) return tensor;
    const log = graph.op('Log', [graph.op('Clip', [tensor, graph.floats([LEAST_PROBABILITY], []), graph.floats([1], [])])]);
    if (outputs > 2) return log;
    const column = (index: number): string => graph.op('Gather', [log, graph.ints([index])], [intAttribute('axis', 1)]);
    return graph.op('Sub', [column(1), column(0)]);
  });
  return read.length === 1 ? (read[0] ?? '') : graph.op('Concat', read, [intAttribute('axis', 1)]);
}

/** @throws INVALID_PARAMETERS, TRAINING_DIVERGED, TRAINING_STALLED, TARGET_ONE_CLASS */
export async function fitMetaModel(input: {
  readonly task: LearningTask;
  readonly classes?: readonly string[];
  readonly parameters: unknown;
  readonly answers: readonly ArrayLike<number>[];
  readonly y: Float64Array;
  readonly outputs: number;
  readonly members: readonly string[];
}): Promise<MetaModel> {
  const { task, answers, y, outputs, members } = input;
  const linear = bindTrainer('linear', input.parameters);
  const width = widthOf(outputs);
  const names = members.flatMap((member) => Array.from({ length: width }, (_, column) => (width === 1 ? member : `${member} ${String(column)}`)));
  const trained = await linear.train(
    task,
    { x: metaMatrix(answers, y.length, outputs), y, names, ...(input.classes === undefined ? {} : { classes: input.classes }) },
    undefined,
    { seed: 0, threads: 1 },
  );
  const importance = [...trained.importance];
  const sums = answers.map((_, member) => importance.slice(member * width, (member + 1) * width).reduce((sum, share) => sum + share, 0));
  const total = sums.reduce((sum, share) => sum + share, 0);
  return { parameters: linear.parameters, trained, shares: sums.map((share) => (total > 0 ? share / total : 1 / sums.length)) };
}
