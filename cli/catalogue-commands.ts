import { MillraceError } from '../contracts/errors.ts';
import { coversName } from '../contracts/identity.ts';
import type { VersionDescription } from '../store/version-description.ts';
import { withClients } from './clients.ts';
import { addCommand, addGroup, invocationOf, print, type Program } from './command.ts';
import { parseCount } from './duration.ts';
import { nearestName } from './parameters.ts';
import { type KnownPipeline, newestBuild, requirePipeline } from './pipelines.ts';
import { renderFields, renderTable, showMetrics } from './table.ts';

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
      const projects = (await clients.projects()) ?? ['*'];
      const found = (build?.pipelines ?? []).filter(({ name }) => coversName({ projects }, name));
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

function renderVersion(of: VersionDescription): string {
  const { signature, sample, code } = of;
  const [request] = sample?.rows ?? [];
  const [answer] = sample?.output ?? [];
  return renderFields([
    ['version', `${of.model} ${String(of.version)}`],
    ['status', of.statusReason === null ? of.status : `${of.status}: ${of.statusReason}`],
    ['aliases', of.aliases.join(', ')],
    ['stage', of.stage],
    ['owner', of.owner],
    ['description', of.description],
    [
      'tags',
      Object.entries(of.tags)
        .map((tag) => tag.join(': '))
        .join(', '),
    ],
    ['made at', of.createdAt],
    ['source', of.source],
    ['predictor', of.predictor],
    ['ONNX file', of.onnx === null ? null : `${of.onnx}, ${String(of.onnxSizeBytes)} bytes`],
    ['trainer', of.trainer === null ? null : `${of.trainer.name} ${JSON.stringify(of.trainer.parameters)}`],
    ['task', signature === null ? null : JSON.stringify(signature.task)],
    ['columns', signature === null ? null : signature.columns.map(({ name, type }) => `${name} (${type})`).join(', ')],
    ['a request', request === undefined ? null : JSON.stringify(request)],
    ['its answer', answer === undefined ? null : JSON.stringify(answer)],
    ['metrics', showMetrics(of.metrics)],
    ['training profile', of.trainingProfile],
    ['evaluation', of.evaluation],
    ['card', of.card === null ? null : `millrace models card ${of.model}@${String(of.version)}`],
    ['run', code === null ? null : `${code.run} of ${code.pipeline}`],
    [
      'code',
      code === null || (code.commit === null && code.build === null)
        ? null
        : [code.commit, code.clean === false ? 'with changes' : '', code.build === null ? '' : `build ${code.build}`]
            .filter((part) => part !== null && part !== '')
            .join(', '),
    ],
    [
      'environment',
      of.environment === null
        ? null
        : Object.entries(of.environment)
            .map((part) => part.join(' '))
            .join(', '),
    ],
  ]);
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
          (await store.models.list({ limit, projects: await clients.projects() })).map(async (model) => ({
            ...model,
            aliases: await store.models.aliases(model.name),
          })),
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
  addCommand(program, models, 'show <model>', 'a model: its versions with their metrics, and its aliases; or all that one version holds: MODEL@3, MODEL@ALIAS')
    .option(...LIMIT)
    .action(async (text: string, options: Common & { limit: string }) => {
      const limit = parseCount('--limit', options.limit);
      const invocation = invocationOf(program, options);
      const [, name = text, versionName] = /^(.*)@([^@]*)$/.exec(text) ?? [];
      await withClients(async (clients) => {
        const store = await clients.store();
        if (versionName !== undefined) {
          const [{ createArtifacts }, { describeVersion }] = await Promise.all([import('../store/artifacts.ts'), import('../store/version-description.ts')]);
          const found = await describeVersion(store, createArtifacts({ root: clients.config.artifacts.folder }), name, versionName);
          print(invocation, found, () => renderVersion(found));
          return;
        }
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
