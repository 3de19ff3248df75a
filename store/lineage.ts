import { createHash } from 'node:crypto';
import type pg from 'pg';
import { MillraceError } from '../contracts/errors.ts';
import type { AnsweredRequest, LineageDirection, LineageGraph, LineageRun, LineageSubject } from '../contracts/lineage.ts';
import type { Database } from './database.ts';
import { HASHES } from './live-roots.ts';
import { createLineageDrawing, grouped, type LineageDrawing } from './lineage-drawing.ts';
import { fitsSource, shownPaths } from './source-paths.ts';

/**
 * Lineage: what the records of runs, datasets, versions and routes say of how one came of another.
 *
 * Invariants:
 * 1. Stages are tied by what they hand on: a hash that one gives and another one reads. Nothing is written for it, so that
 *    lineage is there for every run, and cannot differ from the records.
 * 2. A walk asks by index only (`stages_reads`, `datasets_parents`, `versions_predictor`), one question a step, and ends at
 *    `MOST_NODES`; what was cut off is said.
 * 3. Downwards it ends at endpoints: what is trained on an endpoint's predictions begins a lineage of its own.
 */
const MOST_NODES = 1_000;
const MOST_STEPS = 100;
/** Stages that are looked at for one step down. */
const MOST_STAGES = 2_000;
/** Hashes that a step down asks for at once. */
const ASKED_AT_ONCE = 500;
/** Paths of one source that are shown one by one. */
const MOST_PATHS = 20;
/** Hashes among the values of a stage's input; the index `stages_reads` is over this very expression. */
const READS = `jsonb_path_query_array(input, 'strict $.** ? (@ like_regex "^[0-9a-f]{64}$")')`;

interface StageRow {
  readonly runId: string;
  readonly name: string;
  readonly kind: string;
  readonly ordinal: number;
  readonly status: string;
  readonly at: Date | null;
  readonly device: string | null;
  readonly cachedFrom: { readonly runId: string; readonly stage: string } | null;
  readonly input: Readonly<Record<string, unknown>> | null;
  readonly output: { readonly value?: unknown; readonly summary?: string } | null;
  readonly parts: Readonly<Record<string, unknown>> | null;
}
interface Stage extends Omit<StageRow, 'parts'> {
  readonly id: string;
  readonly code: string | null;
  /** Of an ingest: the hash of what it read. */
  readonly content: string | null;
  readonly reads: ReadonlySet<string>;
  readonly gives: ReadonlySet<string>;
}
interface DatasetRow {
  readonly id: string;
  readonly name: string;
  readonly kind: string | null;
  readonly rows: number;
  readonly sizeBytes: number;
  readonly source: Readonly<Record<string, unknown>> | null;
  readonly parents: readonly string[];
  readonly runId: string | null;
  readonly stage: string | null;
  readonly at: Date;
  readonly collectedAt: Date | null;
}
interface VersionRow {
  readonly model: string;
  readonly version: number;
  /** Null for what an MLflow client registered. */
  readonly predictor: string | null;
  readonly status: string;
  readonly metrics: Readonly<Record<string, number>>;
  readonly runId: string | null;
  readonly stage: string | null;
  readonly at: Date;
  readonly aliases: readonly string[] | null;
}

const STAGE = `run_id as "runId", name, kind, ordinal, status, coalesce(ended_at, started_at) as at, device, cached_from as "cachedFrom", input, output, fingerprint_parts as parts`;
const DATASET = `id, name, kind, rows::double precision as rows, size_bytes::double precision as "sizeBytes", source, parents, run_id as "runId", stage, created_at as at, collected_at as "collectedAt"`;
const VERSION = `v.model, v.version, v.predictor, v.status, v.metrics, v.run_id as "runId", v.stage, v.created_at as at,
  (select array_agg(a.alias order by a.alias) from aliases a where a.model = v.model and a.version = v.version) as aliases`;
const RUN = `id, pipeline, status, params as parameters, trigger, git_remote as remote, git_commit as commit, git_clean as clean, build_id as build, started_at as "startedAt", ended_at as "endedAt"`;

