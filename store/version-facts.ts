import type { ComparedVersion } from '../contracts/model-comparison.ts';
import { ModelCardSchema } from '../contracts/model-card.ts';
import type { Artifacts } from './artifacts.ts';
import type { Store } from './store.ts';

/** What is stored of a version that sets it apart: its card, its run's parameters, and what servers measured. @throws NOT_FOUND */
export async function versionFacts(
  store: Pick<Store, 'models' | 'runs' | 'stats'>,
  artifacts: Pick<Artifacts, 'getJson'>,
  model: string,
  name: string | undefined,
): Promise<ComparedVersion> {
  const record = await store.models.versionNamed(model, name);
  const [aliases, run, card, serving] = await Promise.all([
    store.models.aliases(model),
    record.runId === null ? null : store.runs.find(record.runId),
    record.card === null ? null : artifacts.getJson(record.card),
    store.stats.ofVersion(model, record.version),
  ]);
  return {
    model,
    version: record.version,
    status: record.status,
    aliases: aliases.filter(({ version }) => version === record.version).map(({ alias }) => alias),
    createdAt: record.createdAt,
    run: run === null ? null : { id: run.id, pipeline: run.pipeline, parameters: run.params, commit: run.gitCommit, clean: run.gitClean },
    metrics: record.metrics,
    card: card === null ? null : ModelCardSchema.parse(card),
    serving,
  };
}
