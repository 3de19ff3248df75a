import { z } from 'zod';
import type { ExperimentRecord, ViewType } from '../../store/experiments.ts';
import { MlflowError } from './errors.ts';
import { atMost, experimentName, experimentTagValue, tagKey, toRecord } from './limits.ts';
import { int64, list, name, type Operation, operation, optional, text } from './operation.ts';
import { offsetOf, pageToken } from './registry-search.ts';

/** Experiments of MLflow's protocol. */
const MOST_EXPERIMENTS = 50_000;
const USUAL_EXPERIMENTS = 1_000;
const MOST_LOCATION = 2_048;

const VIEWS: Readonly<Record<string, ViewType>> = { ACTIVE_ONLY: 'active', DELETED_ONLY: 'deleted', ALL: 'all', '1': 'active', '2': 'deleted', '3': 'all' };
/** Which of the living and the deleted are asked for: protocol buffers write it as a word or as a number. */
export const viewType = optional(z.union([text, z.number().transform(String)])).transform((value): ViewType => {
  const view = VIEWS[value ?? 'ACTIVE_ONLY'];
  if (view === undefined)
    throw new MlflowError('INVALID_PARAMETER_VALUE', `Invalid view type: ${value ?? ''}. Valid values are ACTIVE_ONLY, DELETED_ONLY, ALL.`);
  return view;
});

function shown(experiment: ExperimentRecord): Readonly<Record<string, unknown>> {
  return {
    experiment_id: experiment.id,
    name: experiment.name,
    artifact_location: experiment.artifactLocation,
    lifecycle_stage: experiment.lifecycleStage,
    creation_time: experiment.createdAtMs,
    last_update_time: experiment.updatedAtMs,
    tags: [
      ...Object.entries(experiment.tags).map(([key, value]) => ({ key, value })),
      ...(experiment.pipeline === null ? [] : [{ key: 'millrace.pipeline', value: experiment.pipeline }]),
    ],
  };
}

const byId = z.object({ experiment_id: name });
const searchSchema = z.object({
  max_results: optional(int64),
  page_token: optional(text),
  filter: optional(text),
  order_by: list(text),
  view_type: viewType,
});
const search = (method: 'get' | 'post'): Operation =>
  operation({
    method,
    path: '/mlflow/experiments/search',
    access: 'read',
    schema: searchSchema,
    handle: async ({ store, projects }, { max_results: limit = USUAL_EXPERIMENTS, page_token, filter = '', order_by, view_type }) => {
      if (limit < 1 || limit > MOST_EXPERIMENTS)
        throw new MlflowError(
          'INVALID_PARAMETER_VALUE',
          `Invalid value ${limit} for parameter 'max_results' supplied: It must be from 1 to ${MOST_EXPERIMENTS}.`,
        );
      const { items, nextOffset } = await store.experiments.search({
        projects,
        filter,
        orderBy: order_by,
        view: view_type,
        limit,
        offset: offsetOf(page_token),
      });
      return { experiments: items.map(shown), ...(nextOffset === null ? {} : { next_page_token: pageToken(nextOffset) }) };
    },
  });

export const EXPERIMENT_OPERATIONS: readonly Operation[] = [
  operation({
    method: 'post',
    path: '/mlflow/experiments/create',
    access: 'write',
    schema: z.object({
      name: experimentName,
      artifact_location: optional(atMost('artifact_location', MOST_LOCATION)),
      tags: list(z.object({ key: tagKey, value: experimentTagValue })),
    }),
    handle: async ({ store }, { name: experiment, artifact_location: location, tags }) => {
      if (location !== undefined && /[?#]|(?:^|\/)\.\.(?:\/|$)/.test(location))
        throw new MlflowError('INVALID_PARAMETER_VALUE', `'artifact_location' URL can't include queries, fragments or '..'.`);
      return {
        experiment_id: await store.experiments.create({
          name: experiment,
          tags: toRecord(tags),
          ...(location === undefined || location === '' ? {} : { artifactLocation: location.replace(/\/+$/, '') }),
        }),
      };
    },
  }),
  operation({
    method: 'get',
    path: '/mlflow/experiments/get',
    access: 'read',
    schema: byId,
    handle: async ({ store }, { experiment_id }) => ({ experiment: shown(await store.experiments.get(experiment_id)) }),
  }),
  operation({
    method: 'get',
    path: '/mlflow/experiments/get-by-name',
    access: 'read',
    schema: z.object({ experiment_name: name }),
    handle: async ({ store }, { experiment_name }) => {
      const found = await store.experiments.findByName(experiment_name);
      if (found === null) throw new MlflowError('RESOURCE_DOES_NOT_EXIST', `Could not find experiment with name '${experiment_name}'`);
      return { experiment: shown(found) };
    },
  }),
  search('get'),
  search('post'),
  operation({
    method: 'post',
    path: '/mlflow/experiments/update',
    access: 'write',
    schema: byId.extend({ new_name: optional(experimentName) }),
    handle: async ({ store }, { experiment_id, new_name }) => {
      if (new_name !== undefined) await store.experiments.rename(experiment_id, new_name);
      return {};
    },
  }),
  operation({
    method: 'post',
    path: '/mlflow/experiments/delete',
    access: 'write',
    schema: byId,
    handle: async ({ store }, { experiment_id }) => {
      if (experiment_id === '0')
        throw new MlflowError('INVALID_PARAMETER_VALUE', "Cannot delete the default experiment '0'. This is an internally reserved experiment.");
      await store.experiments.remove(experiment_id);
      return {};
    },
  }),
  operation({
    method: 'post',
    path: '/mlflow/experiments/restore',
    access: 'write',
    schema: byId,
    handle: async ({ store }, { experiment_id }) => {
      await store.experiments.restore(experiment_id);
      return {};
    },
  }),
  operation({
    method: 'post',
    path: '/mlflow/experiments/set-experiment-tag',
    access: 'write',
    schema: byId.extend({ key: tagKey, value: experimentTagValue }),
    handle: async ({ store }, { experiment_id, key, value }) => {
      await store.experiments.setTag(experiment_id, key, value);
      return {};
    },
  }),
  operation({
    method: 'post',
    path: '/mlflow/experiments/delete-experiment-tag',
    access: 'write',
    schema: byId.extend({ key: tagKey }),
    handle: async ({ store }, { experiment_id, key }) => {
      await store.experiments.removeTag(experiment_id, key);
      return {};
    },
  }),
];
