import { ModelCardSchema } from '../contracts/model-card.ts';
import { type Predictor, PredictorSchema, type Signature } from '../contracts/signature.ts';
import type { Artifacts } from './artifacts.ts';
import type { VersionRecord } from './models.ts';
import type { ModelStage } from './schema.ts';
import type { Store } from './store.ts';

/** All that a version holds. Hashes name artifacts. */
export interface VersionDescription {
  readonly model: string;
  readonly version: number;
  readonly aliases: readonly string[];
  readonly status: VersionRecord['status'];
  readonly statusReason: string | null;
  /** MLflow's. */
  readonly stage: ModelStage;
  readonly owner: string | null;
  readonly description: string | null;
  readonly tags: Readonly<Record<string, string>>;
  readonly createdAt: string;
  readonly updatedAt: string;
  /** Where an MLflow client's files lie; null for what a run registered. */
  readonly source: string | null;
  readonly metrics: Readonly<Record<string, number>>;
  /** Null for what an MLflow client registered, until `registeredVersion` has made a predictor of it. */
  readonly predictor: string | null;
  readonly onnx: string | null;
  readonly onnxSizeBytes: number | null;
  readonly trainer: Predictor['trainer'] | null;
  readonly signature: Signature | null;
  /** Rows of a request with the answers that they must get. */
  readonly sample: Predictor['sample'] | null;
  readonly trainingProfile: string | null;
  readonly evaluation: string | null;
  readonly card: string | null;
  readonly code: {
    readonly run: string;
    readonly pipeline: string;
    readonly build: string | null;
    readonly remote: string | null;
    readonly commit: string | null;
    readonly clean: boolean | null;
  } | null;
  /** Name of a program or package → its version, where it was trained; null where nobody said. */
  readonly environment: Readonly<Record<string, string>> | null;
}

/** The file in which MLflow's clients list the packages of a model. */
const REQUIREMENTS = 'requirements.txt';

/** All that a version holds, by its number or an alias; without one, the champion or the newest. @throws NOT_FOUND */
export async function describeVersion(
  store: Pick<Store, 'models' | 'runs' | 'artifactFiles'>,
  artifacts: Pick<Artifacts, 'getJson' | 'getBytes'>,
  model: string,
  name: string | undefined,
): Promise<VersionDescription> {
  const record = await store.models.versionNamed(model, name);
  const [aliases, run, predictor, environment] = await Promise.all([
    store.models.aliases(model),
    record.runId === null ? null : store.runs.find(record.runId),
    record.predictor === null ? null : artifacts.getJson(record.predictor).then((json) => PredictorSchema.parse(json)),
    environmentOf(record, store, artifacts),
  ]);
  const { version, status, statusReason, owner, description, tags, createdAt, updatedAt, source, metrics, evaluation, card } = record;
  return {
    ...{ model, version, status, statusReason, owner, description, tags, createdAt, updatedAt, source, metrics, evaluation, card, environment },
    aliases: aliases.filter((alias) => alias.version === version).map(({ alias }) => alias),
    stage: record.modelStage,
    predictor: record.predictor,
    onnx: predictor?.onnx ?? null,
    onnxSizeBytes: predictor?.onnxSizeBytes ?? null,
    trainer: predictor?.trainer ?? null,
    signature: predictor?.signature ?? null,
    sample: predictor?.sample ?? null,
    trainingProfile: predictor?.trainingProfile ?? null,
    code: run === null ? null : { run: run.id, pipeline: run.pipeline, build: run.buildId, remote: run.gitRemote, commit: run.gitCommit, clean: run.gitClean },
  };
}

async function environmentOf(
  { card, folder }: VersionRecord,
  { artifactFiles }: Pick<Store, 'artifactFiles'>,
  artifacts: Pick<Artifacts, 'getJson' | 'getBytes'>,
): Promise<Readonly<Record<string, string>> | null> {
  if (card !== null) return ModelCardSchema.parse(await artifacts.getJson(card)).environment;
  const listed = folder === null ? null : await artifactFiles.find(`${folder}/${REQUIREMENTS}`);
  if (listed === null) return null;
  const lines = (await artifacts.getBytes(listed.sha256)).toString('utf8').split('\n');
  const packages: Record<string, string> = {};
  for (const line of lines) {
    const [, name, version] = /^\s*([\w.[\]-]+)\s*==\s*([^\s;#]+)/.exec(line) ?? [];
    if (name !== undefined && version !== undefined) packages[name] = version;
  }
  return packages;
}
