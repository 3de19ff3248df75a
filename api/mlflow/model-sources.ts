import type { Store } from '../../store/store.ts';
import { folderOf, inRegistry, safePath } from '../../store/artifact-paths.ts';
import { MlflowError } from './errors.ts';

/** What a version's source means: the folder of its files here, or null where they lie elsewhere; and what made it. */
export interface MeantSource {
  readonly source: string;
  readonly folder: string | null;
  readonly runId?: string;
  readonly loggedModel?: string;
}

const MOST_DEPTH = 10;

const refuse = (source: string, why: string): MlflowError => new MlflowError('INVALID_PARAMETER_VALUE', `Invalid model version source: '${source}'. ${why}`);

/**
 * What a source that a client gives means now: `models:/m-…`, `models:/NAME/VERSION`, `models:/NAME@ALIAS`, `runs:/…`,
 * `mlflow-artifacts:/…`, or an address elsewhere (s3, https, …), which is kept as it is.
 * @throws MlflowError RESOURCE_DOES_NOT_EXIST for an unknown run, model or version; INVALID_PARAMETER_VALUE for a local
 * path, a way upwards, or one that does not belong to the run or model that is named with it
 */
export async function sourceOf(
  store: Pick<Store, 'registry'>,
  given: { readonly source: string; readonly runId?: string; readonly loggedModel?: string },
  depth = 0,
): Promise<MeantSource> {
  const { source } = given;
  if (depth > MOST_DEPTH) throw refuse(source, 'It leads through too many other versions.');
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(source)?.[1]?.toLowerCase();
  if (scheme === undefined || scheme === 'file' || scheme.length === 1)
    throw refuse(source, 'This server cannot read files of a client: log them to a run or a model first, and name that.');
  refuseUpwards(source);
  const byModel = given.loggedModel === undefined ? undefined : await loggedModel(store, given.loggedModel);
  const runId = given.runId ?? byModel?.runId;
  const place = given.runId === undefined ? undefined : await run(store, given.runId);
  const made = { ...(runId === undefined ? {} : { runId }), ...(given.loggedModel === undefined ? {} : { loggedModel: given.loggedModel }) };

  if (scheme === 'models') {
    const [, id, path = ''] = /^models:\/+(m-[0-9a-f]{32})(?:\/(.*))?$/.exec(source) ?? [];
    if (id !== undefined) {
      if (given.loggedModel !== undefined && given.loggedModel !== id) throw refuse(source, `It is not of the model ${given.loggedModel}.`);
      const of = await loggedModel(store, id);
      return { source, folder: joined(of.folder, path), loggedModel: id, ...(of.runId === undefined ? {} : { runId: of.runId }), ...made };
    }
    const [, name, number, alias] = /^models:\/+([^/@]+)(?:\/([1-9]\d{0,8})|@([^/@]+))$/.exec(source) ?? [];
    if (name === undefined) throw refuse(source, 'Write models:/m-ID, models:/NAME/VERSION or models:/NAME@ALIAS.');
    const model = decodeURIComponent(name);
    const found = number === undefined ? await store.registry.versionByAlias(model, alias ?? '') : await store.registry.version(model, Number(number));
    if (found === null) throw new MlflowError('INVALID_PARAMETER_VALUE', `Registered model alias ${alias ?? ''} not found.`);
    return {
      source,
      folder: found.folder,
      ...(found.runId === null ? {} : { runId: found.runId }),
      ...(found.loggedModel === null ? {} : { loggedModel: found.loggedModel }),
      ...made,
    };
  }
  if (scheme === 'runs') {
    const [, id = '', path = ''] = /^runs:\/+([^/]+)(?:\/(.*))?$/.exec(source) ?? [];
    const of = await run(store, id);
    if (given.runId !== undefined && given.runId !== id) throw refuse(source, `It is not of the run ${given.runId}.`);
    return { source, runId: id, folder: joined(of.folder, path), ...made };
  }
  const folder = folderOf(source);
  if (folder === null) return { source, folder: null, ...made };
  if (folder === '' || inRegistry(folder) !== null) throw refuse(source, 'Name the folder of a run or of a model.');
  for (const [what, root] of [
    ['model', byModel?.folder],
    ['run', place?.folder],
  ] as const) {
    if (root === undefined || root === null) continue;
    if (folder === root || folder.startsWith(`${root}/`)) return { source, folder, ...made };
    // a run's logged models lie beside it
    if (what === 'run' && folder.startsWith(`${root.split('/')[0] ?? ''}/models/`)) return { source, folder, ...made };
    throw refuse(source, `It is not of the ${what} that is named with it.`);
  }
  return { source, folder, ...made };
}

function refuseUpwards(source: string): void {
  let now = source;
  for (let times = 0; times < MOST_DEPTH; times++) {
    if (now.split(/[/\\?#]/).includes('..') || now.includes('\u0000'))
      throw refuse(source, 'An absolute path must be provided without relative path references present.');
    try {
      const next = decodeURIComponent(now);
      if (next === now) return;
      now = next;
    } catch {
      return;
    }
  }
}

const joined = (folder: string | null, path: string): string | null => {
  if (folder === null) return null;
  const inside = safePath(path);
  return inside === '' ? folder : `${folder}/${inside}`;
};

async function run(store: Pick<Store, 'registry'>, id: string): Promise<{ readonly folder: string | null }> {
  const place = await store.registry.runPlace(id);
  if (place === null) throw new MlflowError('RESOURCE_DOES_NOT_EXIST', `Run with id=${id} not found`);
  return { folder: folderOf(place.uri) };
}

async function loggedModel(store: Pick<Store, 'registry'>, id: string): Promise<{ readonly folder: string | null; readonly runId?: string }> {
  const place = await store.registry.loggedModelPlace(id);
  if (place === null) throw new MlflowError('RESOURCE_DOES_NOT_EXIST', `Logged model with ID '${id}' not found.`);
  return { folder: folderOf(place.uri), ...(place.runId === null ? {} : { runId: place.runId }) };
}
