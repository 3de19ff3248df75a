import { MillraceError } from '../contracts/errors.ts';
import { folderOf } from './artifact-paths.ts';
import type { MlflowClient, MlflowQuery } from './mlflow-client.ts';
import type { FileOwner, MlflowSource, SourceFile } from './mlflow-source.ts';

/** An MLflow server as a source: its REST API, page by page. */
const API = '/api/2.0/mlflow';
const PROXY = '/api/2.0/mlflow-artifacts/artifacts';
/** Runs come with all their parameters and tags: few to a page, so that an answer stays small. */
const RUNS_A_PAGE = 200;
const RECORDS_A_PAGE = 100;
const POINTS_A_PAGE = 25_000;
const MOST_DEPTH = 100;

type Page = Readonly<Record<string, unknown>>;
interface Entry {
  readonly path: string;
  readonly is_dir?: boolean;
  readonly file_size?: number | string;
}

const encoded = (path: string): string => path.split('/').map(encodeURIComponent).join('/');
const isMissing = (error: unknown): boolean => error instanceof MillraceError && error.code === 'NOT_FOUND';

/** Text in a filter: in the quotes that it does not hold. */
function quoted(name: string): string {
  if (!name.includes("'")) return `'${name}'`;
  if (!name.includes('"')) return `"${name}"`;
  throw new MillraceError('INVALID_REQUEST', `The model ${name} cannot be asked for: its name holds both kinds of quotes.`, {
    fix: 'Rename it on the MLflow server.',
  });
}

export function createServerSource(client: MlflowClient): MlflowSource {
  async function* pages(ask: (token: string | undefined) => Promise<unknown>, field: string): AsyncGenerator<readonly unknown[]> {
    let token: string | undefined;
    do {
      const page = (await ask(token)) as Page;
      const items = page[field];
      if (Array.isArray(items) && items.length > 0) yield items as readonly unknown[];
      const next = page['next_page_token'];
      if (next === token && next !== undefined)
        throw new MillraceError('SERVER_UNAVAILABLE', `The MLflow server at ${client.address} gives the same page again.`);
      token = typeof next === 'string' && next !== '' ? next : undefined;
    } while (token !== undefined);
  }
  async function* items(ask: (token: string | undefined) => Promise<unknown>, field: string): AsyncGenerator {
    for await (const page of pages(ask, field)) yield* page;
  }
  const byGet = (path: string, query: MlflowQuery) => (token: string | undefined) => client.get(`${API}/${path}`, { ...query, page_token: token });
  const byPost = (path: string, body: Page) => (token: string | undefined) =>
    client.post(`${API}/${path}`, { ...body, ...(token === undefined ? {} : { page_token: token }) });

  interface Place {
    readonly list: (folder: string) => AsyncIterable<Entry>;
    readonly open: (path: string) => Promise<AsyncIterable<Uint8Array>>;
  }
  /** Through the server's own artifact store, where the files lie there; else through what it reads for its pages. */
  const placeOf = (owner: FileOwner): Place | null => {
    const root = folderOf(owner.root);
    if (root !== null && root !== '')
      return {
        async *list(folder) {
          const found = items((token) => client.get(PROXY, { path: folder === '' ? root : `${root}/${folder}`, page_token: token }), 'files');
          for await (const entry of found as AsyncIterable<Entry>) yield { ...entry, path: folder === '' ? entry.path : `${folder}/${entry.path}` };
        },
        open: (path) => client.download(`${PROXY}/${encoded(root)}/${encoded(path)}`),
      };
    if (owner.kind === 'version') return null;
    const { id } = owner;
    if (owner.kind === 'run')
      return {
        list: (folder) => items(byGet('artifacts/list', { run_id: id, path: folder === '' ? undefined : folder }), 'files') as AsyncIterable<Entry>,
        open: (path) => client.download('/get-artifact', { run_uuid: id, path }),
      };
    return {
      list: (folder) =>
        items(
          byGet(`logged-models/${id}/artifacts/directories`, { artifact_directory_path: folder === '' ? undefined : folder }),
          'files',
        ) as AsyncIterable<Entry>,
      open: (path) => client.download(`/ajax-api/2.0/mlflow/logged-models/${id}/artifacts/files`, { artifact_file_path: path }),
    };
  };

  return {
    name: client.address,
    experiments: () => items(byPost('experiments/search', { max_results: RECORDS_A_PAGE, view_type: 'ALL', order_by: ['experiment_id ASC'] }), 'experiments'),
    runs: (experimentId) =>
      items(
        // new runs come at the end: none of the others moves to another page
        byPost('runs/search', { experiment_ids: [experimentId], run_view_type: 'ALL', max_results: RUNS_A_PAGE, order_by: ['attributes.start_time ASC'] }),
        'runs',
      ),
    history: (runId, key) => pages(byGet('metrics/get-history', { run_id: runId, metric_key: key, max_results: POINTS_A_PAGE }), 'metrics'),
    async *loggedModels(experimentId) {
      const body = { experiment_ids: [experimentId], max_results: RECORDS_A_PAGE / 2, order_by: [{ field_name: 'creation_timestamp', ascending: true }] };
      try {
        yield* items(byPost('logged-models/search', body), 'models');
      } catch (error) {
        // servers before MLflow 3 have none
        if (!isMissing(error)) throw error;
      }
    },
    models: () => items(byGet('registered-models/search', { max_results: RECORDS_A_PAGE }), 'registered_models'),
    versions: (model) => items(byGet('model-versions/search', { filter: `name=${quoted(model)}`, max_results: RECORDS_A_PAGE }), 'model_versions'),
    async *files(owner) {
      const place = placeOf(owner);
      if (place === null) return;
      async function* below(folder: string, depth: number): AsyncGenerator<SourceFile> {
        if (depth > MOST_DEPTH) throw new MillraceError('INVALID_REQUEST', `Folders of artifacts lie in each other more than ${String(MOST_DEPTH)} deep.`);
        for await (const entry of (place as Place).list(folder)) {
          if (folder !== '' && !entry.path.startsWith(`${folder}/`))
            throw new MillraceError('INVALID_REQUEST', `The MLflow server names ${entry.path} as a file of the folder ${folder}.`);
          if (entry.is_dir === true) yield* below(entry.path, depth + 1);
          else
            yield {
              path: entry.path,
              ...(entry.file_size === undefined ? {} : { sizeBytes: Number(entry.file_size) }),
              open: () => (place as Place).open(entry.path),
            };
        }
      }
      try {
        yield* below('', 0);
      } catch (error) {
        // nothing was ever logged there
        if (!isMissing(error)) throw error;
      }
    },
  };
}