const hashesIn = (value: unknown): Set<string> => new Set(value === null ? [] : (JSON.stringify(value).match(HASHES) ?? []));
const iso = (at: Date | null): string | null => at?.toISOString() ?? null;

function stageOf({ parts, ...row }: StageRow): Stage {
  const source = parts?.['source'] as { readonly sha256?: string } | undefined;
  return {
    ...row,
    id: `stage:${row.runId}/${row.name}`,
    code: typeof parts?.['code'] === 'string' ? parts['code'] : null,
    content: row.kind === 'ingest' && typeof source?.sha256 === 'string' ? source.sha256 : null,
    reads: hashesIn(row.input),
    gives: hashesIn(row.output),
  };
}

/** Whether a stage was given a registered version, or the predictor that its training goes on from. */
const usesVersion = ({ input }: Stage, predictor: string): boolean =>
  input !== null && (input['from'] === predictor || (input['version'] as { readonly predictor?: unknown } | undefined)?.predictor === predictor);

/** What of a stage's input says how it worked: what it read is in the graph. */
function settingsOf({ input }: Stage): Readonly<Record<string, unknown>> {
  const isReference = (value: unknown): boolean => JSON.stringify(value).search(HASHES) >= 0;
  return Object.fromEntries(Object.entries(input ?? {}).filter(([key, value]) => key !== 'source' && value !== undefined && !isReference(value)));
}

