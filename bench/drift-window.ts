/**
 * A monitor's window of logged flights with a label for each: all that an endpoint with default options gets, measured by what the monitor calls.
 */
import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { MonitorJob } from '../activities/monitor-job.ts';
import { between, expectations, inSet, lengthBetween, notNull } from '../contracts/expectations.ts';
import { categorical, numeric } from '../contracts/features.ts';
import { MonitorOptionsSchema } from '../contracts/monitoring.ts';
import { PredictorSchema } from '../contracts/signature.ts';
import { withDuckDb } from '../data/duckdb.ts';
import { profileDataset } from '../data/profile.ts';
import { readColumns } from '../data/read-columns.ts';
import { textLiteral } from '../data/sql-text.ts';
import { answersOf } from '../ml/drift/answers.ts';
import { curvesOf } from '../ml/evaluation/curves.ts';
import { createScorer } from '../ml/score.ts';
import { trainPredictor } from '../ml/train-predictor.ts';
import { DRIFT_COLUMNS } from './drift-columns.ts';

const SEGMENTS = 4;
const TRAINED_ROWS = 40_000;
const EVALUATED_ROWS = 100_000;
const FROM = '2001-06-01T00:00:00.000Z';
const TO = '2001-06-02T00:00:00.000Z';

/**
 * Writes the log, its labels and the job into the folder: a model is trained on flights of January, and answers `rows` later ones. `source` has the flights
 * with the columns that drift is measured of.
 */
