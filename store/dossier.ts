import type { Dossier, ProductionEntry } from '../contracts/dossier.ts';
import type { ServedVersion } from '../contracts/routes.ts';
import type { Artifacts } from './artifacts.ts';
import { CHAMPION_ALIAS } from './models.ts';
import type { Store } from './store.ts';

/** Periods of an endpoint that are read at most. */
const MOST_PERIODS = 1_000;

/** Gathers what is known of a version. @throws NOT_FOUND */
export async function readDossier(
  store: Store,
  artifacts: Pick<Artifacts, 'getJson'>,
  { model, version }: { readonly model: string; readonly version: number },
): Promise<Dossier> {
  const record = await store.models.version(model, version);
  const readable = (sha256: string | null): Promise<unknown> => (sha256 === null ? Promise.resolve(null) : artifacts.getJson(sha256).catch(() => null));
  const { runId } = record;
  const [card, evaluation, run, stages, approvals, versionComments, runComments, aliases, production, lineage] = await Promise.all([
    readable(record.card),
    readable(record.evaluation),
    runId === null ? null : store.runs.find(runId),
    runId === null ? [] : store.stages.list(runId),
    runId === null ? [] : store.approvals.list({ runId }),
    store.comments.list({ of: { model, version }, limit: 1_000 }),
    runId === null ? [] : store.comments.list({ of: { run: runId }, limit: 1_000 }),
    aliasesOf(store, model, version),
    productionOf(store, model, version),
    store.lineage.of({ kind: 'version', model, version }, 'up'),
  ]);
  const endpoints = [...new Set(production.map(({ endpoint }) => endpoint))];
  const { entries, chain, verdict } = await store.audit.proof([
    `models/${model}/versions/${String(version)}`,
    ...[...new Set(aliases.map(({ alias }) => alias))].map((alias) => `models/${model}/aliases/${alias}`),
    ...(runId === null ? [] : [`runs/${runId}`]),
    ...endpoints.map((endpoint) => `endpoints/${endpoint}`),
  ]);
  return {
    format: 'millrace-dossier/1',
    model,
    version,
    madeAt: new Date().toISOString(),
    record,
    card,
    evaluation,
    run: run === null ? null : { ...run, stages },
    lineage,
    approvals,
    comments: [...versionComments, ...runComments],
    aliases,
    production,
    proof: { entries, chain, head: verdict.head, whole: verdict.ok },
  };
}

async function aliasesOf(store: Store, model: string, version: number) {
  const names = new Set([CHAMPION_ALIAS, ...(await store.models.aliases(model)).map(({ alias }) => alias)]);
  const histories = await Promise.all([...names].map((alias) => store.models.aliasHistory(model, alias)));
  // newest first: what stands before a move ended it
  return histories.flatMap((moves) =>
    moves.flatMap((move, i) =>
      move.version === version
        ? [{ alias: move.alias, from: move.movedAt, until: moves[i - 1]?.movedAt ?? null, by: move.movedByRun, reason: move.reason }]
        : [],
    ),
  );
}

async function productionOf(store: Store, model: string, version: number): Promise<readonly ProductionEntry[]> {
  const is = (served: ServedVersion | null | undefined): boolean => served?.model === model && served.version === version;
  const found: ProductionEntry[] = [];
  for (const { name: endpoint } of await store.endpoints.list({ limit: 1_000 })) {
    for (const { champion, challenger, standby, from, until, by, reason } of await store.endpoints.productionHistory(endpoint, { limit: MOST_PERIODS })) {
      const as = is(champion) ? 'champion' : is(challenger?.version) ? 'challenger' : standby.some(is) ? 'standby' : null;
      if (as !== null) found.push({ endpoint, as, from, until, percent: as === 'challenger' ? (challenger?.percent ?? null) : null, by, reason });
    }
  }
  return found.sort((a, b) => (a.from < b.from ? -1 : 1));
}
