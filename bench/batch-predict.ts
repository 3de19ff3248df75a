import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { InferenceSession } from 'onnxruntime-node';
import { compute } from '../activities/compute-job.ts';
import type { PredictedDataset, PredictJob } from '../activities/predict-job.ts';
import { packageRoot } from '../config/package-root.ts';
import { categorical, datetime, numeric } from '../contracts/features.ts';
import { DEFAULT_FILE_ROWS } from '../contracts/batch-predictions.ts';
import { datasetFiles } from '../data/dataset.ts';
import { ingestSource } from '../data/ingest.ts';
import { readColumns } from '../data/read-columns.ts';
import { packRows } from '../ml/pack-rows.ts';
import { trainPredictor } from '../ml/train-predictor.ts';
import { openArtifacts } from '../store/artifacts.ts';
import { type Benchmark, summarise } from './figure.ts';

const QUICK_ROWS = 600_000;
const TRAIN_ROWS = 200_000;
const BATCH_ROWS = 8_192;
const BAR = 0.8;
const COLUMNS = ['date', 'distance', 'origin', 'destination'];

/** 3,000,000 flights scored by a model of 100 trees, from a snapshot into a new one; beside it onnxruntime alone on batches that lie in memory. */
export const benchmark: Benchmark = {
  name: 'batch-predict',
  summary: '3,000,000 rows scored from a snapshot into a new one, beside onnxruntime-node alone on batches in memory',
  run: async ({ quick, emit }) => {
    const folder = await mkdtemp(join(tmpdir(), 'millrace-bench-batch-'));
    try {
      const artifactsFolder = join(folder, 'artifacts');
      const artifacts = await openArtifacts(artifactsFolder);
      const { manifest } = await ingestSource({
        source: { format: 'parquet', path: 'package:vega-datasets/data/flights-3m.parquet' },
        name: 'flights',
        artifacts,
        projectFolder: packageRoot,
        ...(quick ? { sampleRows: QUICK_ROWS } : {}),
      });
      const files = await datasetFiles(artifacts, manifest);
      const paths = files.map(({ path }) => path);
      const threads = availableParallelism();
      const trained = await trainPredictor({
        trainer: { name: 'gbdt', parameters: { trees: 100 } },
        features: {
          date: datetime({ parts: ['hour', 'dayOfWeek', 'month'] }),
          distance: numeric(),
          origin: categorical(),
          destination: categorical(),
        },
        train: await readColumns(paths, [...COLUMNS, 'delay'], { seed: 1, sampleRows: TRAIN_ROWS }),
        target: 'delay',
        targetType: 'integer',
        taskKind: 'regression',
        seed: 1,
        threads,
      });
      const onnx = join(folder, 'model.onnx');
      await writeFile(onnx, trained.onnx);
      const job: PredictJob = {
        kind: 'predict',
        files,
        columns: manifest.columns,
        transforms: [],
        hashKey: '',
        onnx,
        signature: { columns: [], transforms: [], graph: trained.graph, task: trained.task, threshold: trained.threshold },
        kept: manifest.columns.map(({ name }) => name),
        prefix: '',
        fileRows: DEFAULT_FILE_ROWS,
        threads,
        gpu: null,
        artifactsFolder,
        resume: null,
      };
      const ours = async (): Promise<number> => {
        const from = performance.now();
        await compute<PredictedDataset>(job, { signal: new AbortController().signal, progress: () => undefined, log: () => undefined });
        return manifest.rows / ((performance.now() - from) / 1_000);
      };

      const table = await readColumns(paths, COLUMNS);
      const batches = Array.from({ length: Math.ceil(table.rows / BATCH_ROWS) }, (_, index) =>
        packRows(trained.graph, table, index * BATCH_ROWS, Math.min(table.rows, (index + 1) * BATCH_ROWS)),
      );
      const session = await InferenceSession.create(onnx, { intraOpNumThreads: threads, interOpNumThreads: 1, logSeverityLevel: 3 });
      const bare = async (): Promise<number> => {
        const from = performance.now();
        for (const batch of batches) await session.run(batch, ['output']);
        return manifest.rows / ((performance.now() - from) / 1_000);
      };
      await bare();
      const rates: { readonly ours: number; readonly bare: number }[] = [];
      // one after the other in turn, so that what else the machine does meets both
      for (let round = 0; round < (quick ? 2 : 5); round++) rates.push({ ours: await ours(), bare: await bare() });
      await session.release();
      const mine = summarise(rates.map((rate) => rate.ours));
      const peerValue = summarise(rates.map((rate) => rate.bare)).value;
      emit({
        bench: 'batch-predict',
        metric: 'rows_per_second',
        variant: `${manifest.rows.toLocaleString('en')} rows, 100 trees, ${String(threads)} threads`,
        ...mine,
        unit: 'rows/s',
        peer: 'onnxruntime-node alone',
        peerValue,
        ratio: mine.value / peerValue,
        better: 'higher',
        bar: BAR,
        ...(quick ? { quick } : {}),
      });
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
};