/** One walk: what it has read, and the graph that it draws. */
function createWalk(pool: pg.Pool) {
  const drawing: LineageDrawing = createLineageDrawing(MOST_NODES);
  const stagesOf = new Map<string, Promise<readonly Stage[]>>();
  const datasets = new Map<string, DatasetRow>();
  const asked = new Set<string>();
  const rows = async <Row extends pg.QueryResultRow>(text: string, values: readonly unknown[]): Promise<readonly Row[]> =>
    (await pool.query<Row>(text, [...values])).rows;

  /** Reads the datasets among these hashes that are not known yet. */
  const readDatasets = async (hashes: Iterable<string>): Promise<void> => {
    const news = [...hashes].filter((hash) => !asked.has(hash));
    for (let at = 0; at < news.length; at += ASKED_AT_ONCE) {
      const some = news.slice(at, at + ASKED_AT_ONCE);
      for (const hash of some) asked.add(hash);
      for (const row of await rows<DatasetRow>(`select ${DATASET} from datasets where id = any($1)`, [some])) datasets.set(row.id, row);
    }
  };
  /** The stages of a run that were completed, in their order, with the datasets that they name. */
  const stagesOfRun = (runId: string): Promise<readonly Stage[]> => {
    const known = stagesOf.get(runId);
    if (known !== undefined) return known;
    const read = (async () => {
      const found = (await rows<StageRow>(`select ${STAGE} from stages where run_id = $1 and status = 'completed' order by ordinal, name`, [runId])).map(
        stageOf,
      );
      await readDatasets(found.flatMap(({ reads, gives }) => [...reads, ...gives]));
      return found;
    })();
    stagesOf.set(runId, read);
    return read;
  };

  const addStage = (stage: Stage): boolean =>
    drawing.add({
      id: stage.id,
      kind: 'stage',
      name: stage.name,
      run: stage.runId,
      at: iso(stage.at),
      facts: {
        kind: stage.kind,
        ...(stage.code === null ? {} : { code: stage.code }),
        ...(stage.content === null ? {} : { content: stage.content }),
        ...(stage.device === null ? {} : { device: stage.device }),
        ...(stage.cachedFrom === null ? {} : { takenFrom: stage.cachedFrom }),
        ...(stage.output?.summary === undefined ? {} : { summary: stage.output.summary }),
        settings: settingsOf(stage),
      },
    });
  const addDataset = (row: DatasetRow): boolean =>
    drawing.add({
      id: `dataset:${row.id}`,
      kind: 'dataset',
      name: row.name,
      run: row.runId,
      at: iso(row.at),
      facts: {
        dataset: row.id,
        ...(row.kind === null ? {} : { kind: row.kind }),
        rows: row.rows,
        sizeBytes: row.sizeBytes,
        ...(row.collectedAt === null ? {} : { collectedAt: iso(row.collectedAt) }),
      },
    });
  const addVersion = ({ model, version, predictor, status, metrics, runId, at, aliases }: VersionRow): boolean =>
    drawing.add({
      id: `version:${model}/${version}`,
      kind: 'version',
      name: `${model} ${version}`,
      run: runId,
      at: iso(at),
      facts: { model, version, status, ...(predictor === null ? {} : { predictor }), metrics, aliases: aliases ?? [] },
    });

  /** Where the rows of a dataset were read from. */
  const addSources = (source: DatasetRow['source'], to: string): void => {
    for (const { key, name, facts } of sourcesOf(source)) {
      const id = `source:${key}`;
      if (drawing.add({ id, kind: 'source', name, run: null, at: null, facts })) drawing.link(id, to, 'reads');
    }
  };

  const seen = new Set<string>();
  const isNew = (id: string): boolean => {
    if (seen.has(id)) return false;
    seen.add(id);
    return true;
  };

  const upDataset = async (id: string, near: string | null, depth: number): Promise<void> => {
    await readDatasets([id]);
    const row = datasets.get(id);
    if (row === undefined || !addDataset(row) || !isNew(`up dataset:${id}`) || depth > MOST_STEPS) return;
    const node = `dataset:${id}`;
    const makes = ({ gives, reads }: Stage): boolean => gives.has(id) && !reads.has(id);
    const inRun = async (run: string | null): Promise<Stage | undefined> => (run === null ? undefined : (await stagesOfRun(run)).find(makes));
    const maker = (await inRun(near)) ?? (await inRun(row.runId));
    const reader = maker !== undefined && addStage(maker) ? maker.id : node;
    if (maker !== undefined) drawing.link(maker.id, node, 'makes');
    addSources(row.source, reader);
    for (const parent of row.parents) {
      if (maker?.reads.has(parent) === true) continue;
      // an ingest that goes on from an earlier snapshot does not name it in what it was given
      await upDataset(parent, maker?.runId ?? null, depth + 1);
      drawing.link(`dataset:${parent}`, reader, 'reads');
    }
    if (maker !== undefined) await upStage(maker, depth + 1);
  };

  const upStage = async (stage: Stage, depth: number): Promise<void> => {
    if (!addStage(stage) || !isNew(`up ${stage.id}`) || depth > MOST_STEPS) return;
    const before = (await stagesOfRun(stage.runId)).filter(({ ordinal, name }) => ordinal < stage.ordinal && name !== stage.name);
    const foreign: string[] = [];
    for (const hash of stage.reads) {
      if (datasets.has(hash)) {
        await upDataset(hash, stage.runId, depth + 1);
        drawing.link(`dataset:${hash}`, stage.id, 'reads');
        continue;
      }
      // the last one that had it in hand: a selection stands between trainings and what follows
      const giver = before.findLast(({ gives }) => gives.has(hash));
      if (giver === undefined) foreign.push(hash);
      else {
        await upStage(giver, depth + 1);
        drawing.link(giver.id, stage.id, 'hands on');
      }
    }
    for (const row of await versionsOf(foreign)) {
      await upVersion(row, depth + 1);
      drawing.link(`version:${row.model}/${row.version}`, stage.id, 'goes on from');
    }
  };

  /** The first version of each predictor. */
  const versionsOf = async (predictors: readonly string[]): Promise<readonly VersionRow[]> =>
    predictors.length === 0
      ? []
      : rows<VersionRow>(
          `select ${VERSION} from versions v where (v.model, v.version) in
             (select distinct on (predictor) model, version from versions where predictor = any($1) order by predictor, created_at, model, version)`,
          [predictors],
        );

  const upVersion = async (row: VersionRow, depth: number): Promise<void> => {
    const id = `version:${row.model}/${row.version}`;
    if (!addVersion(row) || !isNew(`up ${id}`) || depth > MOST_STEPS) return;
    if (row.runId !== null) {
      const stages = await stagesOfRun(row.runId);
      const registers = stages.find(({ name }) => name === row.stage) ?? stages.findLast(({ gives }) => row.predictor !== null && gives.has(row.predictor));
      if (registers !== undefined) {
        await upStage(registers, depth + 1);
        drawing.link(registers.id, id, registers.name === row.stage ? 'registers' : 'makes');
      }
    }
    const views = await rows<{ view: string; version: number; snapshot: string | null }>(
      `select f.view, w.version, (select s.snapshot from feature_sets s where s.id = w.current) as snapshot
       from version_features f join feature_views w on w.name = f.view and w.definition = f.definition where f.model = $1 and f.version = $2`,
      [row.model, row.version],
    );
    for (const { view, version, snapshot } of views) {
      const features = `features:${view}/${version}`;
      if (!drawing.add({ id: features, kind: 'features', name: `${view} ${version}`, run: null, at: null, facts: { view, version } })) continue;
      drawing.link(features, id, 'looked up');
      if (snapshot === null) continue;
      await upDataset(snapshot, null, depth + 1);
      drawing.link(`dataset:${snapshot}`, features, 'makes');
    }
  };

  /** Draws what was made of these hashes and versions, down to the endpoints. */
  const down = async (hashes: Iterable<string>, begun: readonly VersionRow[]): Promise<void> => {
    const had = new Set<string>(hashes);
    const reached = new Map<string, Stage>();
    const versions = new Map<string, VersionRow>();
    let frontier = [...had];
    /** Predictors that are in it by their versions alone: of stages only those that use a version have read it from there. */
    const byVersion = new Set<string>();
    const take = (row: VersionRow): string[] => {
      versions.set(`version:${row.model}/${row.version}`, row);
      if (row.predictor !== null && !had.has(row.predictor)) byVersion.add(row.predictor);
      return row.predictor === null || had.has(row.predictor) ? [] : [row.predictor];
    };
    for (const row of begun) frontier.push(...take(row));
    for (const hash of frontier) had.add(hash);
    for (let step = 0; frontier.length > 0 && step < MOST_STEPS; step++) {
      const next = new Set<string>();
      if (frontier.length > ASKED_AT_ONCE || reached.size > MOST_NODES) drawing.truncate();
      const some = frontier.slice(0, ASKED_AT_ONCE);
      const [readers, children, known] = await Promise.all([
        rows<StageRow>(`select ${STAGE} from stages where status = 'completed' and ${READS} ?| $1 order by ended_at desc limit ${MOST_STAGES + 1}`, [some]),
        rows<DatasetRow>(`select ${DATASET} from datasets where parents ?| $1 order by seq desc limit ${MOST_NODES}`, [some]),
        rows<VersionRow>(`select ${VERSION} from versions v where v.predictor = any($1) order by v.created_at desc limit ${MOST_NODES}`, [some]),
      ]);
      if (readers.length > MOST_STAGES) drawing.truncate();
      for (const row of readers.slice(0, MOST_STAGES)) {
        const stage = stageOf(row);
        if (
          reached.has(stage.id) ||
          reached.size > MOST_NODES ||
          ![...stage.reads].some((hash) => had.has(hash) && (!byVersion.has(hash) || usesVersion(stage, hash)))
        )
          continue;
        reached.set(stage.id, stage);
        for (const hash of stage.gives) if (!stage.reads.has(hash)) next.add(hash);
      }
      for (const row of children) {
        asked.add(row.id);
        datasets.set(row.id, row);
        next.add(row.id);
      }
      for (const row of known) for (const hash of take(row)) next.add(hash);
      const registers = [...reached.values()].filter(({ kind, id }) => kind === 'register' && isNew(`registered ${id}`));
      if (registers.length > 0) {
        const registered = await rows<VersionRow>(
          `select ${VERSION} from versions v join unnest($1::text[], $2::text[]) as s (run, stage) on v.run_id = s.run and v.stage = s.stage`,
          [registers.map(({ runId }) => runId), registers.map(({ name }) => name)],
        );
        for (const row of registered) for (const hash of take(row)) next.add(hash);
      }
      frontier = [...next].filter((hash) => !had.has(hash));
      for (const hash of frontier) had.add(hash);
    }
    await readDatasets(had);
    await drawDown(reached, versions, had);
  };

  const drawDown = async (reached: ReadonlyMap<string, Stage>, versions: ReadonlyMap<string, VersionRow>, had: ReadonlySet<string>): Promise<void> => {
    const stages = [...reached.values()].sort((a, b) => a.ordinal - b.ordinal);
    for (const row of versions.values()) addVersion(row);
    for (const stage of stages) addStage(stage);
    const byRun = grouped(stages, ({ runId }) => runId);
    const predicts = grouped([...versions.values()], ({ predictor }) => predictor ?? '');
    for (const stage of stages) {
      for (const hash of stage.reads) {
        const dataset = datasets.get(hash);
        if (dataset !== undefined) {
          if (had.has(hash) && addDataset(dataset)) drawing.link(`dataset:${hash}`, stage.id, 'reads');
          continue;
        }
        const giver = byRun.get(stage.runId)?.findLast((other) => other.ordinal < stage.ordinal && other.gives.has(hash));
        if (giver !== undefined) drawing.link(giver.id, stage.id, 'hands on');
        else if (usesVersion(stage, hash))
          for (const { model, version } of predicts.get(hash) ?? []) drawing.link(`version:${model}/${version}`, stage.id, 'is used by');
      }
      for (const hash of stage.gives) {
        const dataset = stage.reads.has(hash) ? undefined : datasets.get(hash);
        if (dataset !== undefined && addDataset(dataset)) drawing.link(stage.id, `dataset:${hash}`, 'makes');
      }
    }
    for (const hash of had) {
      const dataset = datasets.get(hash);
      if (dataset === undefined || !addDataset(dataset)) continue;
      for (const parent of dataset.parents)
        if (had.has(parent) && !drawing.reaches(`dataset:${parent}`, `dataset:${hash}`)) drawing.link(`dataset:${parent}`, `dataset:${hash}`, 'makes');
    }
    for (const [id, { runId, stage, predictor }] of versions) {
      const registers = stage === null ? undefined : reached.get(`stage:${runId ?? ''}/${stage}`);
      const maker = registers ?? (predictor === null ? undefined : stages.findLast(({ gives }) => gives.has(predictor)));
      if (maker !== undefined) drawing.link(maker.id, id, registers === undefined ? 'makes' : 'registers');
    }
    await drawUses([...versions.values()]);
    await drawViews([...had].filter((hash) => datasets.has(hash)));
  };

  /** Endpoints that a version answered or answers for, and tables that its predictions were published to. */
  const drawUses = async (versions: readonly VersionRow[]): Promise<void> => {
    const these = [versions.map(({ model }) => model), versions.map(({ version }) => version)];
    const served = await rows<{ endpoint: string; model: string; version: number; since: Date; role: string; now: boolean }>(
      `select h.endpoint, w.model, w.version, min(h.at) as since,
         case when bool_or(h.champion ->> 'model' = w.model and (h.champion ->> 'version')::int = w.version) then 'champion' else 'challenger' end as role,
         coalesce(bool_or(r.champion ->> 'model' = w.model and (r.champion ->> 'version')::int = w.version), false)
           or coalesce(bool_or(r.challenger -> 'version' ->> 'model' = w.model and (r.challenger -> 'version' ->> 'version')::int = w.version), false) as now
       from unnest($1::text[], $2::int[]) as w (model, version)
       join route_history h on (h.champion ->> 'model' = w.model and (h.champion ->> 'version')::int = w.version)
         or (h.challenger -> 'version' ->> 'model' = w.model and (h.challenger -> 'version' ->> 'version')::int = w.version)
       left join routes r on r.endpoint = h.endpoint
       group by h.endpoint, w.model, w.version order by since limit ${MOST_NODES}`,
      these,
    );
    for (const { endpoint, model, version, since, role, now } of served) {
      if (!drawing.add({ id: `endpoint:${endpoint}`, kind: 'endpoint', name: endpoint, run: null, at: iso(since), facts: { endpoint } })) continue;
      drawing.link(`version:${model}/${version}`, `endpoint:${endpoint}`, now ? (role === 'champion' ? 'answers' : 'answers a share') : 'answered');
    }
    const published = await rows<{
      kind: string;
      name: string;
      model: string;
      version: number;
      at: Date | null;
      snapshot: string;
      rows: number;
      runId: string;
      current: boolean;
    }>(
      `select s.kind, s.name, s.model, s.version, s.published_at as at, s.snapshot, s.rows::double precision as rows, s.run_id as "runId", coalesce(t.current = s.id, false) as current
       from unnest($1::text[], $2::int[]) as w (model, version) join prediction_sets s on s.model = w.model and s.version = w.version
       left join prediction_targets t on t.kind = s.kind and t.name = s.name
       where s.published_at is not null order by s.id desc limit ${MOST_NODES}`,
      these,
    );
    for (const { kind, name, model, version, at, snapshot, rows: count, runId, current } of published) {
      const id = kind === 'endpoint' ? `endpoint:${name}` : `table:${name}`;
      const node =
        kind === 'endpoint'
          ? ({ kind: 'endpoint', name, facts: { endpoint: name } } as const)
          : ({ kind: 'table', name: `predictions.${name}`, facts: { rows: count } } as const);
      if (!drawing.add({ id, run: runId, at: iso(at), ...node })) continue;
      const from = drawing.has(`dataset:${snapshot}`) ? `dataset:${snapshot}` : `version:${model}/${version}`;
      drawing.link(from, id, current ? 'is published as' : 'was published as');
    }
  };

  /** Feature views that are computed from these datasets. */
  const drawViews = async (ids: readonly string[]): Promise<void> => {
    const views = await rows<{ view: string; version: number; snapshot: string; at: Date | null }>(
      `select distinct on (view, version) view, version, snapshot, published_at as at from feature_sets
       where snapshot = any($1) and published_at is not null order by view, version, id desc limit ${MOST_NODES}`,
      [ids],
    );
    for (const { view, version, snapshot, at } of views) {
      const id = `features:${view}/${version}`;
      if (drawing.add({ id, kind: 'features', name: `${view} ${version}`, run: null, at: iso(at), facts: { view, version } }))
        drawing.link(`dataset:${snapshot}`, id, 'makes');
    }
  };

  return { drawing, rows, datasets, readDatasets, stagesOfRun, addStage, addDataset, addVersion, addSources, upDataset, upStage, upVersion, down };
}
type Walk = ReturnType<typeof createWalk>;

