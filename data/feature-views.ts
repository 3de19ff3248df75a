/**
 * Point-in-time joins: labels with the features of their entities as they were at each label's instant.
 *
 * Invariants:
 * 1. No value is of a later instant than the label's event time; one of the same instant is known at it, and counts.
 * 2. Rows and their order are those of the labels; a label without a match has nulls.
 * 3. The same labels, views and snapshots give the same bytes, with any number of threads.
 */
import type { Column } from '../contracts/columns.ts';
import { MillraceError, type Problem } from '../contracts/errors.ts';
import type { FeatureLookup } from '../contracts/feature-lookup.ts';
import type { FeatureView, ViewFeature } from '../contracts/feature-views.ts';
import type { DatasetManifest } from '../contracts/references.ts';
import type { RowTransform } from '../contracts/row-transforms.ts';
import type { ArtifactPort } from './artifact-port.ts';
import { columnsMissing, datasetFiles, type StoredDataset, storeManifest, writeSnapshot } from './dataset.ts';
import { type DuckDbOptions, withDuckDb } from './duckdb.ts';
import { featureLookup } from './feature-definition.ts';
import { sensitiveAfter } from './personal-data.ts';
import { findFeatures, type FoundFeatures, type SoughtFeature } from './point-in-time-join.ts';
import { numberedRelation, ROW_NUMBER } from './row-rank.ts';
import { bindHashKey, transformedRelation } from './row-transforms-sql.ts';
import { identifier } from './sql-text.ts';

export interface JoinedView {
  readonly view: FeatureView;
  readonly manifest: DatasetManifest;
  /** The manifest's own SHA-256. */
  readonly id: string;
}

export interface TrainingSetOptions extends DuckDbOptions {
  readonly labels: DatasetManifest;
  /** The labels' manifest's own SHA-256. */
  readonly labelsId: string;
  readonly eventTime: string;
  readonly views: readonly JoinedView[];
  /** Features to add, in this order. Default: all of all views. */
  readonly features?: readonly string[];
  readonly artifacts: ArtifactPort;
  /** Needed where an expression hashes. */
  readonly hashKey?: string;
}

/** Column of a compiled view: the instant of its row. */
export const AT = '__millrace_at';

/**
 * Joins features to labels point-in-time and stores the result.
 * @throws MillraceError COLUMN_MISSING, COLUMN_TYPE or INVALID_PARAMETERS with every problem of one kind
 */
export async function joinTrainingSet(options: TrainingSetOptions): Promise<StoredDataset> {
  const { labels, labelsId, eventTime, views, artifacts, hashKey } = options;
  const chosen = chooseFeatures(options);
  const compiled: CompiledView[] = [];
  for (const view of views) {
    const features = Object.entries(view.view.features).filter(([name]) => chosen.includes(name));
    if (features.length > 0) compiled.push(await compileView(view, features, options));
  }
  const added = chosen.flatMap((name) => compiled.flatMap(({ columns }) => columns.filter((column) => column.name === name)));
  const labelFiles = await datasetFiles(artifacts, labels);
  const labelNames = labels.columns.map(({ name }) => name);
  const labelRelation = numberedRelation(labelFiles, labelNames);
  return withDuckDb(options, async (db) => {
    if (hashKey !== undefined) await bindHashKey(db, hashKey);
    const found: FoundFeatures[] = [];
    for (const [at, { view, relation, sought }] of compiled.entries()) {
      const history = { relation, eventTime: AT, entity: view.entity, ttlMs: view.ttlMs, features: sought };
      found.push(await findFeatures(db, { relation: labelRelation, eventTime }, history, `view${String(at)}`));
    }
    const sqlOf = new Map(found.flatMap(({ columns }) => [...columns]));
    const list = [
      ...labelNames.map((name) => `l.${identifier(name)} AS ${identifier(name)}`),
      ...added.map(({ name }) => `${sqlOf.get(name) ?? 'NULL'} AS ${identifier(name)}`),
    ];
    const sql = `SELECT ${list.join(', ')} FROM ${labelRelation} l${found.map(({ joins }) => joins).join('')} ORDER BY l.${ROW_NUMBER}`;
    const written = await writeSnapshot(db, artifacts, sql, {
      filtered: true,
      whenEmpty: () => new MillraceError('SOURCE_EMPTY', `The dataset ${labels.name} has no rows.`),
    });
    return storeManifest(artifacts, {
      ...labels,
      rows: written.rows,
      columns: [...labels.columns, ...added],
      files: [written],
      rawColumns: [...labels.rawColumns, ...added],
      profile: null,
      reserved: labels.reserved ?? views.find(({ manifest }) => manifest.reserved !== null)?.manifest.reserved ?? null,
      parents: [labelsId, ...new Set(views.map(({ id }) => id))].filter((id, at, all) => all.indexOf(id) === at),
      sensitive: { ...labels.sensitive, ...Object.fromEntries(compiled.flatMap(({ sensitive }) => Object.entries(sensitive))) },
      unserved: { ...labels.unserved, ...Object.fromEntries(compiled.flatMap(({ unserved }) => Object.entries(unserved))) },
      lookups: [...labels.lookups, ...compiled.map(({ lookup }) => lookup)],
    });
  });
}

