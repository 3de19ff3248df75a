import { loadCliConfig } from './clients.ts';
import { addCommand, invocationOf, print, type Program } from './command.ts';
import { predict, readRows } from './predict.ts';
import { renderTable } from './table.ts';

/** A prediction's fields as cells; nested ones as JSON. */
function cells(prediction: unknown): ReadonlyMap<string, string> {
  if (typeof prediction !== 'object' || prediction === null) return new Map([['prediction', JSON.stringify(prediction)]]);
  return new Map(Object.entries(prediction).map(([name, value]) => [name, typeof value === 'string' ? value : JSON.stringify(value)]));
}

export function addPredictCommand(program: Program): void {
  addCommand(program, program.root, 'predict <endpoint>', 'ask an endpoint for predictions')
    .requiredOption('--rows <file|json>', 'rows by column name: a JSON object or array, or a file with it or with one row a line')
    .action(async (endpoint: string, options: { rows: string; json?: boolean }) => {
      const invocation = invocationOf(program, options);
      const rows = readRows(options.rows);
      const answer = await predict(await loadCliConfig(), endpoint, rows);
      print(invocation, answer, () => {
        const found = answer.predictions.map(cells);
        const head = [...new Set(found.flatMap((row) => [...row.keys()]))];
        return `${answer.model} version ${answer.version}, request ${answer.requestId}\n${renderTable(
          ['row', ...head],
          found.map((row, i) => [String(i), ...head.map((name) => row.get(name) ?? '')]),
        )}`;
      });
    });
}