interface ShownSource {
  readonly key: string;
  readonly name: string;
  readonly facts: Readonly<Record<string, unknown>>;
}

/** A source as nodes: a path each, or what stands for it. */
function sourcesOf(source: DatasetRow['source']): readonly ShownSource[] {
  const format = source?.['format'];
  if (source === null || typeof format !== 'string') return [];
  const paths = shownPaths(source);
  if (paths.length > 0)
    return [
      ...paths.slice(0, MOST_PATHS).map((path) => ({ key: path, name: path, facts: { format, path } })),
      ...(paths.length > MOST_PATHS
        ? [{ key: digest(paths), name: `${paths.length - MOST_PATHS} more files`, facts: { format, paths: paths.slice(MOST_PATHS) } }]
        : []),
    ];
  if (format === 'predictions')
    return [{ key: `predictions of ${String(source['endpoint'])}`, name: `predictions of ${String(source['endpoint'])}`, facts: source }];
  if (format === 'rows')
    return [{ key: `rows ${String(source['pipeline'])}/${String(source['step'])}`, name: `step ${String(source['step'])}`, facts: source }];
  return [{ key: `${format} ${digest(source)}`, name: `${format} query`, facts: source }];
}

const digest = (value: unknown): string => createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 16);

/** What the walk was asked of; draws it, and gives the ids of its nodes with what to go down from. */
async function begin(walk: Walk, subject: LineageSubject, goesUp: boolean, goesDown: boolean): Promise<readonly string[]> {
  switch (subject.kind) {
    case 'version': {
      const row = await versionRow(walk, subject.model, subject.version);
      walk.addVersion(row);
      if (goesUp) await walk.upVersion(row, 0);
      if (goesDown) await walk.down([], [row]);
      return [`version:${row.model}/${row.version}`];
    }
    case 'dataset': {
      await walk.readDatasets([subject.dataset]);
      const row = walk.datasets.get(subject.dataset);
      if (row === undefined) throw new MillraceError('NOT_FOUND', `There is no dataset ${subject.dataset}.`);
      walk.addDataset(row);
      if (goesUp) await walk.upDataset(row.id, null, 0);
      if (goesDown) await walk.down([row.id], []);
      return [`dataset:${row.id}`];
    }
    case 'run': {
      // hundreds of trials would hide the rest: the one that was taken is reached from what took it
      const stages = (await walk.stagesOfRun(subject.run)).filter(({ kind }) => kind !== 'trial');
      for (const stage of stages) walk.addStage(stage);
      const makes = ({ gives, reads }: Stage): readonly string[] => [...gives].filter((hash) => !reads.has(hash));
      if (goesUp) for (const stage of stages) await walk.upStage(stage, 0);
      const made = [...new Set(stages.flatMap(makes))];
      if (goesUp) for (const hash of made) if (walk.datasets.has(hash)) await walk.upDataset(hash, subject.run, 0);
      if (goesDown) await walk.down(made, await walk.rows<VersionRow>(`select ${VERSION} from versions v where v.run_id = $1`, [subject.run]));
      return stages.map(({ id }) => id);
    }
    case 'endpoint':
      return beginEndpoint(walk, subject.endpoint, goesUp, goesDown);
    case 'source':
      return beginSource(walk, subject.path, goesDown);
    case 'prediction':
      return beginPrediction(walk, subject.prediction, goesUp);
  }
}

