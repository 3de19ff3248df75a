import { type PublishedPredictions, PublishPredictionsInputSchema } from '../../contracts/batch-predictions.ts';
import { answersCsv, tableCsv } from '../../data/published-rows.ts';
import { datasetFiles, loadManifest, pickColumns } from '../../data/dataset.ts';
import { loadPredictor } from '../scored-rows.ts';
import { defineStage } from '../stage-definition.ts';

/**
 * Puts predictions into service: writes them beside the ones that are there, then takes their place in one transaction with the
 * undo. An attempt that dies in between leaves rows that nobody reads; the next one, or the reconciler, removes them.
 */
export const publishPredictionsStage = defineStage({
  input: PublishPredictionsInputSchema,
  cacheable: false,
  run: async ({ predictions, version, to, prefix }, { call, deps, token, signal, progress }) => {
    const { predictionSets } = deps.store;
    const manifest = await loadManifest(deps.artifacts, predictions);
    const { columns } = manifest;
    const files = await datasetFiles(deps.artifacts, manifest);
    const attempt = { runId: call.runId, stage: call.stage, token };
    const output: PublishedPredictions = { predictions, version, to, rows: predictions.rows };
    const of = `${version.model} ${String(version.version)}`;
    const where = to.kind === 'table' ? `predictions.${to.name}` : `${to.name} by key`;
    const { model, predictor } = version;
    const begun = await predictionSets.begin({
      kind: to.kind,
      name: to.name,
      snapshot: predictions.id,
      model,
      version: version.version,
      predictor,
      columns: to.kind === 'table' ? columns : pickColumns(columns, to.key),
      ...attempt,
    });
    if (begun.state === 'same') return { output: { ...output, rows: begun.current.rows }, summary: `${where}: these rows are there already` };
    const options = { artifacts: deps.artifacts, signal };
    const parts =
      to.kind === 'table'
        ? tableCsv(files, columns, options)
        : await answersCsv({ files, columns, key: pickColumns(columns, to.key), task: (await loadPredictor(deps, predictor)).signature.task, prefix }, options);
    let rows = 0;
    for await (const csv of parts) {
      signal.throwIfAborted();
      rows += await predictionSets.write({ set: begun.set, csv, signal });
      progress(rows / Math.max(1, predictions.rows), `${rows.toLocaleString('en')} rows`);
    }
    await predictionSets.publish({ set: begun.set, rows, ...attempt });
    // what the rows before leave behind is nobody's loss when it cannot be removed now: the reconciler comes by
    await predictionSets.sweep().catch((error: unknown) => {
      deps.log('warn', 'old predictions could not be removed', { error: error instanceof Error ? error.message : String(error) });
    });
    const without = predictions.rows - rows;
    return {
      output: { ...output, rows },
      summary: `${where}: ${rows.toLocaleString('en')} rows by ${of}${without === 0 ? '' : `, ${without.toLocaleString('en')} without a key left out`}`,
    };
  },
});
