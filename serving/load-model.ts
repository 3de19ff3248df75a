/**
 * `millrace/predict`: a model in any Node program, with the answers of the prediction server. It needs onnxruntime and the
 * version's files; Postgres and Temporal are neither asked nor loaded.
 */
import { join, resolve } from 'node:path';
import { MillraceError } from '../contracts/errors.ts';
import type { ServedVersion } from '../contracts/routes.ts';
import type { Signature } from '../contracts/signature.ts';
import { createArtifacts } from '../store/artifacts.ts';
import { modelFolderFiles, readModelFolder } from '../store/model-folder.ts';
import { answeredClass, compileAnswerWriter, jsonNumber } from './answer-text.ts';
import { loadPredictor } from './loaded-predictor.ts';
import type { ArtifactBytes } from './ports.ts';
import { readRouteFile } from './route-file.ts';

export { MillraceError } from '../contracts/errors.ts';

/** A row: raw column → value, as the prediction server takes it. */
export type PredictionRow = Readonly<Record<string, unknown>>;

/** Of a classification the label with probabilities, of numbers the value, of a bare ONNX file its output. */
export type ModelPrediction = (
  | { readonly label: string; readonly probability: number; readonly probabilities: Readonly<Record<string, number>> }
  | { readonly value: number }
  | { readonly output: readonly number[] }
) & {
  /** What the rules of decision say, where there are any. */
  readonly action?: string;
};

/** A folder that `millrace models export --out` wrote; or a project, whose prediction server has served the endpoint on this machine. */
export type ModelSource = string | { readonly project: string; readonly endpoint: string };

export interface LoadModelOptions {
  /** The project's key, for a model whose rows are hashed. Default: `MILLRACE_HASH_KEY`. */
  readonly hashKey?: string;
  /** Threads of one run. Default 1. */
  readonly threads?: number;
}

export interface Model {
  readonly model: string;
  readonly version: number;
  /** Raw columns, outputs, classes, threshold. */
  readonly signature: Signature;
  /**
   * One prediction a row, in order. Calls that meet are run together.
   * @throws MillraceError INVALID_REQUEST with every row and column that does not fit
   */
  readonly predict: (rows: readonly PredictionRow[]) => Promise<readonly ModelPrediction[]>;
  /** Frees the model when what was asked is answered. */
  readonly close: () => Promise<void>;
}

/** Rows of one run: larger calls are cut, so that the event loop turns between them. */
const ROWS_AT_ONCE = 1_024;

async function open(source: ModelSource): Promise<{ readonly served: ServedVersion; readonly artifacts: ArtifactBytes; readonly needsHashKey: boolean }> {
  if (typeof source === 'string') {
    const folder = resolve(source);
    const manifest = await readModelFolder(folder);
    const { model, version, predictor, decisions, needsHashKey } = manifest;
    return {
      served: { model, version, predictor, ...(decisions === undefined ? {} : { decisions }) },
      artifacts: modelFolderFiles(folder, manifest),
      needsHashKey,
    };
  }
  // as config/config.ts has it; the rest of the configuration is about services
  const home = resolve(source.project, process.env['MILLRACE_HOME'] || '.millrace');
  const routes = await readRouteFile(join(home, 'serving', 'routes.json'), () => undefined);
  const found = routes.find(({ route }) => route.endpoint === source.endpoint);
  if (found === undefined)
    throw new MillraceError('ENDPOINT_NOT_FOUND', `No prediction server of the project has served ${source.endpoint} on this machine.`, {
      fix: `Known here: ${routes.map(({ route }) => route.endpoint).join(', ') || 'none'}. Or export the model, and load its folder.`,
    });
  return { served: found.route.champion, artifacts: createArtifacts({ root: join(home, 'artifacts') }), needsHashKey: false };
}

/**
 * Loads a model, checked against its hashes and its stored sample, and warmed.
 *
 * @throws MillraceError SOURCE_NOT_FOUND, ENDPOINT_NOT_FOUND, ARTIFACT_MISSING, ARTIFACT_CORRUPT, MODEL_INVALID; INVALID_CONFIG where the key of hashed columns is missing.
 */
export async function loadModel(source: ModelSource, options: LoadModelOptions = {}): Promise<Model> {
  const { served, artifacts, needsHashKey } = await open(source);
  const hashKey = options.hashKey ?? process.env['MILLRACE_HASH_KEY'];
  if (needsHashKey && !hashKey)
    throw new MillraceError('INVALID_CONFIG', 'The model hashes columns with a key that is not known here.', {
      fix: "Give the project's key: hashKey, or MILLRACE_HASH_KEY. It lies in the state folder of the project, in hash.key.",
    });
  const loaded = await loadPredictor(served, artifacts, {
    rulesAlone: true,
    ...(hashKey ? { hashKey } : {}),
    ...(options.threads === undefined ? {} : { runner: { intraOpThreads: options.threads } }),
  });
  const write = compileAnswerWriter(loaded.signature);
  const run = (rows: readonly PredictionRow[], first: number): Promise<readonly ModelPrediction[]> =>
    new Promise((done, failed) => {
      const problems = loaded.batcher.add(
        rows.length,
        (row, packed, at) => loaded.row.read(rows[row], first + row, packed, at),
        (error, output, _packed, firstRow) => {
          if (error !== undefined || output === undefined) {
            failed(error ?? new MillraceError('INTERNAL'));
            return;
          }
          const { values, width } = output;
          done(
            rows.map((_, row) => {
              const from = (firstRow + row) * width;
              const texts = Array.from({ length: width }, (_value, k) => jsonNumber(values[from + k] ?? Number.NaN));
              const prediction = JSON.parse(write(texts, values, from)) as ModelPrediction;
              const { decider, signature } = loaded;
              if (decider === undefined) return prediction;
              const answered = answeredClass(signature, values, from, width);
              return { ...prediction, action: JSON.parse(decider.decideByRules({ values: rows[row], output: values, from, answered })) as string };
            }),
          );
        },
      );
      if (problems !== undefined) failed(new MillraceError('INVALID_REQUEST', undefined, { problems }));
    });
  return {
    model: served.model,
    version: served.version,
    signature: loaded.signature,
    async predict(rows) {
      if (!Array.isArray(rows)) throw new MillraceError('INVALID_REQUEST', 'Rows are a list of objects: [{ column: value, … }].');
      const predictions: ModelPrediction[] = [];
      for (let from = 0; from < rows.length; from += ROWS_AT_ONCE) predictions.push(...(await run(rows.slice(from, from + ROWS_AT_ONCE), from)));
      return predictions;
    },
    close: () => loaded.close(),
  };
}