async function versionRow(walk: Walk, model: string, version: number): Promise<VersionRow> {
  const [row] = await walk.rows<VersionRow>(`select ${VERSION} from versions v where v.model = $1 and v.version = $2`, [model, version]);
  if (row === undefined) throw new MillraceError('NOT_FOUND', `There is no version ${version} of model ${model}.`);
  return row;
}

/** Who answers for an endpoint now, and what was learned from its predictions. */
async function beginEndpoint(walk: Walk, endpoint: string, goesUp: boolean, goesDown: boolean): Promise<readonly string[]> {
  const id = `endpoint:${endpoint}`;
  const [found] = await walk.rows<{ at: Date; served: readonly { model: string; version: number; how: string }[] }>(
    `select coalesce(r.updated_at, e.created_at) as at,
       array_remove(array[
         case when r.champion is null then null else r.champion || '{"how":"answers"}' end,
         case when r.challenger is null then null else (r.challenger -> 'version') || '{"how":"answers a share"}' end], null) as served
     from endpoints e left join routes r on r.endpoint = e.name where e.name = $1`,
    [endpoint],
  );
  if (found === undefined) throw new MillraceError('ENDPOINT_NOT_FOUND', `There is no endpoint ${endpoint}.`);
  walk.drawing.add({ id, kind: 'endpoint', name: endpoint, run: null, at: iso(found.at), facts: { endpoint } });
  if (goesUp)
    for (const { model, version, how } of found.served) {
      await walk.upVersion(await versionRow(walk, model, version), 0);
      walk.drawing.link(`version:${model}/${version}`, id, how);
    }
  if (goesDown) {
    const read = await walk.rows<DatasetRow>(
      `select ${DATASET} from datasets where source ->> 'format' = 'predictions' and source ->> 'endpoint' = $1 order by seq desc limit ${MOST_NODES}`,
      [endpoint],
    );
    await walk.down(
      read.map((row) => row.id),
      [],
    );
    for (const row of read) if (walk.addDataset(row)) walk.drawing.link(id, `dataset:${row.id}`, 'is read into');
  }
  return [id];
}

