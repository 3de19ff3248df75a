import { z } from 'zod';
import { MillraceError } from '../../contracts/errors.ts';
import { parseFilter, parseOrder } from '../../contracts/mlflow-filter.ts';
import type { RegisteredModel, RegisteredVersion } from '../../store/registry.ts';
import { MODEL_STAGES, type ModelStage } from '../../store/schema.ts';
import { registryFolder } from '../../store/artifact-paths.ts';
import { MlflowError } from './errors.ts';
import { sourceOf } from './model-sources.ts';
import { int64, list, name, type Operation, operation, optional, text } from './operation.ts';
import { conditionsOf, MODEL_LANGUAGE, offsetOf, orderOf, pageToken, VERSION_LANGUAGE } from './registry-search.ts';

/** The model registry of MLflow's protocol: names, numbers and limits as MLflow's own server has them. */
const MOST_NAME = 256;
const MOST_ALIAS = 255;
const MOST_TAG_KEY = 250;
const MOST_TAG_VALUE = 100_000;
const MOST_DESCRIPTION = 100_000;
const MOST_MODELS = 1_000;
const MOST_VERSIONS = 200_000;
const USUAL_MODELS = 100;
const USUAL_VERSIONS = 10_000;
/** What a page of versions holds at most, whatever is asked for: the client asks on by itself. */
const PAGE_VERSIONS = 1_000;
const ACTIVE_STAGES: readonly ModelStage[] = ['Staging', 'Production'];

const refuse = (message: string): MlflowError => new MlflowError('INVALID_PARAMETER_VALUE', message);
const tooLong = (what: string, most: number): string => `'${what}' exceeds the maximum length of ${most} characters`;

/** Postgres holds neither NUL nor half of a surrogate pair. */
const isStorable = (value: string): boolean => !/\u0000|[\uD800-\uDFFF]/u.test(value);
const storableText = (what: string, most: number) =>
  text.refine((value) => value.length <= most, tooLong(what, most)).refine(isStorable, `'${what}' holds a character that cannot be stored`);

/** Whether a name would be another one if it were a path. */
function isPathLike(value: string): boolean {
  return value.startsWith('/') || value.endsWith('/') || value.split('/').some((part) => part === '' || part === '.' || part === '..');
}

const modelName = storableText('name', MOST_NAME)
  .refine((value) => value.trim() !== '', 'is missing')
  .refine((value) => !/[/:]/.test(value), "is no model's name: names cannot contain '/' or ':'")
  .refine((value) => value.trim() === '' || !isPathLike(value), "is no model's name: it would be another one as a path");
const version = z
  .union([z.number(), z.string()], 'must be an integer')
  .transform(Number)
  .refine((value) => Number.isInteger(value) && Math.abs(value) < 2 ** 31, 'must be an integer');
const tagKey = storableText('key', MOST_TAG_KEY)
  .refine(
    (value) => /^[/\p{L}\p{N}_.\- :]*$/u.test(value),
    'may only contain alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), colon(:) and slashes (/)',
  )
  .refine((value) => value !== '' && !isPathLike(value), 'would be another name as a path');
const tagValue = optional(storableText('value', MOST_TAG_VALUE)).transform((value) => value ?? '');
const tags = list(z.object({ key: tagKey, value: tagValue })).transform((all) => Object.fromEntries(all.map(({ key, value }) => [key, value])));
const description = optional(storableText('description', MOST_DESCRIPTION));
const anyAlias = storableText('alias', MOST_ALIAS)
  .min(1, 'name cannot be empty')
  .refine((value) => /^[\p{L}\p{N}_-]*$/u.test(value), 'may only contain alphanumerics, underscores, and dashes');
const newAlias = anyAlias
  .refine((value) => value.toLowerCase() !== 'latest', "'latest' alias name (case insensitive) is reserved")
  .refine((value) => !/^v\d+$/i.test(value), 'is reserved: it looks like a version');
const stage = text.transform((value, context): ModelStage => {
  const found = MODEL_STAGES.find((one) => one.toLowerCase() === value.toLowerCase());
  if (found !== undefined) return found;
  context.addIssue({ code: 'custom', message: `Invalid Model Version stage: ${value}. Value must be one of ${MODEL_STAGES.join(', ')}.` });
  return z.NEVER;
});
const most = (usual: number, limit: number) =>
  optional(int64.refine((value) => value > 0, 'must be a positive integer').refine((value) => value <= limit, `must be at most ${limit}`)).transform(
    (value) => value ?? usual,
  );
