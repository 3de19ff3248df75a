import { isMainThread } from 'node:worker_threads';
import { frameStep, relationStep, valueStep } from 'millrace/steps';

/** In memory, as a danfojs DataFrame. */
export const addDouble = frameStep((frame, { column }: { column: string }) => {
  const values = (frame[column] as { values: number[] }).values;
  frame.addColumn(
    'doubled',
    values.map((value) => value * 2),
    { inplace: true },
  );
  return frame;
});

/** In SQL, on a view. */
export const onlyCarrier = relationStep(({ name }, { carrier }: { carrier: string }) => `SELECT * FROM ${name} WHERE carrier = '${carrier}'`);

/** JSON in, JSON out. */
export const describe = valueStep((rows: number, carrier: string) => ({ text: `${String(rows)} rows of ${carrier}` }));

/** Where it ran. */
export const whereAmI = valueStep(() => ({ onTheWorkersThread: isMainThread }));

export const leave = valueStep(() => process.exit(7));

export const notADataset = frameStep(() => {
  throw new Error('the step cannot do this');
});
