import { z } from 'zod';
import type { LoggedModelStatus } from '../../store/schema.ts';
import { MlflowError } from './errors.ts';
import { atMost, paramKey, paramValue, tagKey, tagValue, toRecord } from './limits.ts';
import { int64, list, name, type Operation, operation, optional, sendJson, text } from './operation.ts';
import { offsetOf, pageToken } from './registry-search.ts';
import { randomName } from './run-names.ts';

/** Logged models of MLflow 3: what `log_model` makes, before and beside a registered version. */
const MOST_NAME = 500;
const MOST_MODELS = 100;
const USUAL_MODELS = 100;

const STATUSES: Readonly<Record<string, LoggedModelStatus>> = {
  LOGGED_MODEL_PENDING: 'pending',
  LOGGED_MODEL_READY: 'ready',
  LOGGED_MODEL_UPLOAD_FAILED: 'failed',
  '1': 'pending',
  '2': 'ready',
  '3': 'failed',
};
const status = z.union([text, z.number().transform(String)]).transform((value): LoggedModelStatus => {
  const found = STATUSES[value];
  if (found === undefined) throw new MlflowError('INVALID_PARAMETER_VALUE', `Invalid status of a logged model: ${value}.`);
  return found;
});
const modelName = atMost('name', MOST_NAME).refine(
  (value) => !/[/:.%"']/.test(value),
  `is no model's name: it must be a non-empty string and cannot contain the following characters: / : . % " '`,
);
const params = list(z.object({ key: paramKey, value: paramValue }));
const tags = list(z.object({ key: tagKey, value: tagValue }));
const byId = z.object({ model_id: name });
const flag = optional(z.union([z.boolean(), z.enum(['true', 'false']).transform((value) => value === 'true')], 'must be true or false'));

export const LOGGED_MODEL_OPERATIONS: readonly Operation[] = [
  operation({
    method: 'post',
    path: '/mlflow/logged-models',
    access: 'write',
    schema: z.object({ experiment_id: name, name: optional(modelName), model_type: optional(text), source_run_id: optional(text), params, tags }),
    handle: async ({ store, reply }, request) => {
      const id = await store.loggedModels.create({
        experimentId: request.experiment_id,
        name: request.name === undefined || request.name === '' ? randomName() : request.name,
        params: toRecord(request.params),
        tags: toRecord(request.tags),
        ...(request.model_type === undefined ? {} : { modelType: request.model_type }),
        ...(request.source_run_id === undefined || request.source_run_id === '' ? {} : { sourceRunId: request.source_run_id }),
      });
      return sendJson(reply, `{"model":${await store.loggedModels.json(id)}}`);
    },
  }),
  operation({
    method: 'post',
    path: '/mlflow/logged-models/search',
    access: 'read',
    schema: z.object({
      experiment_ids: list(text),
      filter: optional(text),
      datasets: list(z.object({ dataset_name: name, dataset_digest: optional(text) })),
      max_results: optional(int64),
      order_by: list(z.object({ field_name: name, ascending: flag, dataset_name: optional(text), dataset_digest: optional(text) })),
      page_token: optional(text),
    }),
    handle: async ({ store, reply, projects }, request) => {
      const limit = request.max_results ?? USUAL_MODELS;
      if (limit < 1) throw new MlflowError('INVALID_PARAMETER_VALUE', `Invalid value ${limit} for parameter 'max_results' supplied: It must be at least 1.`);
      const { items, nextOffset } = await store.loggedModels.search({
        projects,
        experimentIds: request.experiment_ids,
        filter: request.filter ?? '',
        datasets: request.datasets.map(({ dataset_name, dataset_digest }) => ({
          name: dataset_name,
          ...(dataset_digest === undefined || dataset_digest === '' ? {} : { digest: dataset_digest }),
        })),
        orderBy: request.order_by.map(({ field_name, ascending = true, dataset_name, dataset_digest }) => ({
          field: field_name,
          ascending,
          ...(dataset_name === undefined || dataset_name === '' ? {} : { datasetName: dataset_name }),
          ...(dataset_digest === undefined || dataset_digest === '' ? {} : { datasetDigest: dataset_digest }),
        })),
        // The client asks on by itself.
        limit: Math.min(limit, MOST_MODELS),
        offset: offsetOf(request.page_token),
      });
      return sendJson(reply, `{"models":[${items.join(',')}]${nextOffset === null ? '' : `,"next_page_token":${JSON.stringify(pageToken(nextOffset))}`}}`);
    },
  }),
  operation({
    method: 'get',
    path: '/mlflow/logged-models/:model_id',
    access: 'read',
    schema: byId.extend({ allow_deleted: flag }),
    handle: async ({ store, reply }, { model_id, allow_deleted }) => sendJson(reply, `{"model":${await store.loggedModels.json(model_id, allow_deleted)}}`),
  }),
  operation({
    method: 'patch',
    path: '/mlflow/logged-models/:model_id',
    access: 'write',
    schema: byId.extend({ status }),
    handle: async ({ store, reply }, request) => {
      await store.loggedModels.finalize(request.model_id, request.status);
      return sendJson(reply, `{"model":${await store.loggedModels.json(request.model_id)}}`);
    },
  }),
  operation({
    method: 'delete',
    path: '/mlflow/logged-models/:model_id',
    access: 'write',
    schema: byId,
    handle: async ({ store }, { model_id }) => {
      await store.loggedModels.remove(model_id);
      return {};
    },
  }),
  operation({
    method: 'patch',
    path: '/mlflow/logged-models/:model_id/tags',
    access: 'write',
    schema: byId.extend({ tags }),
    handle: async ({ store }, request) => {
      await store.loggedModels.setTags(request.model_id, toRecord(request.tags));
      return {};
    },
  }),
  operation({
    method: 'delete',
    path: '/mlflow/logged-models/:model_id/tags/:tag_key',
    access: 'write',
    schema: byId.extend({ tag_key: name }),
    handle: async ({ store }, { model_id, tag_key }) => {
      await store.loggedModels.removeTag(model_id, tag_key);
      return {};
    },
  }),
  operation({
    method: 'post',
    path: '/mlflow/logged-models/:model_id/params',
    access: 'write',
    schema: byId.extend({ params }),
    handle: async ({ store }, request) => {
      await store.loggedModels.addParams(request.model_id, toRecord(request.params));
      return {};
    },
  }),
];
