import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { type HistoryCursor, MLFLOW_RUN_STATUSES, type MlflowRunStatus, type TrackedRunsStore } from '../../store/tracked-runs.ts';
import { MlflowError } from './errors.ts';
import { viewType } from './experiments.ts';
import {
  atMost,
  metric,
  metricKey,
  milliseconds,
  MOST_BATCH_BYTES,
  MOST_ENTITIES,
  MOST_METRICS,
  MOST_PARAMS_OR_TAGS,
  MOST_TAG_VALUE,
  param,
  paramKey,
  paramValue,
  repeated,
  tag,
  tagKey,
  tagList,
  tagValue,
  toRecord,
} from './limits.ts';
import { int64, list, name, type Operation, operation, optional, sendJson, text } from './operation.ts';
import { quickBatch, quickPoint } from './quick-batch.ts';
import { offsetOf, pageToken } from './registry-search.ts';
import { randomName } from './run-names.ts';

/** Runs of MLflow's protocol: parameters, metrics, tags, inputs, outputs, search. */
const MOST_RUNS = 50_000;
const USUAL_RUNS = 1_000;
/** Runs that are read and sent at a time: what a page of any size takes in memory. */
const RUNS_AT_ONCE = 500;
const MOST_POINTS = 25_000;
const MOST_SAMPLED_POINTS = 2_500;
const USUAL_SAMPLED_POINTS = 320;
const MOST_SAMPLED_RUNS = 100;
const MOST_DATASET_NAME = 500;
const MOST_DIGEST = 36;
const MOST_DATASET_SOURCE = 65_535;
const MOST_DATASET_SCHEMA = 1_048_575;
const MOST_DATASET_PROFILE = 16_777_215;
const MOST_INPUT_TAG_KEY = 255;
const MOST_INPUT_TAG_VALUE = 500;

const refuse = (message: string): MlflowError => new MlflowError('INVALID_PARAMETER_VALUE', message);

const runId = z
  .object({ run_id: optional(text), run_uuid: optional(text) })
  .transform(({ run_id, run_uuid }) => run_id ?? run_uuid ?? '')
  .refine((id) => id !== '', { path: ['run_id'], message: 'is missing' });
/** A request about a run, which old clients name `run_uuid`. */
const ofRun = <Shape extends z.ZodRawShape>(shape: Shape) =>
  z.intersection(
    runId.transform((id) => ({ runId: id })),
    z.object(shape),
  );

const statusName = optional(z.union([text, z.number().transform(String)])).transform((value): MlflowRunStatus | undefined => {
  if (value === undefined) return undefined;
  const names = Object.keys(MLFLOW_RUN_STATUSES) as MlflowRunStatus[];
  const numbers: Readonly<Record<string, MlflowRunStatus>> = { '1': 'RUNNING', '2': 'SCHEDULED', '3': 'FINISHED', '4': 'FAILED', '5': 'KILLED' };
  const found = names.find((one) => one === value) ?? numbers[value];
  if (found === undefined) throw refuse(`Invalid run status: ${value}. Valid values are ${names.join(', ')}.`);
  return found;
});

type Runs = Pick<TrackedRunsStore, 'jsons'>;

/** A page of runs as JSON text, a bounded number of them at a time. */
async function* pageText(runs: Runs, ids: readonly string[], next: number | null): AsyncGenerator<string> {
  yield '{"runs":[';
  for (let from = 0; from < ids.length; from += RUNS_AT_ONCE) {
    const texts = await runs.jsons(ids.slice(from, from + RUNS_AT_ONCE));
    if (texts.length > 0) yield `${from === 0 ? '' : ','}${texts.join(',')}`;
  }
  yield next === null ? ']}' : `],"next_page_token":${JSON.stringify(pageToken(next))}}`;
}

async function sendPage(reply: FastifyReply, runs: Runs, ids: readonly string[], next: number | null): Promise<FastifyReply> {
  if (ids.length > RUNS_AT_ONCE) return reply.type('application/json; charset=utf-8').send(Readable.from(pageText(runs, ids, next)));
  let whole = '';
  for await (const part of pageText(runs, ids, next)) whole += part;
  return sendJson(reply, whole);
}

const cursorSchema = z.object({ atMs: milliseconds, step: int64, value: z.string().max(40) });
function cursorOf(token: string): HistoryCursor {
  try {
    return cursorSchema.parse(JSON.parse(Buffer.from(token, 'base64').toString('utf8')));
  } catch {
    throw refuse('Invalid page token, could not base64-decode');
  }
}

