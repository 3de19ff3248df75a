import { MillraceError } from '../contracts/errors.ts';
import type { DatasetRecord } from '../store/datasets.ts';
import type { Store } from '../store/store.ts';
import { withClients } from './clients.ts';
import { addCommand, addGroup, invocationOf, print, type Program } from './command.ts';
import { parseCount } from './duration.ts';
import { nearestName } from './parameters.ts';
import { type KnownPipeline, newestBuild, requirePipeline } from './pipelines.ts';
import { renderFields, renderTable, showBytes, showMetrics } from './table.ts';

interface Common {
  readonly json?: boolean;
}

const LIMIT = ['--limit <count>', 'at most so many', '20'] as const;

function describeParameters(pipeline: KnownPipeline): string {
  const properties = Object.entries(pipeline.parameters?.properties ?? {});
  if (properties.length === 0) return 'It has no parameters.\n';
  const required = new Set(pipeline.parameters?.required ?? []);
  const typeOf = (field: (typeof properties)[number][1]): string =>
    (Array.isArray(field.type) ? field.type.join(' or ') : field.type) ?? (Array.isArray(field['enum']) ? field['enum'].join(' | ') : 'any');
  return renderTable(
    ['parameter', 'type', 'default', ''],
    properties.map(([name, field]) => [
      name,
      typeOf(field),
      field.default === undefined ? (required.has(name) ? '(needed)' : '') : JSON.stringify(field.default),
      field.description ?? '',
    ]),
  );
}

export function addPipelinesCommands(program: Program): void {
  const pipelines = addGroup(program, 'pipelines', 'the pipelines that can be started');
  addCommand(program, pipelines, 'list', 'the pipelines of the newest build').action(async (options: Common) => {
    const invocation = invocationOf(program, options);
    await withClients(async (clients) => {
      const build = await newestBuild(await clients.store());
      const found = build?.pipelines ?? [];
      print(invocation, found, () =>
        found.length === 0
          ? 'There are no pipelines yet: write one in the pipelines folder, and start the stack with `millrace up`.\n'
          : renderTable(
              ['pipeline', 'folder', 'purpose', 'parameters'],
              found.map((p) => [
                p.name,
                p.folder,
                typeof p.purpose?.['task'] === 'string' ? p.purpose['task'] : '',
                Object.keys(p.parameters?.properties ?? {}).join(', '),
              ]),
            ),
      );
    });
  });
  addCommand(program, pipelines, 'show <pipeline>', 'a pipeline: its parameters and their defaults').action(async (name: string, options: Common) => {
    const invocation = invocationOf(program, options);
    await withClients(async (clients) => {
      const pipeline = await requirePipeline(await clients.store(), name);
      const purpose = Object.entries(pipeline.purpose ?? {}).map(([key, value]) => [key, typeof value === 'string' ? value : JSON.stringify(value)] as const);
      print(invocation, pipeline, () =>
        [
          renderFields([
            ['pipeline', pipeline.name],
            ['folder', pipeline.folder],
            ['build', pipeline.buildId],
            ['steps', Object.keys(pipeline.steps).join(', ')],
            ...purpose,
          ]),
          '\n',
          describeParameters(pipeline),
          `\nStart it: millrace run ${name}\n`,
        ].join(''),
      );
    });
  });
}

/** A dataset by its hash, the first six or more digits of it, or its name (then the newest of that name). */
async function findDataset(store: Store, text: string): Promise<DatasetRecord> {
  if (/^[0-9a-f]{64}$/.test(text)) return store.datasets.get(text);
  if (/^[0-9a-f]{6,63}$/.test(text)) {
    const fitting = (await store.datasets.list({ limit: 1_000 })).filter((d) => d.id.startsWith(text));
    const [only, another] = fitting;
    if (only !== undefined && another === undefined) return only;
    if (another !== undefined) throw new MillraceError('INVALID_REQUEST', `${text} fits ${fitting.length} datasets.`, { fix: 'Give more digits.' });
  }
  const [newest] = await store.datasets.list({ name: text, limit: 1 });
  if (newest !== undefined) return newest;
  throw new MillraceError('NOT_FOUND', `There is no dataset ${text}.`, {
    fix: 'Give a hash, six or more digits of its beginning, or a name; see `millrace datasets list`.',
  });
}

