import type { Problem } from '../contracts/errors.ts';
import type { Signature } from '../contracts/signature.ts';
import { compileRowProgram, type RowValue } from '../data/row-transforms.ts';
import type { PackedRows } from './model-runner.ts';

/** Takes requests' rows through a signature's transforms into packed arrays. */
export interface RowWriter {
  allocate(rows: number): PackedRows;
  /** Writes `values` at row `at`; problems name the request's row `row`. */
  write(values: unknown, row: number, packed: PackedRows, at: number): readonly Problem[] | undefined;
}

export function compileRowWriter(signature: Signature, hashKey: string | undefined): RowWriter {
  const program = compileRowProgram(signature.transforms, signature.columns, hashKey);
  const { graph } = signature;
  const slotOf = (name: string): number => program.columns.find((c) => c.name === name)?.slot ?? 0;
  const n = graph.numbers.map(slotOf);
  const d = graph.dates.map(slotOf);
  const s = graph.strings.map(slotOf);
  const slots = new Array<RowValue>(program.slotCount).fill(null);
  return {
    allocate: (rows) => ({
      numbers: new Float32Array(rows * n.length),
      dates: new BigInt64Array(rows * d.length),
      strings: new Array<string>(rows * s.length).fill(''),
    }),
    write(values, row, packed, at) {
      if (typeof values !== 'object' || values === null) return [{ path: `rows[${row}]`, message: 'is not an object', row }];
      const record = values as Record<string, RowValue>;
      let problems: Problem[] | undefined;
      for (let i = 0; i < signature.columns.length; i += 1) {
        const column = signature.columns[i];
        if (column === undefined) continue;
        const value = record[column.name];
        if (value === undefined) (problems ??= []).push({ path: `rows[${row}].${column.name}`, message: 'is missing', row, column: column.name });
        else if (value !== null && (column.type === 'number' || column.type === 'integer') && typeof value !== 'number')
          (problems ??= []).push({ path: `rows[${row}].${column.name}`, message: 'a number is expected', found: typeof value, row, column: column.name });
        slots[i] = (column.type === 'timestamp' && typeof value === 'string' ? Date.parse(value) : value) ?? null;
      }
      if (problems !== undefined) return problems;
      program.run(slots);
      for (let i = 0; i < n.length; i += 1) packed.numbers[at * n.length + i] = Number(slots[n[i] ?? 0] ?? Number.NaN);
      for (let i = 0; i < d.length; i += 1) packed.dates[at * d.length + i] = BigInt(Number(slots[d[i] ?? 0] ?? 0));
      for (let i = 0; i < s.length; i += 1) packed.strings[at * s.length + i] = String(slots[s[i] ?? 0] ?? '\u0000');
      return undefined;
    },
  };
}
