import { relationStep } from 'millrace/steps';

/** Keeps so many megabytes of the JavaScript heap. */
export const hungry = relationStep(({ name }, { mib }: { mib: number }) => {
  const kept: number[][] = [];
  // a number takes 8 bytes, and fractions are not shared
  for (let i = 0; i < mib; i++) kept.push(Array.from({ length: 131_072 }, (_, k) => k + 0.5));
  if (kept.length !== mib) throw new Error('it was not kept');
  return `SELECT * FROM ${name}`;
});
