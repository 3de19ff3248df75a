import { sql } from 'drizzle-orm';
import type { Executor } from './database.ts';

/**
 * What retention has to keep, as the records say it: names of artifacts from which the rest is followed.
 *
 * A table that points to artifacts or datasets keeps them by a line in `ROOTS`: a query with one text column `t`, in
 * which every run of 64 hex digits counts. Too much in it costs disk; too little loses data.
 */
export interface LiveRoots {
  /** Kept with all they name, datasets with all they were made from. */
  readonly lineage: readonly string[];
  /** Kept with what they name, but not with what they were made from. */
  readonly itself: readonly string[];
  /** Kept unless they are a dataset that retention takes, or belong to one only. */
  readonly mentioned: readonly string[];
}

const OPEN_RUNS = sql`select id from runs where status in ('waiting', 'running')`;
const VERSION_RUNS = sql`select run_id from versions where run_id is not null`;

const ROOTS = [
  // What a version is, and what its run saw and made.
  {
    keeps: 'lineage',
    // A deleted one that was in service stays whole: what it answered is still asked about.
    query: sql`select concat_ws(' ', predictor, evaluation, card) as t from versions v
      where deleted_at is null or exists (select from rollouts r where r.model = v.model and r.version = v.version)`,
  },
  // What MLflow's clients put beside runs and models.
  { keeps: 'itself', query: sql`select sha256 as t from artifact_files` },
  { keeps: 'lineage', query: sql`select concat_ws(' ', input::text, output::text) as t from stages where run_id in (${VERSION_RUNS})` },
  // What is served and watched.
  { keeps: 'lineage', query: sql`select concat_ws(' ', champion::text, challenger::text) as t from routes` },
  // What a rollback may go back to: the rules of decision stand nowhere else.
  { keeps: 'itself', query: sql`select distinct concat_ws(' ', champion ->> 'decisions', challenger -> 'version' ->> 'decisions') as t from route_history` },
  { keeps: 'lineage', query: sql`select config::text as t from monitors` },
  // What open runs were given, made, and saved on the way.
  { keeps: 'lineage', query: sql`select params::text as t from runs where status in ('waiting', 'running')` },
  { keeps: 'lineage', query: sql`select concat_ws(' ', input::text, output::text, checkpoint_sha) as t from stages where run_id in (${OPEN_RUNS})` },
  // What workers start from.
  { keeps: 'lineage', query: sql`select bundles::text as t from builds` },
  // Golden sets, and the snapshots that an ingest may go on from: the newest of each name, and any that one under way may have chosen.
  { keeps: 'itself', query: sql`select id as t from datasets where kind = 'golden' and collected_at is null` },
  { keeps: 'itself', query: sql`select distinct on (name) id as t from datasets where collected_at is null order by name, seq desc` },
  {
    keeps: 'itself',
    query: sql`select id as t from datasets where collected_at is null and name in (select input ->> 'name' from stages where run_id in (${OPEN_RUNS}) and kind = 'ingest')`,
  },
  // What online features are computed from, and what they may go back to.
  { keeps: 'itself', query: sql`select snapshot as t from feature_sets where status in ('writing', 'published')` },
  // What is served from Postgres, and what it may go back to.
  { keeps: 'itself', query: sql`select concat_ws(' ', snapshot, predictor) as t from prediction_sets where status in ('writing', 'published')` },
  // What any run has made: models that were not registered, evaluations, what steps gave back.
  { keeps: 'mentioned', query: sql`select concat_ws(' ', input::text, output::text) as t from stages` },
] as const;

export const HASHES = /(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])/g;

/** Lists the roots, all as of one moment when given a transaction of that kind. */
export async function listLiveRoots(tx: Executor): Promise<LiveRoots> {
  const found = { lineage: new Set<string>(), itself: new Set<string>(), mentioned: new Set<string>() };
  for (const { keeps, query } of ROOTS) {
    const { rows } = await tx.execute<{ t: string | null }>(query);
    for (const { t } of rows) for (const [hash] of t?.matchAll(HASHES) ?? []) found[keeps].add(hash);
  }
  return { lineage: [...found.lineage], itself: [...found.itself], mentioned: [...found.mentioned] };
}