const search = { filter: optional(text), order_by: list(text), page_token: optional(text) };
const ofVersion = { name: modelName, version };

const millis = (instant: string): number => Date.parse(instant);
const tagList = (all: Readonly<Record<string, string>>) => Object.entries(all).map(([key, value]) => ({ key, value }));

/** Where the files of a version are found: those that a run of Millrace's registered have a folder of their own. */
const sourceShown = (of: RegisteredVersion): string => of.source ?? `mlflow-artifacts:/${registryFolder(of.model, of.version)}`;

function versionShown(of: RegisteredVersion) {
  return {
    name: of.model,
    version: String(of.version),
    creation_timestamp: millis(of.createdAt),
    last_updated_timestamp: millis(of.updatedAt),
    ...(of.owner === null ? {} : { user_id: of.owner }),
    current_stage: of.modelStage,
    ...(of.description === null ? {} : { description: of.description }),
    source: sourceShown(of),
    ...(of.runId === null ? {} : { run_id: of.runId }),
    ...(of.runLink === null ? {} : { run_link: of.runLink }),
    ...(of.loggedModel === null ? {} : { model_id: of.loggedModel }),
    status: 'READY',
    tags: tagList(of.tags),
    aliases: of.aliases,
  };
}

function modelShown(of: RegisteredModel) {
  return {
    name: of.name,
    creation_timestamp: millis(of.createdAt),
    last_updated_timestamp: millis(of.updatedAt),
    ...(of.owner === null ? {} : { user_id: of.owner }),
    ...(of.description === null ? {} : { description: of.description }),
    latest_versions: of.latest.map(versionShown),
    tags: tagList(of.tags),
    aliases: of.aliases.map((one) => ({ alias: one.alias, version: String(one.version) })),
  };
}

/** MLflow's words for a version that is not there. */
async function known<T>(at: { readonly name: string; readonly version: number }, work: Promise<T>): Promise<T> {
  return work.catch((error: unknown) => {
    if (error instanceof MillraceError && error.code === 'NOT_FOUND')
      throw new MlflowError('RESOURCE_DOES_NOT_EXIST', `Model Version (name=${at.name}, version=${at.version}) not found`);
    throw error;
  });
}

function paged<T>(found: readonly T[], limit: number, offset: number): { readonly items: readonly T[]; readonly token: { readonly next_page_token?: string } } {
  return { items: found.slice(0, limit), token: found.length > limit ? { next_page_token: pageToken(offset + limit) } : {} };
}

const latestVersions = (method: 'get' | 'post'): Operation =>
  operation({
    method,
    path: '/mlflow/registered-models/get-latest-versions',
    access: 'read',
    schema: z.object({ name: modelName, stages: list(stage) }),
    handle: async ({ store }, of) => ({ model_versions: (await store.registry.latestVersions(of.name, of.stages)).map(versionShown) }),
  });