async function beginSource(walk: Walk, path: string, goesDown: boolean): Promise<readonly string[]> {
  const sources = await walk.rows<{ source: Readonly<Record<string, unknown>> }>(`select distinct source from datasets where source ? 'path'`, []);
  const fitting = sources.filter(({ source }) => shownPaths(source).some((shown) => fitsSource(shown, path)));
  if (fitting.length === 0)
    throw new MillraceError('NOT_FOUND', `Nothing was read from ${path}.`, {
      fix: '`millrace datasets list` shows the datasets; `millrace lineage DATASET` what each was read from.',
    });
  const found = await walk.rows<DatasetRow>(`select ${DATASET} from datasets where source = any($1::jsonb[]) order by seq desc limit ${MOST_NODES}`, [
    fitting.map(({ source }) => JSON.stringify(source)),
  ]);
  const subject = new Set<string>();
  for (const row of found) {
    const stage = row.runId === null ? undefined : (await walk.stagesOfRun(row.runId)).find(({ name }) => name === row.stage);
    if (!walk.addDataset(row)) break;
    const reader = stage !== undefined && walk.addStage(stage) ? stage.id : `dataset:${row.id}`;
    if (stage !== undefined) walk.drawing.link(stage.id, `dataset:${row.id}`, 'makes');
    walk.addSources(row.source, reader);
    for (const { key, name } of sourcesOf(row.source)) if (fitsSource(name, path)) subject.add(`source:${key}`);
  }
  if (goesDown)
    await walk.down(
      found.map((row) => row.id),
      [],
    );
  return [...subject];
}