/** The features asked for, each known, of one view only, and not a column of the labels. */
function chooseFeatures({ labels, views, features, eventTime }: TrainingSetOptions): readonly string[] {
  const all = views.flatMap(({ view }) => Object.keys(view.features));
  const chosen = features ?? all;
  const problems: Problem[] = [];
  const taken = new Set([...labels.columns, ...labels.rawColumns].map(({ name }) => name));
  for (const [at, name] of chosen.entries()) {
    const path = `features.${String(at)}`;
    if (!all.includes(name)) problems.push({ path, message: `No view has the feature ${name}.`, found: name, fix: `Use one of: ${all.join(', ')}.` });
    if (all.indexOf(name) !== all.lastIndexOf(name) || chosen.indexOf(name) !== at)
      problems.push({ path, message: `The feature ${name} is there twice.`, found: name, fix: 'Give features of different views different names.' });
    if (taken.has(name)) problems.push({ path, message: `The labels have a column ${name} already.`, found: name, fix: 'Rename the feature.' });
  }
  if (problems.length > 0) throw new MillraceError('INVALID_PARAMETERS', 'The features cannot be joined.', { problems });
  const missing = [eventTime, ...views.flatMap(({ view }) => view.entity)].filter((name) => !labels.columns.some((column) => column.name === name));
  if (missing.length > 0) throw columnsMissing(labels.columns, [...new Set(missing)]);
  requireInstant(labels, eventTime, 'eventTime');
  return chosen;
}

function requireInstant({ name, columns }: DatasetManifest, column: string, path: string): void {
  const type = columns.find((candidate) => candidate.name === column)?.type;
  if (type === 'timestamp' || type === 'date') return;
  const message = `The event time ${column} of ${name} is no timestamp or date.`;
  throw new MillraceError('COLUMN_TYPE', message, {
    problems: [{ path, column, message, found: type ?? 'nothing', fix: 'Parse it with toTimestamp in a clean step.' }],
  });
}

export interface CompiledView {
  readonly view: FeatureView;
  /** A sub-select: the entity's columns, `AT`, `ROW_NUMBER`, and one column `__millrace_v0…` for each feature's operand. */
  readonly relation: string;
  readonly features: readonly (readonly [string, ViewFeature])[];
  readonly columns: readonly Column[];
  /** The features with their operands; equal operands are one column. */
  readonly sought: readonly SoughtFeature[];
  readonly sensitive: DatasetManifest['sensitive'];
  readonly unserved: DatasetManifest['unserved'];
  readonly lookup: FeatureLookup;
}

/**
 * Checks a view against its snapshot, and against the labels where there are any, and says where its rows lie.
 * @throws MillraceError COLUMN_MISSING or COLUMN_TYPE with every problem of one kind
 */
