import { MillraceError } from '../contracts/errors.ts';
import { coversAll, type Identity } from '../contracts/identity.ts';
import type { Store } from '../store/store.ts';
import { requireMay } from '../store/tokens.ts';

type Values = Readonly<Record<string, unknown>>;

const texts = (value: unknown): readonly string[] =>
  typeof value === 'string' || typeof value === 'number' ? [String(value)] : Array.isArray(value) ? value.flatMap(texts) : [];

/** The names that an experiment goes by: its own, and its pipeline's. One of them has to be covered. */
async function experimentNames(store: Store, id: string): Promise<string> {
  const { name, pipeline } = await store.experiments.get(id);
  return pipeline ?? name;
}

async function runName(store: Store, runId: string): Promise<string> {
  const run = await store.runs.get(runId);
  return run.experimentId === null || run.pipeline !== '' ? run.pipeline : experimentNames(store, String(run.experimentId));
}

/** These find what is of the token's projects, and nothing else: whatever they name. */
const SEARCHES = /\/mlflow\/(?:experiments|runs|registered-models|model-versions|logged-models)\/search$/;

/**
 * Refuses a request of MLflow's protocol that is of another project than the token's. What a request is of is told by the
 * experiments, runs and models that it names; one that names none is only for tokens of all projects. Searches are not refused:
 * they look at the token's projects only.
 *
 * @throws NOT_ALLOWED, and NOT_FOUND for what is named and is not there
 */
export async function requireMlflowProjects(store: Store, identity: Identity, path: string, values: Values): Promise<void> {
  if (coversAll(identity) || SEARCHES.test(path)) return;
  const isRegistry = /\/mlflow\/(?:registered-models|model-versions)(?:\/|$)/.test(path);
  const names: string[] = [];
  for (const id of [...texts(values['run_id']), ...texts(values['run_uuid'])]) names.push(await runName(store, id));
  for (const id of [...texts(values['experiment_id']), ...texts(values['experiment_ids'])]) names.push(await experimentNames(store, id));
  for (const id of texts(values['model_id'])) {
    const place = await store.registry.loggedModelPlace(id);
    if (place?.runId != null) names.push(await runName(store, place.runId));
  }
  names.push(...texts(values['experiment_name']));
  if (isRegistry || /\/mlflow\/experiments\/create$/.test(path)) names.push(...texts(values['name']), ...texts(values['new_name']));
  // EXPERIMENT/RUN/artifacts/…, as artifacts are addressed
  const file = /\/mlflow-artifacts\/artifacts\/(\d+)\//.exec(path)?.[1];
  if (file !== undefined) names.push(await experimentNames(store, file));
  if (names.length === 0)
    throw new MillraceError('NOT_ALLOWED', `${identity.who} has a token of some projects (${identity.projects.join(', ')}), and this is of all of them.`);
  for (const name of names) requireMay(identity, 'viewer', name);
}