/** A prediction, the endpoint, and how the version that answered had come to answer there. */
async function beginPrediction(walk: Walk, { requestId, endpoint, model, version, at, rows }: AnsweredRequest, goesUp: boolean): Promise<readonly string[]> {
  const id = `prediction:${requestId}`;
  walk.drawing.add({ id, kind: 'prediction', name: requestId, run: null, at, facts: { endpoint, model, version, rows } });
  const [route] = await walk.rows<{ epoch: number; reason: string | null; rolloutId: string | null; since: Date }>(
    `select epoch::double precision as epoch, reason, rollout_id as "rolloutId", at as since from route_history
     where endpoint = $1 and at <= $2 order by epoch desc limit 1`,
    [endpoint, at],
  );
  walk.drawing.add({
    id: `endpoint:${endpoint}`,
    kind: 'endpoint',
    name: endpoint,
    run: null,
    at: iso(route?.since ?? null),
    facts: { endpoint, ...(route === undefined ? {} : { epoch: route.epoch, reason: route.reason, rollout: route.rolloutId }) },
  });
  walk.drawing.link(`endpoint:${endpoint}`, id, 'answered');
  if (goesUp) {
    await walk.upVersion(await versionRow(walk, model, version), 0);
    walk.drawing.link(`version:${model}/${version}`, `endpoint:${endpoint}`, 'answered');
  }
  return [id];
}

