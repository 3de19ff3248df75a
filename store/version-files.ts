import { MODEL_FILES } from '../contracts/model-folder.ts';
import { type Predictor, PredictorSchema, type Signature } from '../contracts/signature.ts';
import type { ArtifactEntry } from './artifact-files.ts';
import type { Artifacts } from './artifacts.ts';
import type { RegisteredVersion } from './registry.ts';
import type { Store } from './store.ts';

/**
 * A version that a run of Millrace's registered, as MLflow's clients see it: a folder with the ONNX file, the predictor
 * and an `MLmodel` that says how to load it. Nothing of it is stored twice: it is put together when it is asked for.
 */
type Deps = { readonly store: Pick<Store, 'registry'>; readonly artifacts: Artifacts };
type VersionFile = { readonly bytes: Buffer } | { readonly sha256: string; readonly sizeBytes: number };

const MLMODEL = 'MLmodel';

/** The types of MLflow's tensors for the graph's inputs. */
const INPUT_TYPES = { numbers: 'float32', dates: 'int64', strings: 'str' } as const;

const tensor = (name: string, dtype: string, columns: number) => ({ type: 'tensor', name, 'tensor-spec': { dtype, shape: [-1, columns] } });

function signatureOf({ graph, task }: Signature): { readonly inputs: string; readonly outputs: string } {
  const inputs = (['numbers', 'dates', 'strings'] as const).flatMap((kind) =>
    graph[kind].length === 0 ? [] : [tensor(kind, INPUT_TYPES[kind], graph[kind].length)],
  );
  const outputs = [tensor('output', 'float32', 'classes' in task ? task.classes.length : -1)];
  return { inputs: JSON.stringify(inputs), outputs: JSON.stringify(outputs) };
}

/** JSON is YAML. */
function mlmodel(version: RegisteredVersion, predictor: Predictor): Buffer {
  const model = {
    artifact_path: 'model',
    flavors: {
      onnx: { code: null, data: MODEL_FILES.onnx, onnx_version: '1.23.2', providers: ['CPUExecutionProvider'] },
      python_function: { data: MODEL_FILES.onnx, env: {}, loader_module: 'mlflow.onnx', python_version: '3.11.0' },
    },
    metadata: { millrace: { model: version.model, version: version.version, predictor: version.predictor } },
    model_size_bytes: predictor.onnxSizeBytes,
    model_uuid: version.predictor?.slice(0, 32),
    run_id: version.runId,
    signature: signatureOf(predictor.signature),
    utc_time_created: version.createdAt.replace('T', ' ').replace('Z', ''),
  };
  return Buffer.from(`${JSON.stringify(model, null, 2)}\n`);
}

interface At {
  readonly model: string;
  readonly version: number;
}

async function filesOf({ store, artifacts }: Deps, at: At): Promise<ReadonlyMap<string, VersionFile>> {
  const version = await store.registry.version(at.model, at.version);
  if (version.predictor === null) return new Map();
  const predictorBytes = await artifacts.getBytes(version.predictor);
  const predictor = PredictorSchema.parse(JSON.parse(predictorBytes.toString('utf8')));
  return new Map<string, VersionFile>([
    [MLMODEL, { bytes: mlmodel(version, predictor) }],
    [MODEL_FILES.onnx, { sha256: predictor.onnx, sizeBytes: predictor.onnxSizeBytes }],
    [MODEL_FILES.predictor, { bytes: predictorBytes }],
    [MODEL_FILES.signature, { bytes: Buffer.from(`${JSON.stringify(predictor.signature, null, 2)}\n`) }],
  ]);
}

export async function versionFiles(deps: Deps, at: At): Promise<readonly ArtifactEntry[]> {
  const files = await filesOf(deps, at);
  return [...files].map(([name, file]) => ({ name, isFolder: false, sizeBytes: 'bytes' in file ? file.bytes.length : file.sizeBytes }));
}

/** One of them; null where there is none of the name. */
export async function versionFile(deps: Deps, { rest, ...at }: At & { readonly rest: string }): Promise<VersionFile | null> {
  return (await filesOf(deps, at)).get(rest) ?? null;
}