export async function compileView(
  { view, manifest }: JoinedView,
  features: readonly (readonly [string, ViewFeature])[],
  { artifacts, labels = manifest }: Pick<TrainingSetOptions, 'artifacts'> & Partial<Pick<TrainingSetOptions, 'labels'>>,
): Promise<CompiledView> {
  const missing = [view.eventTime, ...view.entity].filter((name) => !manifest.columns.some((column) => column.name === name));
  if (missing.length > 0) throw columnsMissing(manifest.columns, missing);
  requireInstant(manifest, view.eventTime, `views.${view.name}.eventTime`);
  const problems: Problem[] = [];
  for (const entity of view.entity) {
    const [here, there] = [manifest, labels].map(({ columns }) => columns.find(({ name }) => name === entity)?.type);
    if (here !== there)
      problems.push({
        path: `views.${view.name}.entity`,
        column: entity,
        message: `${entity} is ${here ?? 'nothing'} in ${manifest.name} and ${there ?? 'nothing'} in ${labels.name}.`,
        fix: 'Bring both to one type in a clean step.',
      });
  }
  const files = await datasetFiles(artifacts, manifest);
  const operand = (index: number): string => `__millrace_v${String(index)}`;
  const transforms = features.flatMap(([, feature], index): RowTransform[] =>
    feature.of === null ? [] : [{ kind: 'set', column: operand(index), to: feature.of }],
  );
  const { sql, columns } = transformedRelation(
    numberedRelation(
      files,
      manifest.columns.map(({ name }) => name),
    ),
    transforms,
    [...manifest.columns, { name: ROW_NUMBER, type: 'integer' }],
  );
  const typed = features.map(([name, feature], index): Column => {
    const type = columns.find((column) => column.name === operand(index))?.type;
    if (feature.kind === 'aggregate') {
      if (feature.fn !== 'count' && type === undefined)
        problems.push({ path: `views.${view.name}.features.${name}`, message: `${feature.fn} needs a column or an expression.`, fix: 'Name one.' });
      if ((feature.fn === 'sum' || feature.fn === 'mean') && type !== 'number' && type !== 'integer')
        problems.push({
          path: `views.${view.name}.features.${name}`,
          message: `${feature.fn} needs numbers.`,
          found: type ?? 'nothing',
          fix: 'Use toNumber, or count.',
        });
    }
    return { name, type: resultType(feature, type ?? 'integer') };
  });
  if (problems.length > 0) throw new MillraceError('COLUMN_TYPE', `The view ${view.name} does not fit the data.`, { problems });
  const keep = [
    ...view.entity.map(identifier),
    `CAST(${identifier(view.eventTime)} AS TIMESTAMP) AS ${AT}`,
    ROW_NUMBER,
    ...features.flatMap(([, { of }], index) => (of === null ? [] : [operand(index)])),
  ];
  const texts = features.map(([, { of }]) => JSON.stringify(of));
  const sought = features.map(([, feature], index): SoughtFeature => {
    const name = operand(texts.indexOf(texts[index] ?? ''));
    return { column: typed[index] ?? { name, type: 'number' }, feature, operand: columns.find((column) => column.name === name) ?? null };
  });
  const personal = sensitiveAfter(manifest.sensitive, transforms);
  const inherited = <Value>(of: Readonly<Record<string, Value>>): Record<string, Value> =>
    Object.fromEntries(
      features.flatMap(([name, feature]) => columnsOf(feature).flatMap((column) => (of[column] === undefined ? [] : [[name, of[column]] as const]))),
    );
  const lookup = featureLookup(
    view,
    manifest,
    features.map(([name]) => name),
    labels,
  );
  return {
    view,
    relation: `(SELECT ${keep.join(', ')} FROM ${sql})`,
    features,
    columns: typed,
    sought,
    sensitive: Object.fromEntries(
      features.flatMap(([name], index) => {
        const rule = personal[operand(index)];
        return rule === undefined ? [] : [[name, rule] as const];
      }),
    ),
    // What a request looks up is what was materialised of the same snapshots, however it was made.
    unserved: lookup.key === null ? inherited(manifest.unserved) : {},
    lookup,
  };
}

/** Columns that a feature is made from. */
function columnsOf({ of }: ViewFeature): readonly string[] {
  const names: string[] = [];
  const walk = (expression: NonNullable<ViewFeature['of']>): void => {
    if (expression.op === 'column') names.push(expression.name);
    else if (expression.op === 'call') expression.args.forEach(walk);
    else if (expression.op === 'hash') walk(expression.value);
  };
  if (of !== null) walk(of);
  return names;
}

function resultType(feature: ViewFeature, type: Column['type']): Column['type'] {
  if (feature.kind === 'value') return type;
  if (feature.fn === 'count') return 'integer';
  return feature.fn === 'sum' || feature.fn === 'mean' ? 'number' : type;
}
