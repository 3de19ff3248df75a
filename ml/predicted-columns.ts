import type { Signature } from '../contracts/signature.ts';

/** A column of predictions: its name, and each row's value of it, by codes where it is a text. */
export type PredictedColumn =
  | { readonly name: string; readonly kind: 'float64'; readonly values: Float64Array }
  | { readonly name: string; readonly kind: 'string'; readonly codes: Int32Array; readonly dictionary: readonly string[] };

/** A predicted column before it has rows. */
export interface PredictedColumnPlan {
  readonly name: string;
  readonly type: 'string' | 'number';
  /** Which value of the output it is; null: the class that is answered. `answered`: its probability. */
  readonly output: number | 'answered' | null;
}

/**
 * The columns that predictions are written as: of classes `prediction`, its `probability` and `probability_CLASS` of each;
 * of numbers `prediction`; of a bare ONNX file `output_1` … `output_K`.
 */
export function planPredictedColumns(task: Signature['task'], width: number, prefix = ''): readonly PredictedColumnPlan[] {
  if (task.kind === 'raw') return Array.from({ length: width }, (_, k) => ({ name: `${prefix}output_${String(k + 1)}`, type: 'number', output: k }));
  if (!('classes' in task)) return [{ name: `${prefix}prediction`, type: 'number', output: 0 }];
  return [
    { name: `${prefix}prediction`, type: 'string', output: null },
    { name: `${prefix}probability`, type: 'number', output: 'answered' },
    ...task.classes.map((name, k): PredictedColumnPlan => ({ name: `${prefix}probability_${name}`, type: 'number', output: k })),
  ];
}

/** The class that is answered of each row: with two classes by the threshold, else the most probable, the first among equals. */
function answeredClasses({ task, threshold }: Pick<Signature, 'task' | 'threshold'>, outputs: Float32Array, width: number, rows: number): Int32Array {
  const answered = new Int32Array(rows);
  for (let row = 0; row < rows; row++) {
    const at = row * width;
    if (task.kind === 'binary') {
      answered[row] = (outputs[at + 1] ?? 0) >= threshold ? 1 : 0;
      continue;
    }
    let best = 0;
    for (let k = 1; k < width; k++) if ((outputs[at + k] ?? 0) > (outputs[at + best] ?? 0)) best = k;
    answered[row] = best;
  }
  return answered;
}

/** A graph's output, row-major [rows × width], as columns. What is no number there is NaN here. */
export function predictedColumns(
  signature: Pick<Signature, 'task' | 'threshold'>,
  plan: readonly PredictedColumnPlan[],
  outputs: Float32Array,
  width: number,
): readonly PredictedColumn[] {
  const rows = outputs.length / width;
  const { task } = signature;
  const classes = 'classes' in task ? task.classes : [];
  const answered = classes.length === 0 ? new Int32Array(0) : answeredClasses(signature, outputs, width, rows);
  return plan.map(({ name, output }): PredictedColumn => {
    if (output === null) return { name, kind: 'string', codes: answered, dictionary: classes };
    const values = new Float64Array(rows);
    if (output === 'answered') for (let row = 0; row < rows; row++) values[row] = outputs[row * width + (answered[row] ?? 0)] ?? Number.NaN;
    else for (let row = 0; row < rows; row++) values[row] = outputs[row * width + output] ?? Number.NaN;
    return { name, kind: 'float64', values };
  });
}
