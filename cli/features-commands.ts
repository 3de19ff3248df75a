import type { FeatureView, ViewFeature } from '../contracts/feature-views.ts';
import type { Expression } from '../contracts/row-transforms.ts';
import type { FreshView } from '../store/feature-views.ts';
import { withClients } from './clients.ts';
import { addCommand, addGroup, invocationOf, print, type Program } from './command.ts';
import { parseCount } from './duration.ts';
import { renderFields, renderTable, showDuration } from './table.ts';

interface Common {
  readonly json?: boolean;
}

const SHORT = 12;
const count = (value: number): string => value.toLocaleString('en-US');

/** `multiply(amount, 100)`: as the author wrote it, without `col` and `call`. */
export function expressionInWords(expression: Expression): string {
  switch (expression.op) {
    case 'column':
      return expression.name;
    case 'literal':
      return JSON.stringify(expression.value);
    case 'hash':
      return `hashed(${expressionInWords(expression.value)})`;
    case 'call':
      return `${expression.fn}(${expression.args.map(expressionInWords).join(', ')})`;
  }
}

/** `mean of amount over 7 d 0 h`: what a feature is, for people. */
export function featureInWords(feature: ViewFeature): string {
  if (feature.kind === 'value') return feature.of.op === 'column' ? `last ${feature.of.name}` : `of the last row: ${expressionInWords(feature.of)}`;
  const what = feature.of === null ? 'rows' : `${feature.fn} of ${expressionInWords(feature.of)}`;
  return `${what} over ${showDuration(feature.windowMs).replace(/ (?:0 h|00 min|00 s)$/, '')}`;
}

const age = ({ freshnessSeconds }: FreshView): string => (freshnessSeconds === null ? 'not materialized' : showDuration(freshnessSeconds * 1_000));
const models = (view: FreshView): string => view.models.map(({ model, version }) => `${model} ${String(version)}`).join(', ');
/** By name: the store keeps no order of keys. */
const featuresOf = ({ features }: FeatureView): readonly (readonly [string, ViewFeature])[] => Object.entries(features).sort(([a], [b]) => (a < b ? -1 : 1));

function renderView(view: FreshView): string {
  const { online } = view;
  return [
    renderFields([
      ['view', `${view.name} ${String(view.version)}`],
      ['definition', view.definition],
      ['owner', view.owner],
      ['description', view.view.description],
      ['entity', view.view.entity.join(', ')],
      ['event time', view.view.eventTime],
      ['time to live', view.view.ttlMs === null ? null : showDuration(view.view.ttlMs)],
      ['values as of', online === null ? 'none: materialize(view, { from }) puts them into service' : online.asOf],
      ['freshness', online === null ? null : `${age(view)} old`],
      ['entities', online === null ? null : count(online.entities)],
      ['snapshot', online?.snapshot],
      ['made by', online === null ? null : `run ${online.runId}, stage ${online.stage}`],
      ['models', models(view)],
    ]),
    '\n',
    renderTable(
      ['feature', 'what it is'],
      featuresOf(view.view).map(([name, feature]) => [name, featureInWords(feature)]),
    ),
  ].join('');
}

/** `millrace features`: the views that training sets and the online store are made of. */
export function addFeaturesCommands(program: Program): void {
  const features = addGroup(program, 'features', 'feature views and their online values');
  addCommand(program, features, 'list', 'the newest version of each feature view')
    .option('--limit <count>', 'at most so many', '50')
    .action(async (options: Common & { limit: string }) => {
      const limit = parseCount('--limit', options.limit);
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const { withFreshness } = await import('../store/feature-views.ts');
        const found = (await (await clients.store()).featureViews.list({ limit })).map((view) => withFreshness(view, Date.now()));
        print(invocation, found, () =>
          found.length === 0
            ? 'There are no feature views yet.\n'
            : renderTable(
                ['view', 'version', 'owner', 'freshness', 'entities', 'snapshot', 'features', 'models'],
                found.map((view) => [
                  view.name,
                  String(view.version),
                  view.owner ?? '',
                  age(view),
                  view.online === null ? '' : count(view.online.entities),
                  view.online?.snapshot.slice(0, SHORT) ?? '',
                  featuresOf(view.view)
                    .map(([name]) => name)
                    .join(', '),
                  models(view),
                ]),
              ),
        );
      });
    });
  addCommand(program, features, 'show <view>', 'a feature view: its features, its values, the models that use it; older versions too').action(
    async (name: string, options: Common) => {
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const { withFreshness } = await import('../store/feature-views.ts');
        const found = (await (await clients.store()).featureViews.versions(name)).map((view) => withFreshness(view, Date.now()));
        const [newest] = found;
        print(invocation, { ...newest, versions: found }, () =>
          [
            newest === undefined ? '' : renderView(newest),
            found.length < 2
              ? ''
              : `\n${renderTable(
                  ['version', 'defined at', 'freshness', 'entities', 'models'],
                  found.map((view) => [String(view.version), view.createdAt, age(view), view.online === null ? '' : count(view.online.entities), models(view)]),
                )}`,
          ].join(''),
        );
      });
    },
  );
}