export const REGISTRY_OPERATIONS: readonly Operation[] = [
  operation({
    method: 'post',
    path: '/mlflow/registered-models/create',
    access: 'write',
    schema: z.object({ name: modelName, tags, description }),
    handle: async ({ store }, of) => {
      if (of.tags['mlflow.prompt.is_prompt'] !== undefined)
        throw new MlflowError('NOT_IMPLEMENTED', 'This server does not do prompts: Millrace leaves that part of MLflow out.');
      const model = await store.registry.createModel({
        name: of.name,
        tags: of.tags,
        ...(of.description === undefined ? {} : { description: of.description }),
      });
      return { registered_model: modelShown(model) };
    },
  }),
  operation({
    method: 'post',
    path: '/mlflow/registered-models/rename',
    access: 'write',
    schema: z.object({ name: modelName, new_name: modelName }),
    handle: async ({ store }, of) => ({ registered_model: modelShown(await store.registry.renameModel(of.name, of.new_name)) }),
  }),
  operation({
    method: 'patch',
    path: '/mlflow/registered-models/update',
    access: 'write',
    schema: z.object({ name: modelName, description }),
    handle: async ({ store }, of) => ({ registered_model: modelShown(await store.registry.describeModel(of.name, of.description ?? null)) }),
  }),
  operation({
    method: 'delete',
    path: '/mlflow/registered-models/delete',
    access: 'write',
    schema: z.object({ name: modelName }),
    handle: async ({ store }, of) => {
      await store.registry.deleteModel(of.name);
      return {};
    },
  }),
  operation({
    method: 'get',
    path: '/mlflow/registered-models/get',
    access: 'read',
    schema: z.object({ name: modelName }),
    handle: async ({ store }, of) => ({ registered_model: modelShown(await store.registry.model(of.name)) }),
  }),
  operation({
    method: 'get',
    path: '/mlflow/registered-models/search',
    access: 'read',
    schema: z.object({ ...search, max_results: most(USUAL_MODELS, MOST_MODELS) }),
    handle: async ({ store, projects }, of) => {
      const offset = offsetOf(of.page_token);
      const found = await store.registry.searchModels({
        projects,
        conditions: conditionsOf(parseFilter(of.filter ?? '', MODEL_LANGUAGE.filter), MODEL_LANGUAGE),
        order: orderOf(parseOrder(of.order_by, MODEL_LANGUAGE.order), MODEL_LANGUAGE, [{ by: 'name', descending: false }]),
        limit: of.max_results,
        offset,
      });
      const { items, token } = paged(found, of.max_results, offset);
      return { registered_models: items.map(modelShown), ...token };
    },
  }),
  latestVersions('post'),
  latestVersions('get'),
  operation({
    method: 'post',
    path: '/mlflow/registered-models/set-tag',
    access: 'write',
    schema: z.object({ name: modelName, key: tagKey, value: tagValue }),
    handle: async ({ store }, of) => {
      await store.registry.tagModel(of.name, of.key, of.value);
      return {};
    },
  }),
  operation({
    method: 'delete',
    path: '/mlflow/registered-models/delete-tag',
    access: 'write',
    schema: z.object({ name: modelName, key: tagKey }),
    handle: async ({ store }, of) => {
      await store.registry.tagModel(of.name, of.key, null);
      return {};
    },
  }),
  operation({
    method: 'post',
    path: '/mlflow/registered-models/alias',
    access: 'write',
    schema: z.object({ ...ofVersion, name: modelName, alias: newAlias }),
    handle: async ({ store }, of) => {
      await known(of, store.registry.setAlias(of.name, of.alias, of.version));
      return {};
    },
  }),
  operation({
    method: 'delete',
    path: '/mlflow/registered-models/alias',
    access: 'write',
    schema: z.object({ name: modelName, alias: anyAlias }),
    handle: async ({ store }, of) => {
      await store.registry.setAlias(of.name, of.alias, null);
      return {};
    },
  }),
  operation({
    method: 'get',
    path: '/mlflow/registered-models/alias',
    access: 'read',
    schema: z.object({ name: modelName, alias: anyAlias }),
    handle: async ({ store }, of) => {
      if (of.alias.toLowerCase() === 'latest') {
        const latest = await store.registry.latestVersions(of.name, []);
        const [newest] = [...latest].sort((a, b) => b.version - a.version);
        if (newest === undefined) throw new MlflowError('RESOURCE_DOES_NOT_EXIST', `Latest version not found for model ${of.name}.`);
        return { model_version: versionShown(newest) };
      }
      const found = await store.registry.versionByAlias(of.name, of.alias);
      if (found === null) throw refuse(`Registered model alias ${of.alias} not found.`);
      return { model_version: versionShown(found) };
    },
  }),
  operation({
    method: 'post',
    path: '/mlflow/model-versions/create',
    access: 'write',
    schema: z.object({
      name: modelName,
      source: name.refine(isStorable, 'holds a character that cannot be stored').refine((value) => value.length <= 2_000, tooLong('source', 2_000)),
      run_id: optional(text),
      tags,
      run_link: optional(storableText('run_link', 2_000)),
      description,
      model_id: optional(text),
    }),
    handle: async ({ store }, of) => {
      // an empty text is what the client sends for none
      const runId = of.run_id === '' ? undefined : of.run_id;
      const loggedModel = of.model_id === '' ? undefined : of.model_id;
      const meant = await sourceOf(store, {
        source: of.source,
        ...(runId === undefined ? {} : { runId }),
        ...(loggedModel === undefined ? {} : { loggedModel }),
      });
      const made = await store.registry.createVersion({
        model: of.name,
        tags: of.tags,
        ...meant,
        ...(of.run_link === undefined ? {} : { runLink: of.run_link }),
        ...(of.description === undefined ? {} : { description: of.description }),
      });
      return { model_version: versionShown(made) };
    },
  }),
  operation({
    method: 'get',
    path: '/mlflow/model-versions/get',
    access: 'read',
    schema: z.object(ofVersion),
    handle: async ({ store }, of) => ({ model_version: versionShown(await known(of, store.registry.version(of.name, of.version))) }),
  }),
  operation({
    method: 'patch',
    path: '/mlflow/model-versions/update',
    access: 'write',
    schema: z.object({ ...ofVersion, description }),
    handle: async ({ store }, of) => ({
      model_version: versionShown(await known(of, store.registry.describeVersion(of.name, of.version, of.description ?? null))),
    }),
  }),
  operation({
    method: 'delete',
    path: '/mlflow/model-versions/delete',
    access: 'write',
    schema: z.object(ofVersion),
    handle: async ({ store }, of) => {
      await known(of, store.registry.deleteVersion(of.name, of.version));
      return {};
    },
  }),
  operation({
    method: 'get',
    path: '/mlflow/model-versions/search',
    access: 'read',
    schema: z.object({ ...search, max_results: most(USUAL_VERSIONS, MOST_VERSIONS) }),
    handle: async ({ store, projects }, of) => {
      const offset = offsetOf(of.page_token);
      const limit = Math.min(of.max_results, PAGE_VERSIONS);
      const ties = [
        ...(of.order_by.length === 0 ? [{ by: 'updatedAt', descending: true } as const] : []),
        { by: 'name', descending: false } as const,
        { by: 'version', descending: true } as const,
      ];
      const found = await store.registry.searchVersions({
        projects,
        conditions: conditionsOf(parseFilter(of.filter ?? '', VERSION_LANGUAGE.filter), VERSION_LANGUAGE),
        order: orderOf(parseOrder(of.order_by, VERSION_LANGUAGE.order), VERSION_LANGUAGE, ties),
        limit,
        offset,
      });
      const { items, token } = paged(found, limit, offset);
      return { model_versions: items.map(versionShown), ...token };
    },
  }),
  operation({
    method: 'get',
    path: '/mlflow/model-versions/get-download-uri',
    access: 'read',
    schema: z.object(ofVersion),
    handle: async ({ store }, of) => {
      const found = await known(of, store.registry.version(of.name, of.version));
      return { artifact_uri: found.folder === null ? sourceShown(found) : `mlflow-artifacts:/${found.folder}` };
    },
  }),
  operation({
    method: 'post',
    path: '/mlflow/model-versions/transition-stage',
    access: 'write',
    schema: z.object({
      ...ofVersion,
      stage,
      archive_existing_versions: optional(z.union([z.boolean(), z.enum(['true', 'false']).transform((value) => value === 'true')])),
    }),
    handle: async ({ store }, of) => {
      const archiveOthers = of.archive_existing_versions ?? false;
      if (archiveOthers && !ACTIVE_STAGES.includes(of.stage))
        throw refuse(
          `Model version transition cannot archive existing model versions because '${of.stage}' is not an Active stage. Valid stages are ${ACTIVE_STAGES.join(', ')}`,
        );
      return {
        model_version: versionShown(await known(of, store.registry.transition({ model: of.name, version: of.version, stage: of.stage, archiveOthers }))),
      };
    },
  }),
  operation({
    method: 'post',
    path: '/mlflow/model-versions/set-tag',
    access: 'write',
    schema: z.object({ ...ofVersion, key: tagKey, value: tagValue }),
    handle: async ({ store }, of) => {
      await known(of, store.registry.tagVersion(of.name, of.version, of.key, of.value));
      return {};
    },
  }),
  operation({
    method: 'delete',
    path: '/mlflow/model-versions/delete-tag',
    access: 'write',
    schema: z.object({ ...ofVersion, key: tagKey }),
    handle: async ({ store }, of) => {
      await known(of, store.registry.tagVersion(of.name, of.version, of.key, null));
      return {};
    },
  }),
];