export function addDatasetsCommands(program: Program): void {
  const datasets = addGroup(program, 'datasets', 'the snapshots that runs have made');
  addCommand(program, datasets, 'list', 'the datasets, newest first')
    .option('--name <name>', 'of this name only')
    .option(...LIMIT)
    .action(async (options: Common & { name?: string; limit: string }) => {
      const limit = parseCount('--limit', options.limit);
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const found = await (await clients.store()).datasets.list({ limit, ...(options.name === undefined ? {} : { name: options.name }) });
        print(invocation, found, () =>
          found.length === 0
            ? 'There are no datasets yet.\n'
            : renderTable(
                ['dataset', 'name', 'rows', 'columns', 'size', 'made by', 'made at'],
                found.map((d) => [
                  d.id.slice(0, 16),
                  d.name,
                  String(d.rows),
                  String(d.columns.length),
                  showBytes(d.sizeBytes),
                  `${d.runId?.slice(0, 12) ?? ''} ${d.stage ?? ''}`,
                  d.createdAt,
                ]),
              ),
        );
      });
    });
  addCommand(program, datasets, 'show <dataset>', 'a dataset: its columns and where it came from').action(async (text: string, options: Common) => {
    const invocation = invocationOf(program, options);
    await withClients(async (clients) => {
      const dataset = await findDataset(await clients.store(), text);
      print(invocation, dataset, () =>
        [
          renderFields([
            ['dataset', dataset.id],
            ['name', dataset.name],
            ['rows', dataset.rows],
            ['size', showBytes(dataset.sizeBytes)],
            ['source', dataset.source === null ? null : JSON.stringify(dataset.source)],
            ['made by', dataset.runId === null ? null : `run ${dataset.runId}, stage ${dataset.stage ?? ''}`],
            ['made at', dataset.createdAt],
          ]),
          '\n',
          renderTable(
            ['column', 'type'],
            dataset.columns.map((c) => [c.name, c.type]),
          ),
        ].join(''),
      );
    });
  });
}

export function addModelsCommands(program: Program): void {
  const models = addGroup(program, 'models', 'the registry');
  addCommand(program, models, 'list', 'the models, with their champion')
    .option(...LIMIT)
    .action(async (options: Common & { limit: string }) => {
      const limit = parseCount('--limit', options.limit);
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const store = await clients.store();
        const found = await Promise.all(
          (await store.models.list({ limit })).map(async (model) => ({ ...model, aliases: await store.models.aliases(model.name) })),
        );
        const at = (model: (typeof found)[number], alias: string): string => String(model.aliases.find((a) => a.alias === alias)?.version ?? '');
        print(invocation, found, () =>
          found.length === 0
            ? 'There are no models yet.\n'
            : renderTable(
                ['model', 'versions', 'champion', 'candidate', 'owner', 'made at'],
                found.map((m) => [m.name, String(m.lastVersion), at(m, 'champion'), at(m, 'candidate'), m.owner ?? '', m.createdAt]),
              ),
        );
      });
    });
  addCommand(program, models, 'show <model>', 'a model: its versions with their metrics, and its aliases')
    .option(...LIMIT)
    .action(async (name: string, options: Common & { limit: string }) => {
      const limit = parseCount('--limit', options.limit);
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const store = await clients.store();
        const model = await store.models.find(name);
        if (model === null) {
          const near = nearestName(
            name,
            (await store.models.list({ limit: 1_000 })).map((m) => m.name),
          );
          throw new MillraceError('NOT_FOUND', `There is no model ${name}.${near === undefined ? '' : ` Is ${near} meant?`}`, {
            fix: '`millrace models list` shows the models.',
          });
        }
        const [versions, aliases] = await Promise.all([store.models.versions({ model: name, limit }), store.models.aliases(name)]);
        const aliasesOf = (version: number): string =>
          aliases
            .filter((a) => a.version === version)
            .map((a) => a.alias)
            .join(', ');
        print(invocation, { ...model, aliases, versions }, () =>
          [
            renderFields([
              ['model', model.name],
              ['owner', model.owner],
              ['description', model.description],
              ['purpose', model.purpose === null ? null : JSON.stringify(model.purpose)],
            ]),
            '\n',
            renderTable(
              ['version', 'status', 'alias', 'metrics', 'run', 'made at', 'why'],
              versions.map((v) => [
                String(v.version),
                v.status,
                aliasesOf(v.version),
                showMetrics(v.metrics),
                v.runId?.slice(0, 12) ?? '',
                v.createdAt,
                v.statusReason ?? '',
              ]),
            ),
          ].join(''),
        );
      });
    });
}
