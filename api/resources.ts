import { z } from 'zod';
import { MillraceError } from '../contracts/errors.ts';
import { projectsOf } from '../contracts/identity.ts';
import { NameSchema, RunIdSchema } from '../contracts/ids.ts';
import { type Profile, ProfileSchema } from '../contracts/profile.ts';
import { DatasetManifestSchema } from '../contracts/references.ts';
import { compareDatasets } from '../data/compare-datasets.ts';
import type { DatasetRecord } from '../store/datasets.ts';
import { withFreshness } from '../store/feature-views.ts';
import { APPROVAL_STATUSES, RUN_STATUSES, VERSION_STATUSES } from '../store/schema.ts';
import { ALERT_RESOURCES } from './alert-resources.ts';
import { GOVERNANCE_RESOURCES } from './governance-resources.ts';
import { LABEL_RESOURCES } from './label-resources.ts';
import { REGISTRY_RESOURCES } from './registry-resources.ts';
import { LINEAGE_RESOURCES } from './lineage-resources.ts';
import { type ArtifactReader, afterName, afterNumber, limit, page, type Resource, resource } from './resource.ts';

const dataset = z.string().min(1).max(300).describe('Its hash, six or more digits of that, its name (the newest), or `name@1` (the first of the name).');

/** The stored profile; null where there is none, the files were collected, or the dataset is kept from sight. */
async function profileOf({ id, profile, collectedAt }: DatasetRecord, artifacts: ArtifactReader | undefined): Promise<Profile | null> {
  if (artifacts === undefined || profile === null || collectedAt !== null) return null;
  const { reserved } = DatasetManifestSchema.parse(await artifacts.getJson(id));
  return reserved === null ? ProfileSchema.parse(await artifacts.getJson(profile)) : null;
}

