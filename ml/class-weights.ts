import { MillraceError } from '../contracts/errors.ts';
import type { LabelledRows, LearningTask } from './trainer.ts';

/** `balanced`, or a weight for each class by its text; one that is not named has 1. */
export type ClassWeight = 'none' | 'balanced' | Readonly<Record<string, number>>;

/**
 * A weight for each row: its own times its class's. `balanced` is weight of all rows ÷ (classes × weight of the class's
 * rows), as scikit-learn's class_weight.
 * @throws MillraceError INVALID_PARAMETERS for weights of classes that the target has not, or that leave no row
 */
export function weighRows(task: LearningTask, classWeight: ClassWeight, { y, weights, classes }: LabelledRows, classCount: number): Float64Array {
  const result = weights === undefined ? new Float64Array(y.length).fill(1) : weights.slice();
  if (typeof classWeight !== 'string') {
    const known = task.kind === 'regression' ? [] : (classes ?? Array.from({ length: classCount }, (_, k) => String(k)));
    const unknown = Object.keys(classWeight).filter((name) => !known.includes(name));
    if (unknown.length > 0) {
      throw new MillraceError('INVALID_PARAMETERS', `${unknown.join(', ')} ${unknown.length === 1 ? 'is no class' : 'are no classes'} of the target.`, {
        problems: unknown.map((name) => ({
          path: `trainer.parameters.classWeight.${name}`,
          message: 'no training row has this class',
          fix: known.length === 0 ? 'a regression has no classes: leave classWeight out' : `use one of ${known.slice(0, 20).join(', ')}`,
        })),
      });
    }
    const factors = known.map((name) => (Object.hasOwn(classWeight, name) ? (classWeight[name] ?? 1) : 1));
    y.forEach((label, row) => (result[row] = (result[row] as number) * (factors[label] ?? 1)));
    if (!result.some((weight) => weight > 0)) {
      throw new MillraceError('INVALID_PARAMETERS', 'Every training row has the weight 0.', {
        problems: [{ path: 'trainer.parameters.classWeight', message: 'no class that has rows has a weight above 0' }],
      });
    }
  }
  if (classWeight === 'balanced' && task.kind !== 'regression') {
    const classWeights = new Float64Array(classCount);
    y.forEach((label, row) => (classWeights[label] = (classWeights[label] ?? 0) + (result[row] as number)));
    const total = classWeights.reduce((sum, weight) => sum + weight, 0);
    for (let row = 0; row < y.length; row++) result[row] = ((result[row] as number) * total) / (classCount * (classWeights[y[row] as number] as number));
  }
  return result;
}
