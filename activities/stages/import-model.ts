import { readFile, realpath } from 'node:fs/promises';
import { isAbsolute, relative, resolve } from 'node:path';
import type { RawColumn, RawTable } from '../../contracts/columns.ts';
import { MillraceError } from '../../contracts/errors.ts';
import type { CandidateRef } from '../../contracts/references.ts';
import { type Predictor, PredictorSchema, type Signature } from '../../contracts/signature.ts';
import { ImportModelInputSchema } from '../../contracts/stages.ts';
import { createScorer } from '../../ml/score.ts';
import { wrapBareOnnx } from '../../ml/predictor.ts';
import type { StoredArtifact } from '../../store/artifacts.ts';
import type { ActivityDependencies } from '../dependencies.ts';
import { defineStage } from '../stage-definition.ts';

/** Takes a bare ONNX file of the project folder as a candidate: read, checked by running it, wrapped into a predictor. */
export const importModelStage = defineStage({
  input: ImportModelInputSchema,
  cacheable: false,
  run: async ({ path, sampleRows }, { deps }) => {
    const bytes = await readInside(deps.config.projectFolder, path);
    const { onnx, signature } = wrapBareOnnx(bytes);
    const { sha256, sizeBytes } = await barePredictor({ onnx, signature, sampleRows, parameters: { path } }, deps);
    const output: CandidateRef = { kind: 'candidate', predictor: sha256, trainer: 'onnx', task: 'raw', device: 'cpu', rows: 0 };
    return { output, summary: `${path}, ${String(signature.columns.length)} inputs`, artifacts: [{ sha256, sizeBytes, kind: 'predictor' }] };
  },
});

interface BareModel {
  readonly onnx: Uint8Array;
  readonly signature: Signature;
  readonly sampleRows: readonly Readonly<Record<string, unknown>>[];
  /** Where it came from. */
  readonly parameters: Readonly<Record<string, unknown>>;
}

/** Keeps a graph that was made elsewhere as a predictor, once it has answered. */
export async function barePredictor(
  { onnx, signature, sampleRows, parameters }: BareModel,
  { artifacts }: Pick<ActivityDependencies, 'artifacts'>,
): Promise<StoredArtifact> {
  const sample = await checkedSample(onnx, signature, sampleRows);
  const stored = await artifacts.putBytes(onnx);
  return artifacts.putJson(
    PredictorSchema.parse({
      format: 'millrace-predictor/1',
      onnx: stored.sha256,
      onnxSizeBytes: stored.sizeBytes,
      signature,
      trainer: { name: 'onnx', parameters },
      trainingProfile: null,
      sample,
      importance: [],
    }),
  );
}

/** Runs the graph on the given rows, or on one row of zeros: a file that cannot answer is not registered. */
async function checkedSample(onnx: Uint8Array, signature: Signature, given: readonly Readonly<Record<string, unknown>>[]): Promise<Predictor['sample']> {
  const rows =
    given.length > 0
      ? given
      : [Object.fromEntries(signature.columns.map(({ name, type }) => [name, type === 'string' ? '' : type === 'timestamp' ? '1970-01-01T00:00:00.000Z' : 0]))];
  const scorer = await createScorer(onnx, signature.graph);
  try {
    const output: number[][] = [];
    for (const row of rows) output.push([...(await scorer.score(oneRowTable(signature, row))).values]);
    if (!output.flat().every(Number.isFinite))
      throw new MillraceError('MODEL_INVALID', 'The model answers no number to the rows that it was tried with.', {
        problems: [{ path: 'sampleRows', message: 'are answered by', found: JSON.stringify(output.map((values) => values.map(String))).slice(0, 200) }],
        fix: `Give sampleRows with a value for each column: ${signature.columns
          .map(({ name }) => name)
          .join(', ')
          .slice(0, 500)}.`,
      });
    return { rows: rows.map((row) => ({ ...row })), output };
  } finally {
    await scorer.close();
  }
}

function oneRowTable(signature: Signature, row: Readonly<Record<string, unknown>>): RawTable {
  const columns = signature.columns.map(({ name, type }): [string, RawColumn] => {
    const value = row[name];
    if (type === 'string')
      return [name, { kind: 'string', codes: Int32Array.of(typeof value === 'string' ? 0 : -1), dictionary: typeof value === 'string' ? [value] : [] }];
    if (type === 'timestamp' || type === 'date')
      return [name, { kind: 'timestamp', values: Float64Array.of(typeof value === 'string' ? Date.parse(value) : Number.NaN) }];
    return [name, { kind: 'number', values: Float64Array.of(typeof value === 'number' ? value : Number.NaN) }];
  });
  return { rows: 1, columns: new Map(columns) };
}

async function readInside(folder: string, path: string): Promise<Uint8Array> {
  try {
    const [root, file] = await Promise.all([realpath(folder), realpath(resolve(folder, path))]);
    const inside = relative(root, file);
    if (!inside.startsWith('..') && !isAbsolute(inside)) return await readFile(file);
  } catch (error) {
    throw new MillraceError('SOURCE_NOT_FOUND', `There is no file ${path} in the project folder.`, { cause: error });
  }
  throw new MillraceError('SOURCE_NOT_FOUND', `${path} leads out of the project folder.`);
}
