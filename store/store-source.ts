import { createReadStream } from 'node:fs';
import { PredictorSchema } from '../contracts/signature.ts';
import { folderOf, registryFolder } from './artifact-paths.ts';
import type { Artifacts } from './artifacts.ts';
import type { Paged } from './experiments.ts';
import type { MlflowSource, SourceFile } from './mlflow-source.ts';
import type { RegisteredModel, RegisteredVersion } from './registry.ts';
import type { Store } from './store.ts';
import type { HistoryCursor } from './tracked-runs.ts';
import { versionFile, versionFiles } from './version-files.ts';

/** The store itself as a source: what its API would say to an MLflow client. */
const RUNS_A_PAGE = 200;
const RECORDS_A_PAGE = 500;
const POINTS_A_PAGE = 25_000;
/** Beside what a client sees of a version: what its monitors compare with. */
const TRAINING_PROFILE = 'training-profile.json';

const pairs = (of: Readonly<Record<string, string>>) => Object.entries(of).map(([key, value]) => ({ key, value }));
const tagsWithout = (of: Readonly<Record<string, string>>) => pairs(of).filter(({ key }) => key !== 'millrace.pipeline');

async function* paged<T>(ask: (offset: number) => Promise<Paged<T>>): AsyncGenerator<T> {
  for (let offset: number | null = 0; offset !== null; ) {
    const page: Paged<T> = await ask(offset);
    yield* page.items;
    offset = page.nextOffset;
  }
}

/** Of those that give one more than asked for when there are more. */
async function* overlapping<T>(ask: (offset: number) => Promise<readonly T[]>): AsyncGenerator<T> {
  for (let offset = 0; ; offset += RECORDS_A_PAGE) {
    const found = await ask(offset);
    yield* found.slice(0, RECORDS_A_PAGE);
    if (found.length <= RECORDS_A_PAGE) return;
  }
}

const modelShown = (of: RegisteredModel) => ({
  name: of.name,
  creation_timestamp: Date.parse(of.createdAt),
  last_updated_timestamp: Date.parse(of.updatedAt),
  description: of.description ?? '',
  tags: pairs(of.tags),
  aliases: of.aliases,
});

const versionShown = (of: RegisteredVersion) => ({
  name: of.model,
  version: of.version,
  creation_timestamp: Date.parse(of.createdAt),
  last_updated_timestamp: Date.parse(of.updatedAt),
  current_stage: of.modelStage,
  description: of.description ?? '',
  source: of.source ?? `mlflow-artifacts:/${registryFolder(of.model, of.version)}`,
  run_id: of.runId ?? '',
  run_link: of.runLink ?? '',
  model_id: of.loggedModel ?? '',
  tags: pairs(of.tags),
});

export function createStoreSource({ store, artifacts }: { readonly store: Store; readonly artifacts: Artifacts }): MlflowSource {
  const stored = (path: string, sha256: string, sizeBytes: number): SourceFile => ({
    path,
    sha256,
    sizeBytes,
    open: async () => createReadStream(await artifacts.pathOf(sha256)),
  });
  async function* filesOfVersion(at: { readonly model: string; readonly version: number }): AsyncGenerator<SourceFile> {
    const { predictor } = await store.registry.version(at.model, at.version);
    if (predictor === null) return;
    for (const { name } of await versionFiles({ store, artifacts }, at)) {
      const file = await versionFile({ store, artifacts }, { ...at, rest: name });
      if (file === null) continue;
      if ('sha256' in file) yield stored(name, file.sha256, file.sizeBytes);
      else yield { path: name, sizeBytes: file.bytes.length, open: () => Promise.resolve(once(file.bytes)) };
    }
    const { trainingProfile } = PredictorSchema.parse(await artifacts.getJson(predictor));
    if (trainingProfile !== null && (await artifacts.has(trainingProfile)))
      yield { path: TRAINING_PROFILE, sha256: trainingProfile, open: async () => createReadStream(await artifacts.pathOf(trainingProfile)) };
  }
  return {
    name: 'this store',
    async *experiments() {
      const search = (offset: number) => store.experiments.search({ filter: '', orderBy: ['experiment_id ASC'], view: 'all', limit: RECORDS_A_PAGE, offset });
      for await (const one of paged(search))
        yield {
          experiment_id: one.id,
          name: one.name,
          lifecycle_stage: one.lifecycleStage,
          creation_time: one.createdAtMs,
          last_update_time: one.updatedAtMs,
          tags: tagsWithout(one.tags),
        };
    },
    async *runs(experimentId) {
      const orderBy = ['attributes.start_time ASC'];
      for (let offset: number | null = 0; offset !== null; ) {
        const page: Paged<string> = await store.trackedRuns.search({
          experimentIds: [experimentId],
          filter: '',
          orderBy,
          view: 'all',
          limit: RUNS_A_PAGE,
          offset,
        });
        for (const text of await store.trackedRuns.jsons(page.items)) yield JSON.parse(text) as unknown;
        offset = page.nextOffset;
      }
    },
    async *history(runId, key) {
      for (let after: HistoryCursor | null | undefined; after !== null; ) {
        const page = await store.trackedRuns.history({ runId, name: key, limit: POINTS_A_PAGE, ...(after === undefined ? {} : { after }) });
        yield JSON.parse(page.points) as readonly unknown[];
        after = page.next;
      }
    },
    async *loggedModels(experimentId) {
      const orderBy = [{ field: 'creation_timestamp', ascending: true }];
      const search = (offset: number) =>
        store.loggedModels.search({ experimentIds: [experimentId], filter: '', datasets: [], orderBy, limit: RECORDS_A_PAGE, offset });
      for await (const text of paged(search)) yield JSON.parse(text) as unknown;
    },
    async *models() {
      const order = [{ by: 'name', descending: false }] as const;
      for await (const one of overlapping((offset) => store.registry.searchModels({ conditions: [], order, limit: RECORDS_A_PAGE, offset })))
        yield modelShown(one);
    },
    async *versions(model) {
      const conditions = [{ of: { attribute: 'name' }, comparator: '=', value: model }] as const;
      const order = [{ by: 'version', descending: false }] as const;
      for await (const one of overlapping((offset) => store.registry.searchVersions({ conditions, order, limit: RECORDS_A_PAGE, offset })))
        yield versionShown(one);
    },
    async *files(owner) {
      if (owner.kind === 'version') {
        yield* filesOfVersion(owner);
        return;
      }
      const folder = folderOf(owner.root);
      if (folder === null || folder === '') return;
      for (let after: string | undefined; ; ) {
        const page = await store.artifactFiles.walk(folder, { limit: RECORDS_A_PAGE, ...(after === undefined ? {} : { after }) });
        for (const { path, sha256, sizeBytes } of page) yield stored(path.slice(folder.length + 1), sha256, sizeBytes);
        after = page.at(-1)?.path;
        if (page.length < RECORDS_A_PAGE) return;
      }
    },
  };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield await Promise.resolve(bytes);
}
