import type { Signature } from '../contracts/signature.ts';

/** A value as JSON. What JSON has no number for (NaN, infinities) is null. */
export const jsonNumber = (value: number): string => (Number.isFinite(value) ? String(value) : 'null');

/** Index of the class that is answered: for binary by the threshold, else the most probable, the first among equals. */
export function answeredClass(signature: Signature, values: ArrayLike<number>, from: number, width: number): number {
  if (signature.task.kind === 'binary') return (values[from + 1] ?? 0) >= signature.threshold ? 1 : 0;
  let best = 0;
  for (let k = 1; k < width; k += 1) if ((values[from + k] ?? 0) > (values[from + best] ?? 0)) best = k;
  return best;
}

/** Writes one row's answer as `/predict` gives it. `texts` are the row's output values as JSON. */
export type AnswerWriter = (texts: readonly string[], values: ArrayLike<number>, from: number) => string;

/** Prepares the text of a signature's answers: names are escaped once, not on each request. */
export function compileAnswerWriter(signature: Signature): AnswerWriter {
  const { task } = signature;
  if (task.kind === 'regression') return (texts) => `{"value":${texts[0] ?? 'null'}}`;
  if (task.kind === 'raw') return (texts) => `{"output":[${texts.join(',')}]}`;
  const names = task.classes.map((name) => JSON.stringify(name));
  const heads = names.map((name) => `{"label":${name},"probability":`);
  const keys = names.map((name, k) => `${k === 0 ? ',"probabilities":{' : ','}${name}:`);
  return (texts, values, from) => {
    const best = answeredClass(signature, values, from, texts.length);
    let text = `${heads[best] ?? ''}${texts[best] ?? 'null'}`;
    for (let k = 0; k < texts.length; k += 1) text += `${keys[k] ?? ''}${texts[k] ?? 'null'}`;
    return `${text}}}`;
  };
}
