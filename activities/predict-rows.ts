/**
 * Batch predictions: reading, scoring and writing at the same time, each on threads of its own.
 *
 * Invariants:
 * 1. Memory holds the part that is scored, the next one, and the predictions of at most two files, whatever the dataset's size.
 * 2. A file that was written is committed before another one is; an attempt that goes on writes the files that are left, with the same bytes.
 */
import { z } from 'zod';
import { MillraceError } from '../contracts/errors.ts';
import { withDuckDb } from '../data/duckdb.ts';
import { openParts, type Part, partRows, writePredicted } from '../data/predicted-rows.ts';
import { planPredictedColumns, predictedColumns } from '../ml/predicted-columns.ts';
import { createScorer } from '../ml/score.ts';
import { openArtifacts } from '../store/artifacts.ts';
import type { PredictedDataset, PredictJob } from './predict-job.ts';

const CheckpointSchema = z.object({
  format: z.literal('millrace-predictions/1'),
  /** Values of the graph's output for a row. */
  width: z.number().int().positive(),
  files: z.array(z.object({ sha256: z.string(), rows: z.number(), sizeBytes: z.number() })),
});

export interface PredictHooks {
  readonly progress: (fraction: number, message: string) => void;
  readonly commit: (step: number, state: Uint8Array) => void;
}

/** Rows `from` … `to - 1` in pieces of at most so many rows. */
function pieces({ from, to }: Part, rows: number): readonly Part[] {
  return Array.from({ length: Math.ceil((to - from) / rows) }, (_, index) => ({ from: from + index * rows, to: Math.min(to, from + (index + 1) * rows) }));
}

/** Scores all rows. @throws MODEL_INVALID where the graph does not compute them. */
export async function predictRows(job: PredictJob, { progress, commit }: PredictHooks): Promise<PredictedDataset> {
  const artifacts = await openArtifacts(job.artifactsFolder);
  const { graph } = job.signature;
  const wanted = [...new Set([...graph.numbers, ...graph.dates, ...graph.strings])];
  const rows = job.files.reduce((sum, file) => sum + file.rows, 0);
  const resumed = job.resume === null ? null : CheckpointSchema.parse(JSON.parse(Buffer.from(job.resume).toString('utf8')));
  const done = [...(resumed?.files ?? [])];
  const resumedRows = done.reduce((sum, file) => sum + file.rows, 0);
  const files = pieces({ from: resumedRows, to: rows }, job.fileRows);
  const parts = files.flatMap((file) => pieces(file, partRows(wanted.length + graph.strings.length)));
  const scorer = await createScorer(job.onnx, job.signature.graph, { threads: job.threads, gpu: job.gpu });
  try {
    return await withDuckDb({}, async (db) => {
      const read = await openParts(db, { ...job, wanted });
      let outputs = new Float32Array(0);
      let width = resumed?.width ?? 0;
      let writing: Promise<void> = Promise.resolve();
      let file = 0;
      const readAhead = (index: number) => {
        const part = parts[index];
        const reading = part === undefined ? undefined : read(part);
        reading?.catch(() => undefined); // is heard of when it is asked for
        return reading;
      };
      const writeFile = async (part: Part, values: Float32Array): Promise<void> => {
        const predicted = predictedColumns(job.signature, planPredictedColumns(job.signature.task, width, job.prefix), values, width);
        done.push(await writePredicted(artifacts, { ...part, files: job.files, kept: job.kept, predicted }));
        commit(done.length, Buffer.from(JSON.stringify({ format: 'millrace-predictions/1', width, files: done })));
      };
      try {
        let next = readAhead(0);
        for (const [index, part] of parts.entries()) {
          const table = await next;
          next = readAhead(index + 1);
          if (table === undefined || table.rows !== part.to - part.from)
            throw new MillraceError('ARTIFACT_CORRUPT', 'A file of the dataset has fewer rows than its manifest says.');
          const whole = files[file];
          if (whole === undefined) break;
          const scores = await scorer.score(table);
          width = scores.outputs;
          if (part.from === whole.from) outputs = new Float32Array((whole.to - whole.from) * width);
          outputs.set(scores.values, (part.from - whole.from) * width);
          progress(part.to / rows, `${part.to.toLocaleString('en')} rows`);
          if (part.to < whole.to) continue;
          await writing;
          writing = writeFile(whole, outputs);
          writing.catch(() => undefined);
          file += 1;
        }
      } finally {
        await writing;
      }
      return { files: done, width, device: scorer.device, resumedRows };
    });
  } finally {
    await scorer.close();
  }
}