export async function prepareWindow(folder: string, source: string, rows: number): Promise<void> {
  const file = (name: string): string => join(folder, name);
  const copy = (sql: string, path: string): Promise<void> =>
    withDuckDb({}, (db) => db.run(`COPY (${sql}) TO ${textLiteral(path)} (FORMAT parquet, COMPRESSION zstd)`));
  const names = DRIFT_COLUMNS.map(({ name }) => name);
  const flights = `SELECT ${names.join(', ')}, delay > 15 AS late FROM (${source})`;
  await copy(`${flights} LIMIT 500000`, file('training.parquet'));
  await copy(`${flights} LIMIT ${EVALUATED_ROWS} OFFSET 500000`, file('evaluation.parquet'));
  await copy(`${flights} LIMIT ${rows} OFFSET 1500000`, file('window.parquet'));

  const features = { distance: numeric(), hour: numeric(), dow: numeric(), origin: categorical(), destination: categorical() };
  const { onnx, graph, task, threshold, trainer } = await trainPredictor({
    trainer: { name: 'gbdt', parameters: { trees: 40 } },
    features,
    train: await readColumns([file('training.parquet')], [...Object.keys(features), 'late'], { sampleRows: TRAINED_ROWS }),
    target: 'late',
    targetType: 'boolean',
    seed: 7,
    threads: 1,
  });
  await writeFile(file('model.onnx'), onnx);
  const scorer = await createScorer(onnx, graph);
  const answered = async (path: string) => {
    const table = await readColumns([path], [...Object.keys(features), 'late']);
    const { values } = await scorer.score(table);
    return { table, values: Float64Array.from(values) };
  };
  const { table, values } = await answered(file('evaluation.parquet'));
  const late = table.columns.get('late');
  const y = Float64Array.from(late !== undefined && late.kind !== 'string' ? late.values : []);
  const curves = curvesOf({ task: { kind: 'binary' }, y, answers: values, threshold }, ['false', 'true']);
  const window = await answered(file('window.parquet'));
  await scorer.close();
  // scores beside their rows: both are in the order of the file
  await writeFile(file('scores.csv'), `p\n${Array.from({ length: rows }, (_, row) => window.values[2 * row + 1]).join('\n')}\n`);
  for (const name of ['predictions', 'feedback']) await mkdir(file(name));
  const logged = `SELECT md5(CAST(r AS VARCHAR)) AS requestId, CAST(0 AS BIGINT) AS "row", TIMESTAMP '2001-06-01' + to_milliseconds(CAST(r * ${86_400_000 / rows} AS BIGINT)) AS "at", * EXCLUDE (r) FROM (SELECT (row_number() OVER ()) - 1 AS r, * FROM (SELECT * FROM read_parquet(${textLiteral(file('window.parquet'))}) POSITIONAL JOIN read_csv(${textLiteral(file('scores.csv'))}, columns = {p: 'DOUBLE'})))`;
  for (let segment = 0; segment < SEGMENTS; segment++) {
    const part = `(SELECT * FROM (${logged}) LIMIT ${rows / SEGMENTS} OFFSET ${(segment * rows) / SEGMENTS})`;
    // as compacted logs are
    await copy(
      `SELECT requestId, "row", "at", 'm' AS model, CAST(1 AS BIGINT) AS version, false AS challenger, false AS shadow, to_json({${names.map((name) => `${name}: ${name}`).join(', ')}}) AS inputs, [1 - p, p] AS output, NULL::VARCHAR AS action, NULL::DOUBLE AS propensity, NULL::BOOLEAN AS explored, NULL::VARCHAR AS review, NULL::VARCHAR AS key, 1.5::DOUBLE + random() AS latencyMs FROM ${part}`,
      file(`predictions/2001-06-01T0${segment}-server.1.parquet`),
    );
    await copy(
      `SELECT requestId, "row", to_json(late) AS label, NULL::VARCHAR AS outcome, NULL::DOUBLE AS value, NULL::TIMESTAMP AS happenedAt, "at" + INTERVAL 1 HOUR AS "at" FROM ${part}`,
      file(`feedback/2001-06-01T0${segment}-server.1.parquet`),
    );
  }
  const segments = (name: string) =>
    Array.from({ length: SEGMENTS }, (_, segment) => ({
      path: file(`${name}/2001-06-01T0${segment}-server.1.parquet`),
      format: 'parquet' as const,
      identity: `${name} ${segment}`,
    }));
  const { quality } = MonitorOptionsSchema.parse({ endpoint: 'm', everyMs: 86_400_000 });
  const job: MonitorJob = {
    kind: 'monitor',
    model: 'm',
    version: 1,
    from: FROM,
    to: TO,
    segments: segments('predictions'),
    feedback: segments('feedback'),
    feedbackUntil: '2001-06-03T00:00:00.000Z',
    predictor: PredictorSchema.parse({
      format: 'millrace-predictor/1',
      onnx: createHash('sha256').update(onnx).digest('hex'),
      onnxSizeBytes: onnx.length,
      signature: { columns: DRIFT_COLUMNS, transforms: [], graph, task, threshold },
      trainer,
      trainingProfile: null,
      sample: { rows: [], output: [] },
      importance: [],
    }),
    quality,
    metrics: ['auc'],
    whole: {
      reference: await profileDataset([{ path: file('training.parquet'), rows: 500_000 }], DRIFT_COLUMNS),
      watched: names,
      answers: answersOf({ task: 'binary', curves, rows: EVALUATED_ROWS }),
      calibration: curves.scoreBins ?? null,
      estimated: ['auc', 'accuracy', 'precision', 'recall', 'f1', 'logLoss', 'brier'],
      skew: { rows: 200, tolerance: 1e-5, seed: 0, onnx: file('model.onnx'), hashKey: 'a key' },
      expectations: expectations({
        distance: [notNull(), between(1, 6_000)],
        hour: [between(0, 23)],
        dow: [inSet([0, 1, 2, 3, 4, 5, 6])],
        origin: [notNull(), lengthBetween(3, 3)],
        destination: [notNull(), lengthBetween(3, 3)],
      }),
      detectors: [],
      arrivedFrom: FROM,
      arrivals: [],
    },
  };
  await writeFile(file('job.json'), JSON.stringify(job));
}
