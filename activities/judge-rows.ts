import type { RawTable } from '../contracts/columns.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { Signature } from '../contracts/signature.ts';
import { positiveScores } from '../ml/evaluation/intervals.ts';
import { groupNumbers } from '../ml/group-numbers.ts';
import { createJudge, type JudgedTask } from '../ml/metrics.ts';
import type { Scores } from '../ml/score.ts';
import { encodeLike } from '../ml/target.ts';
import { bestThreshold } from '../ml/threshold.ts';
import type { JudgedRows, ScoreJob } from './compute-job.ts';

/** Metrics of the scored rows. @throws TARGET_INVALID when a row's target is unknown to the model; INVALID_PARAMETERS where a threshold fits no task */
export function judgeRows({ signature, targetType, threshold: rule }: ScoreJob, table: RawTable, scores: Scores): JudgedRows {
  const { task, y } = targetsOf(signature, targetType, table);
  const answers = Float64Array.from(scores.values);
  if (rule !== null && task.kind !== 'binary') {
    throw new MillraceError('INVALID_PARAMETERS', 'Only a binary model has a threshold.', {
      problems: [{ path: 'select.threshold', message: 'does not fit the task', found: task.kind, fix: 'Leave it out.' }],
    });
  }
  const threshold = rule === null ? null : bestThreshold(y, positiveScores(answers), rule);
  return { rows: y.length, threshold, metrics: createJudge(task, y, answers, threshold?.threshold ?? signature.threshold).values() };
}

/** The rows' targets as the model knows them: class indices, values, or how relevant each row is in its group. @throws TARGET_INVALID, COLUMN_MISSING, MODEL_INVALID */
export function targetsOf({ task }: Signature, targetType: ScoreJob['targetType'], table: RawTable): { readonly task: JudgedTask; readonly y: Float64Array } {
  if (task.kind === 'raw')
    throw new MillraceError('MODEL_INVALID', 'A bare ONNX file has no target to be judged by.', { fix: 'Register it without evaluation.' });
  const target = table.columns.get(task.target);
  if (!target) throw new MillraceError('COLUMN_MISSING', `The data has no column ${task.target}.`);
  const classes = task.kind === 'regression' ? undefined : task.classes;
  const y = encodeLike(target, classes, targetType ?? undefined);
  const unknown = y.reduce((count, value) => count + (Number.isFinite(value) ? 0 : 1), 0);
  if (unknown > 0) {
    throw new MillraceError('TARGET_INVALID', `${String(unknown)} of ${String(y.length)} rows have no target that the model knows.`, {
      problems: [{ path: 'target', column: task.target, message: classes ? `must be one of ${classes.join(', ')}` : 'must be a number' }],
    });
  }
  if (task.kind === 'regression' && task.group !== undefined) return { task: { kind: 'ranking', groups: groupNumbers(table, task.group, 'judged') }, y };
  return { task: task.kind === 'multiclass' ? { kind: 'multiclass', classes: task.classes.length } : { kind: task.kind }, y };
}