const dataset = z
  .object({
    tags: list(z.object({ key: atMost('dataset tag key', MOST_INPUT_TAG_KEY), value: atMost('dataset tag value', MOST_INPUT_TAG_VALUE) })),
    dataset: z.object({
      name: atMost('dataset name', MOST_DATASET_NAME).min(1, 'is missing'),
      digest: atMost('dataset digest', MOST_DIGEST).min(1, 'is missing'),
      source_type: text,
      source: atMost('dataset source', MOST_DATASET_SOURCE),
      schema: optional(atMost('dataset schema', MOST_DATASET_SCHEMA)),
      profile: optional(atMost('dataset profile', MOST_DATASET_PROFILE)),
    }),
  })
  .transform(({ tags, dataset: { source_type, schema, profile, ...rest } }) => ({
    ...rest,
    sourceType: source_type,
    ...(schema === undefined ? {} : { schema }),
    ...(profile === undefined ? {} : { profile }),
    tags: toRecord(tags),
  }));

export const RUN_OPERATIONS: readonly Operation[] = [
  operation({
    method: 'post',
    path: '/mlflow/runs/create',
    access: 'write',
    schema: z.object({
      experiment_id: optional(text),
      user_id: optional(text),
      run_name: optional(tagValue),
      start_time: optional(milliseconds),
      tags: tagList,
    }),
    handle: async ({ store }, { experiment_id, user_id, run_name, start_time = Date.now(), tags }) => {
      const id = randomBytes(16).toString('hex');
      const given = toRecord(tags);
      const tagged = given['mlflow.runName'];
      if (run_name !== undefined && run_name !== '' && tagged !== undefined && tagged !== run_name)
        throw refuse(
          `Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values (run_name='${run_name}', mlflow.runName='${tagged}').`,
        );
      const runName = (run_name === '' ? undefined : run_name) ?? tagged ?? randomName();
      const all = { ...given, 'mlflow.runName': runName };
      const userId = user_id ?? given['mlflow.user'];
      const experimentId = experiment_id === undefined || experiment_id === '' ? '0' : experiment_id;
      const artifactUri = await store.trackedRuns.create({
        id,
        experimentId,
        name: runName,
        startedAtMs: start_time,
        tags: all,
        ...(userId === undefined ? {} : { userId }),
      });
      return {
        run: {
          info: {
            run_id: id,
            run_uuid: id,
            run_name: runName,
            experiment_id: experimentId,
            user_id: userId ?? '',
            status: 'RUNNING',
            start_time,
            artifact_uri: artifactUri,
            lifecycle_stage: 'active',
          },
          data: { metrics: [], params: [], tags: Object.entries(all).map(([key, value]) => ({ key, value })) },
          inputs: {},
        },
      };
    },
  }),
  operation({
    method: 'get',
    path: '/mlflow/runs/get',
    access: 'read',
    schema: ofRun({}),
    handle: async ({ store, reply }, run) => sendJson(reply, `{"run":${await store.trackedRuns.json(run.runId)}}`),
  }),
  operation({
    method: 'post',
    path: '/mlflow/runs/update',
    access: 'write',
    schema: ofRun({ status: statusName, end_time: optional(milliseconds), run_name: optional(tagValue) }),
    handle: async ({ store, reply }, { runId: id, status, end_time, run_name }) => {
      const info = await store.trackedRuns.update({
        runId: id,
        ...(status === undefined ? {} : { status }),
        ...(end_time === undefined || end_time === 0 ? {} : { endedAtMs: end_time }),
        ...(run_name === undefined || run_name === '' ? {} : { name: run_name }),
      });
      return sendJson(reply, `{"run_info":${info}}`);
    },
  }),
  operation({
    method: 'post',
    path: '/mlflow/runs/delete',
    access: 'write',
    schema: ofRun({}),
    handle: async ({ store }, run) => {
      await store.trackedRuns.remove(run.runId);
      return {};
    },
  }),
  operation({
    method: 'post',
    path: '/mlflow/runs/restore',
    access: 'write',
    schema: ofRun({}),
    handle: async ({ store }, run) => {
      await store.trackedRuns.restore(run.runId);
      return {};
    },
  }),
  operation({
    method: 'post',
    path: '/mlflow/runs/search',
    access: 'read',
    schema: z.object({
      experiment_ids: list(text),
      filter: optional(text),
      run_view_type: viewType,
      max_results: optional(int64),
      order_by: list(text),
      page_token: optional(text),
    }),
    handle: async ({ store, reply, projects }, { experiment_ids, filter = '', run_view_type, max_results: limit = USUAL_RUNS, order_by, page_token }) => {
      if (limit < 1 || limit > MOST_RUNS) throw refuse(`Invalid value ${limit} for parameter 'max_results' supplied: It must be from 1 to ${MOST_RUNS}.`);
      const { items, nextOffset } = await store.trackedRuns.search({
        projects,
        experimentIds: experiment_ids,
        filter,
        orderBy: order_by,
        view: run_view_type,
        limit,
        offset: offsetOf(page_token),
      });
      return sendPage(reply, store.trackedRuns, items, nextOffset);
    },
  }),
  operation({
    method: 'post',
    path: '/mlflow/runs/log-metric',
    access: 'write',
    schema: z.intersection(
      runId.transform((id) => ({ runId: id })),
      metric,
    ),
    quick: quickPoint,
    handle: async ({ store }, { runId: id, ...point }) => {
      const { modelId } = point;
      await store.trackedRuns.log({
        runId: id,
        metrics: [point],
        params: [],
        tags: [],
        ...(modelId === undefined ? {} : { modelMetrics: [{ ...point, modelId }] }),
      });
      return {};
    },
  }),
  operation({
    method: 'post',
    path: '/mlflow/runs/log-parameter',
    access: 'write',
    schema: ofRun({ key: paramKey, value: paramValue }),
    handle: async ({ store }, { runId: id, key, value }) => {
      await store.trackedRuns.log({ runId: id, metrics: [], params: [{ key, value }], tags: [] });
      return {};
    },
  }),
  operation({
    method: 'post',
    path: '/mlflow/runs/set-tag',
    access: 'write',
    schema: ofRun({ key: tagKey, value: tagValue }),
    handle: async ({ store }, { runId: id, key, value }) => {
      await store.trackedRuns.log({ runId: id, metrics: [], params: [], tags: [{ key, value }] });
      return {};
    },
  }),
  operation({
    method: 'post',
    path: '/mlflow/runs/delete-tag',
    access: 'write',
    schema: ofRun({ key: tagKey }),
    handle: async ({ store }, { runId: id, key }) => {
      await store.trackedRuns.removeTag(id, key);
      return {};
    },
  }),
  operation({
    method: 'post',
    path: '/mlflow/runs/log-batch',
    access: 'write',
    schema: ofRun({ metrics: list(metric), params: list(param), tags: list(tag) }),
    quick: quickBatch,
    handle: async ({ store, request }, { runId: id, metrics, params, tags }) => {
      const bytes = Number(request.headers['content-length'] ?? 0);
      if (bytes > MOST_BATCH_BYTES) throw refuse(`Batched logging API requests must be at most ${MOST_BATCH_BYTES} bytes, got a request of size ${bytes}.`);
      for (const [what, count, most] of [
        ['metrics', metrics.length, MOST_METRICS],
        ['params', params.length, MOST_PARAMS_OR_TAGS],
        ['tags', tags.length, MOST_PARAMS_OR_TAGS],
        ['metrics, params, and tags', metrics.length + params.length + tags.length, MOST_ENTITIES],
      ] as const)
        if (count > most)
          throw refuse(
            `A batch logging request can contain at most ${most} ${what}. Got ${count} ${what}. Please split up ${what} across multiple requests and try again.`,
          );
      const twice = repeated(params);
      if (twice.length > 0)
        throw refuse(
          `Duplicate parameter keys have been submitted: ${twice.join(', ')}. Please ensure the request contains only one param value per param key.`,
        );
      const modelMetrics = metrics.flatMap((point) => (point.modelId === undefined ? [] : [{ ...point, modelId: point.modelId }]));
      await store.trackedRuns.log({ runId: id, metrics, params, tags, ...(modelMetrics.length === 0 ? {} : { modelMetrics }) });
      return {};
    },
  }),
  operation({
    method: 'post',
    path: '/mlflow/runs/log-inputs',
    access: 'write',
    schema: ofRun({ datasets: list(dataset), models: list(z.object({ model_id: name })) }),
    handle: async ({ store }, { runId: id, datasets, models }) => {
      await store.trackedRuns.relate({ runId: id, datasets, models: models.map(({ model_id }) => ({ modelId: model_id, role: 'input', step: 0 })) });
      return {};
    },
  }),
  operation({
    method: 'post',
    path: '/mlflow/runs/outputs',
    access: 'write',
    schema: ofRun({ models: list(z.object({ model_id: name, step: optional(int64) })) }),
    handle: async ({ store }, { runId: id, models }) => {
      await store.trackedRuns.relate({ runId: id, models: models.map(({ model_id, step = 0 }) => ({ modelId: model_id, role: 'output', step })) });
      return {};
    },
  }),
  operation({
    method: 'post',
    path: '/mlflow/runs/log-model',
    access: 'write',
    schema: ofRun({ model_json: name }),
    handle: async ({ store }, { runId: id, model_json }) => {
      let model: Readonly<Record<string, unknown>>;
      try {
        model = z.record(z.string(), z.unknown()).parse(JSON.parse(model_json));
      } catch {
        throw refuse('Malformed model info: it is not a valid JSON object.');
      }
      const absent = ['artifact_path', 'flavors', 'utc_time_created', 'run_id'].filter((field) => !(field in model));
      if (absent.length > 0) throw refuse(`Model json is missing mandatory fields: ${absent.join(', ')}`);
      await store.trackedRuns.appendLoggedModel(id, model, MOST_TAG_VALUE);
      return {};
    },
  }),
  operation({
    method: 'get',
    path: '/mlflow/metrics/get-history',
    access: 'read',
    schema: ofRun({ metric_key: metricKey, max_results: optional(int64), page_token: optional(text) }),
    handle: async ({ store, reply }, { runId: id, metric_key, max_results = MOST_POINTS, page_token }) => {
      if (max_results < 1) throw refuse(`Invalid value ${max_results} for parameter 'max_results' supplied: It must be at least 1.`);
      const { points, next } = await store.trackedRuns.history({
        runId: id,
        name: metric_key,
        limit: Math.min(max_results, MOST_POINTS),
        ...(page_token === undefined || page_token === '' ? {} : { after: cursorOf(page_token) }),
      });
      const token = next === null ? '' : `,"next_page_token":${JSON.stringify(Buffer.from(JSON.stringify(next)).toString('base64'))}`;
      return sendJson(reply, `{"metrics":${points}${token}}`);
    },
  }),
  operation({
    method: 'get',
    path: '/mlflow/metrics/get-history-bulk',
    access: 'read',
    schema: z.object({ run_id: list(text), metric_key: metricKey, max_results: optional(int64) }),
    handle: async ({ store, reply }, { run_id, metric_key, max_results = MOST_POINTS }) => {
      if (run_id.length === 0 || run_id.length > MOST_SAMPLED_RUNS)
        throw refuse(`GetMetricHistoryBulk request must specify at least one and at most ${MOST_SAMPLED_RUNS} run_id.`);
      const limit = Math.max(1, Math.floor(Math.min(max_results, MOST_POINTS) / run_id.length));
      return sendJson(reply, `{"metrics":${await store.trackedRuns.sampledHistory({ runIds: run_id, name: metric_key, limit })}}`);
    },
  }),
  operation({
    method: 'get',
    path: '/mlflow/metrics/get-history-bulk-interval',
    access: 'read',
    schema: z.object({
      run_ids: list(text),
      metric_key: metricKey,
      start_step: optional(int64),
      end_step: optional(int64),
      max_results: optional(int64),
    }),
    handle: async ({ store, reply }, { run_ids, metric_key, start_step, end_step, max_results = USUAL_SAMPLED_POINTS }) => {
      if (run_ids.length === 0 || run_ids.length > MOST_SAMPLED_RUNS)
        throw refuse(`GetMetricHistoryBulkInterval request must specify at least one and at most ${MOST_SAMPLED_RUNS} run_ids.`);
      if (max_results < 1 || max_results > MOST_SAMPLED_POINTS) throw refuse(`max_results must be from 1 to ${MOST_SAMPLED_POINTS}, got ${max_results}.`);
      if ((start_step === undefined) !== (end_step === undefined)) throw refuse('If either start step or end step are specified, both must be specified.');
      if (start_step !== undefined && end_step !== undefined && start_step > end_step)
        throw refuse(`end_step must be greater than start_step. Found start_step=${start_step} and end_step=${end_step}.`);
      const points = await store.trackedRuns.sampledHistory({
        runIds: run_ids,
        name: metric_key,
        limit: max_results,
        ...(start_step === undefined ? {} : { fromStep: start_step }),
        ...(end_step === undefined ? {} : { toStep: end_step }),
      });
      return sendJson(reply, `{"metrics":${points}}`);
    },
  }),
];