/** All that `/api/v1` answers. */
export const RESOURCES: readonly Resource[] = [
  resource('/runs', {
    summary: 'Runs, newest first.',
    answers: 'page',
    params: {},
    query: { pipeline: NameSchema.optional(), status: z.enum(RUN_STATUSES).optional(), limit, after: afterNumber },
    read: async (store, { pipeline, status, limit: size, after }, _artifacts, { identity }) =>
      page(
        await store.runs.list({
          limit: size + 1,
          projects: projectsOf(identity),
          ...(pipeline === undefined ? {} : { pipeline }),
          ...(status === undefined ? {} : { status }),
          ...(after === undefined ? {} : { before: after }),
        }),
        size,
        (run) => run.seq,
      ),
  }),
  resource('/runs/{run}', {
    summary: 'A run with its stages, metrics, versions, rollouts, gates and undos.',
    answers: 'object',
    params: { run: RunIdSchema },
    query: {},
    read: async (store, { run: runId }) => {
      const run = await store.runs.get(runId);
      const [stages, metrics, versions, rollouts, approvals, undos, tags] = await Promise.all([
        store.stages.list(runId),
        store.metrics.latest(runId),
        store.models.versionsOfRun(runId),
        store.rollouts.list({ runId }),
        store.approvals.list({ runId }),
        store.undos.list(runId),
        store.runs.tags(runId),
      ]);
      return { ...run, tags, stages, metrics, versions, rollouts, approvals, undos };
    },
  }),
  resource('/datasets', {
    summary: 'Datasets, newest first.',
    answers: 'page',
    params: {},
    query: {
      name: z.string().min(1).max(200).optional(),
      kind: z.string().min(1).max(40).optional().describe('What made it: ingest, split, clean, golden, …'),
      owner: z.string().min(1).max(200).optional(),
      limit,
      after: afterNumber,
    },
    read: async (store, { name, kind, owner, limit: size, after }, _artifacts, { identity }) =>
      page(
        await store.datasets.list({
          limit: size + 1,
          projects: projectsOf(identity),
          ...(name === undefined ? {} : { name }),
          ...(kind === undefined ? {} : { kind }),
          ...(owner === undefined ? {} : { owner }),
          ...(after === undefined ? {} : { before: after }),
        }),
        size,
        (dataset) => dataset.seq,
      ),
  }),
  resource('/datasets/{dataset}', {
    summary: 'A dataset, with the owner that it has or inherits.',
    answers: 'object',
    params: { dataset },
    query: {},
    read: async (store, { dataset: text }) => {
      const found = await store.datasets.find(text);
      return { ...found, owner: await store.datasets.owner(found.id) };
    },
  }),
  resource('/datasets/{dataset}/lineage', {
    summary: 'What a dataset was made from, what was made of it, and the model versions that were trained on that.',
    answers: 'object',
    params: { dataset },
    query: {},
    read: async (store, { dataset: text }) => store.datasets.lineage((await store.datasets.find(text)).id),
  }),
  resource('/datasets/{dataset}/diff', {
    summary: 'How another dataset differs from this one: columns, volume, and distributions where both have a profile.',
    answers: 'object',
    params: { dataset },
    query: { to: dataset },
    read: async (store, { dataset: text, to }, artifacts) => {
      const [from, other] = await Promise.all([store.datasets.find(text), store.datasets.find(to)]);
      const [before, after] = await Promise.all([from, other].map(async (record) => ({ ...record, profile: await profileOf(record, artifacts) })));
      return before === undefined || after === undefined ? null : { from: from.id, to: other.id, ...compareDatasets(before, after) };
    },
  }),
  resource('/features', {
    summary: 'Feature views by name, the newest version of each, with its online values and the models that use it.',
    answers: 'page',
    params: {},
    query: { limit, after: afterName },
    read: async (store, { limit: size, after }) => {
      const found = await store.featureViews.list({ limit: size + 1, ...(after === undefined ? {} : { after }) });
      return page(
        found.map((view) => withFreshness(view, Date.now())),
        size,
        (view) => view.name,
      );
    },
  }),
  resource('/features/{view}', {
    summary: 'All versions of a feature view, the newest first.',
    answers: 'object',
    params: { view: NameSchema },
    query: {},
    read: async (store, { view }) => {
      const versions = (await store.featureViews.versions(view)).map((version) => withFreshness(version, Date.now()));
      return { name: view, versions };
    },
  }),
  resource('/models', {
    summary: 'Models by name, each with its aliases.',
    answers: 'page',
    params: {},
    query: { limit, after: afterName },
    read: async (store, { limit: size, after }, _artifacts, { identity }) => {
      const of = { limit: size + 1, projects: projectsOf(identity) };
      const models = page(await store.models.list({ ...of, ...(after === undefined ? {} : { after }) }), size, (model) => model.name);
      const items = await Promise.all(models.items.map(async (model) => ({ ...model, aliases: await store.models.aliases(model.name) })));
      return { ...models, items };
    },
  }),
  resource('/models/{model}/versions', {
    summary: 'Versions of a model, newest first.',
    answers: 'page',
    params: { model: NameSchema },
    query: { status: z.enum(VERSION_STATUSES).optional(), limit, after: afterNumber },
    read: async (store, { model, status, limit: size, after }) => {
      if ((await store.models.find(model)) === null) throw new MillraceError('NOT_FOUND', `There is no model ${model}.`);
      return page(
        await store.models.versions({ model, limit: size + 1, ...(status === undefined ? {} : { status }), ...(after === undefined ? {} : { before: after }) }),
        size,
        (version) => version.version,
      );
    },
  }),
  resource('/models/{model}/versions/{version}/card', {
    summary: 'The model card of a version, by its number or an alias: what is known of it since it was registered.',
    answers: 'object',
    params: { model: NameSchema, version: z.string().min(1).max(300).describe('A number or an alias.') },
    query: {},
    read: async (store, { model, version: name }, artifacts) => {
      const { version, card } = await store.models.versionNamed(model, name);
      if (card === null || artifacts === undefined) throw new MillraceError('NOT_FOUND', `Version ${version} of ${model} has no model card.`);
      return artifacts.getJson(card);
    },
  }),
  resource('/endpoints', {
    summary: 'Endpoints by name, each with its route.',
    answers: 'page',
    params: {},
    query: { limit, after: afterName },
    read: async (store, { limit: size, after }, _artifacts, { identity }) => {
      const of = { limit: size + 1, projects: projectsOf(identity) };
      const found = page(await store.endpoints.list({ ...of, ...(after === undefined ? {} : { after }) }), size, (endpoint) => endpoint.name);
      const routes = new Map((await store.endpoints.listRoutes()).map((route) => [route.endpoint, route]));
      return { ...found, items: found.items.map((endpoint) => ({ ...endpoint, route: routes.get(endpoint.name) ?? null })) };
    },
  }),
  resource('/endpoints/{endpoint}', {
    summary: 'An endpoint with its route, its last rollouts and route changes, and the last windows of its monitor.',
    answers: 'object',
    params: { endpoint: NameSchema },
    query: {},
    read: async (store, { endpoint }) => {
      const found = await store.endpoints.find(endpoint);
      if (found === null) throw new MillraceError('ENDPOINT_NOT_FOUND', `There is no endpoint ${endpoint}.`);
      const [route, rollouts, history, monitor, windows] = await Promise.all([
        store.endpoints.route(endpoint),
        store.rollouts.list({ endpoint, limit: 20 }),
        store.endpoints.routeHistory(endpoint, 20),
        store.monitoring.findMonitor(endpoint),
        store.monitoring.listWindows({ endpoint, limit: 20 }),
      ]);
      return { ...found, route, rollouts, history, monitor, windows };
    },
  }),
  resource('/endpoints/{endpoint}/history', {
    summary: 'What an endpoint served, newest first: which versions, at what share, from when to when, why, by whom.',
    answers: 'page',
    params: { endpoint: NameSchema },
    query: { limit, after: afterNumber },
    read: async (store, { endpoint, limit: size, after }) => {
      if ((await store.endpoints.find(endpoint)) === null) throw new MillraceError('ENDPOINT_NOT_FOUND', `There is no endpoint ${endpoint}.`);
      const periods = await store.endpoints.productionHistory(endpoint, { limit: size + 1, ...(after === undefined ? {} : { before: after }) });
      return page(periods, size, (period) => period.epoch);
    },
  }),
  resource('/endpoints/{endpoint}/windows', {
    summary: "Windows of an endpoint's monitor, newest first: drift, quality, outcomes, skew, data quality, what the matter was.",
    answers: 'page',
    params: { endpoint: NameSchema },
    query: { limit, after: z.iso.datetime().optional().describe('`next` of the page before.') },
    read: async (store, { endpoint, limit: size, after }) => {
      if ((await store.endpoints.find(endpoint)) === null) throw new MillraceError('ENDPOINT_NOT_FOUND', `There is no endpoint ${endpoint}.`);
      return page(
        await store.monitoring.listWindows({ endpoint, limit: size + 1, ...(after === undefined ? {} : { before: after }) }),
        size,
        (window) => window.to,
      );
    },
  }),
  resource('/endpoints/{endpoint}/report', {
    summary: 'What became known of an endpoint over time, in at most 240 steps: drift, quality, traffic, latency, data quality, events, findings.',
    answers: 'object',
    params: { endpoint: NameSchema },
    query: {
      from: z.iso.datetime().optional().describe('Default: 30 days before `to`, or when the endpoint was first heard of in that time.'),
      to: z.iso.datetime().optional().describe('Default: now.'),
    },
    read: async (store, { endpoint, from, to }) =>
      store.endpointReports.read({ endpoint, ...(from === undefined ? {} : { from }), ...(to === undefined ? {} : { to }) }),
  }),
  resource('/approvals', {
    summary: 'Gates, the last asked for first, each with the decisions taken at it.',
    answers: 'page',
    params: {},
    query: {
      run: RunIdSchema.optional(),
      status: z.enum(APPROVAL_STATUSES).optional(),
      limit,
      after: z.iso.datetime().optional().describe('`next` of the page before.'),
    },
    read: async (store, { run, status, limit: size, after }, _artifacts, { identity }) =>
      page(
        await store.approvals.list({
          limit: size + 1,
          projects: projectsOf(identity),
          ...(run === undefined ? {} : { runId: run }),
          ...(status === undefined ? {} : { status }),
          ...(after === undefined ? {} : { before: after }),
        }),
        size,
        (gate) => gate.requestedAt,
      ),
  }),
  resource('/retrainings/{pipeline}', {
    summary: 'The ledger of retraining of a pipeline, newest first: each trigger, its fate and why, and the time from trigger to serving.',
    answers: 'page',
    params: { pipeline: NameSchema },
    query: { limit, after: afterNumber },
    read: async (store, { pipeline, limit: size, after }) =>
      page(await store.retraining.list({ pipeline, limit: size + 1, ...(after === undefined ? {} : { before: after }) }), size, (line) => line.id),
  }),
  resource('/retrainings/{pipeline}/{trigger}', {
    summary: 'One trigger of the ledger, by its number, with its evidence and what held it up.',
    answers: 'object',
    params: { pipeline: NameSchema, trigger: z.coerce.number().int().min(1).max(2_147_483_647) },
    query: {},
    read: (store, { pipeline, trigger }) => store.retraining.get(pipeline, trigger),
  }),
  resource('/experiments', {
    summary: 'Requests for experiments, newest first: pipelines that retraining alone does not help, with the evidence and a search that is ready to run.',
    answers: 'page',
    params: {},
    query: {
      pipeline: NameSchema.optional(),
      open: z.enum(['true', 'false']).optional().describe('Only those that nobody has closed.'),
      limit,
      after: afterNumber,
    },
    read: async (store, { pipeline, open, limit: size, after }) =>
      page(
        await store.retraining.experiments({
          limit: size + 1,
          open: open === 'true',
          ...(pipeline === undefined ? {} : { pipeline }),
          ...(after === undefined ? {} : { before: after }),
        }),
        size,
        (request) => request.id,
      ),
  }),
  ...REGISTRY_RESOURCES,
  ...LINEAGE_RESOURCES,
  ...LABEL_RESOURCES,
  ...ALERT_RESOURCES,
  ...GOVERNANCE_RESOURCES,
];
