import { MillraceError } from '../contracts/errors.ts';
import type { Signature } from '../contracts/signature.ts';
import { encodeProto } from '../ml/onnx/graph-builder.ts';
import { tidyModel } from '../ml/onnx/external-model.ts';
import { wrapBareOnnx } from '../ml/predictor.ts';
import type { VersionRecord } from '../store/models.ts';
import type { ActivityDependencies } from './dependencies.ts';

/** The ONNX file of what an MLflow client registered, wrapped as a predictor's graph. */
export interface OpenedModel {
  readonly onnx: Uint8Array;
  readonly signature: Signature;
  /** Below the version's folder. */
  readonly path: string;
}

/** A model's folder has some ten files; one with more is none. */
const MOST_FILES = 1_000;
const DESCRIPTION = 'MLmodel';
/** What MLflow puts beside a model, and is none of its weights. */
const NO_WEIGHTS = /(?:^|\/)(?:MLmodel|[^/]*\.(?:ya?ml|txt|json|pkl|md))$/;

/**
 * Opens the ONNX file in the folder of a version: weights that lie beside it are put into it, lists of maps (ZipMap) become
 * tables, and columns take the names that the model was logged with.
 * @throws MODEL_INVALID with every problem
 */
export async function openMlflowModel(version: VersionRecord, deps: Pick<ActivityDependencies, 'store' | 'artifacts'>): Promise<OpenedModel> {
  const { store, artifacts } = deps;
  const named = `Version ${String(version.version)} of ${version.model}`;
  const { folder } = version;
  if (folder === null)
    throw new MillraceError('MODEL_INVALID', `The files of ${named.replace('Version', 'version')} lie elsewhere: ${version.source ?? ''}.`, {
      fix: 'Log the model to this server (mlflow.onnx.log_model), and register that.',
    });
  const files = new Map(
    (await store.artifactFiles.walk(folder, { limit: MOST_FILES })).map(({ path, sha256 }) => [path.slice(folder.length + 1), sha256] as const),
  );
  const graphs = [...files.keys()].filter((path) => path.endsWith('.onnx'));
  const path = graphs.includes('model.onnx') ? 'model.onnx' : graphs[0];
  if (path === undefined || (graphs.length > 1 && path !== 'model.onnx'))
    throw new MillraceError('MODEL_INVALID', `${named} has no one ONNX file: Millrace serves ONNX.`, {
      problems: [{ path: 'source', message: 'holds', found: [...files.keys()].slice(0, 20).join(', ') || 'no file' }],
      fix: 'Log it with mlflow.onnx.log_model; a scikit-learn model becomes ONNX by skl2onnx.to_onnx.',
    });
  const bytesOf = async (file: string): Promise<Buffer> => artifacts.getBytes(files.get(file) ?? '');
  const below = path.slice(0, path.lastIndexOf('/') + 1);
  const weights = [...files.keys()].filter((file) => file !== path && file.startsWith(below) && !NO_WEIGHTS.test(file));
  const beside = new Map(await Promise.all(weights.map(async (file) => [file.slice(below.length), await bytesOf(file)] as const)));
  const { onnx, signature } = wrapBareOnnx(encodeProto(tidyModel(await bytesOf(path), beside)));
  const names = files.has(DESCRIPTION) ? loggedColumns((await bytesOf(DESCRIPTION)).toString('utf8')) : [];
  return { onnx, path, signature: withNames(signature, names) };
}

/**
 * The names of the columns in the `signature` of an MLmodel file; none where it was logged without, or with tensors. The
 * file is YAML, the signature in it JSON in single quotes, which YAML may break into lines.
 */
export function loggedColumns(mlmodel: string): readonly string[] {
  const quoted = /^ {2}inputs: '((?:[^']|'')*)'/m.exec(mlmodel)?.[1];
  if (quoted === undefined) return [];
  try {
    const inputs = JSON.parse(quoted.replace(/\s*\n\s*/g, ' ').replaceAll("''", "'")) as unknown;
    if (!Array.isArray(inputs)) return [];
    const names = inputs.map((input: unknown) => (input !== null && typeof input === 'object' && 'name' in input ? input.name : undefined));
    return names.every((name): name is string => typeof name === 'string') && new Set(names).size === names.length ? names : [];
  } catch {
    return [];
  }
}

/** One input of all columns has no names of its own: it takes those that the model was logged with, in their order. */
function withNames(signature: Signature, names: readonly string[]): Signature {
  const unnamed = signature.columns.every(({ name }, place) => name === `f${String(place)}`);
  if (!unnamed || names.length !== signature.columns.length) return signature;
  const renamed = new Map(signature.columns.map(({ name }, place) => [name, names[place] ?? name]));
  const all = (of: readonly string[]): string[] => of.map((name) => renamed.get(name) ?? name);
  return {
    ...signature,
    columns: signature.columns.map((column) => ({ ...column, name: renamed.get(column.name) ?? column.name })),
    graph: { numbers: all(signature.graph.numbers), dates: all(signature.graph.dates), strings: all(signature.graph.strings) },
  };
}
