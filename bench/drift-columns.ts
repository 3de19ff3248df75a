import type { Column } from '../contracts/columns.ts';

/** The flights' columns whose drift the benchmark measures. */
export const DRIFT_COLUMNS: readonly Column[] = [
  { name: 'delay', type: 'integer' },
  { name: 'distance', type: 'integer' },
  { name: 'hour', type: 'integer' },
  { name: 'dow', type: 'integer' },
  { name: 'origin', type: 'string' },
  { name: 'destination', type: 'string' },
];