export function createLineageStore({ pool }: Database) {
  return {
    /** Where something comes from, what came of it, or both. @throws NOT_FOUND, ENDPOINT_NOT_FOUND */
    async of(subject: LineageSubject, direction: LineageDirection = 'both'): Promise<LineageGraph> {
      const walk = createWalk(pool);
      const ids = await begin(walk, subject, direction !== 'down', direction !== 'up');
      const graph = walk.drawing.finish();
      const runIds = [...new Set([...graph.nodes.flatMap(({ run }) => run ?? []), ...(subject.kind === 'run' ? [subject.run] : [])])];
      const found = await walk.rows<Omit<LineageRun, 'startedAt' | 'endedAt'> & { startedAt: Date | null; endedAt: Date | null }>(
        `select ${RUN} from runs where id = any($1) order by seq`,
        [runIds],
      );
      const runs = found.map((run) => ({ ...run, startedAt: iso(run.startedAt), endedAt: iso(run.endedAt) }));
      if (subject.kind === 'run' && runs.length === 0) throw new MillraceError('NOT_FOUND', `There is no run ${subject.run}.`);
      return { subject: ids, ...graph, runs };
    },

    /** Whether a dataset was read from this path, from a folder that it is in, or by a glob that it fits. */
    async knowsSource(path: string): Promise<boolean> {
      const { rows } = await pool.query<{ source: Readonly<Record<string, unknown>> }>(`select distinct source from datasets where source ? 'path'`);
      return rows.some(({ source }) => shownPaths(source).some((shown) => fitsSource(shown, path)));
    },

    /** The endpoint that feedback names a request for; null where none came. */
    async endpointOf(requestId: string): Promise<string | null> {
      const { rows } = await pool.query<{ endpoint: string }>('select endpoint from feedback where request_id = $1 limit 1', [requestId]);
      return rows[0]?.endpoint ?? null;
    },
  };
}
export type LineageStore = ReturnType<typeof createLineageStore>;
