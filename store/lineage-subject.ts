import { MillraceError } from '../contracts/errors.ts';
import type { AnsweredRequest, LineageSubject } from '../contracts/lineage.ts';
import type { Store } from './store.ts';

/** Finds a request in the prediction logs; `endpoint` where it is known whose. Null: no log has it. */
export type FindRequest = (requestId: string, endpoint: string | null) => Promise<AnsweredRequest | null>;

const KINDS = ['run', 'dataset', 'model', 'endpoint', 'source', 'request'] as const;
/** As prediction servers make them, and as clients do that send their own. */
const REQUEST = /^(?:[0-9a-f]{34}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$/i;
const RUN = /^[0-9a-f]{32}$/;
const RUN_PREFIX = /^[0-9a-f]{6,31}$/;
const VERSION = /^(.+?)(?:\/|@)([^/@]+)$/;

type Records = Pick<Store, 'runs' | 'datasets' | 'models' | 'endpoints' | 'lineage'>;

/**
 * What a text names: a request's id, a run's, `model/3` or `model@champion`, an endpoint, a model (its champion, or the
 * newest), a dataset as `datasets show` takes it, or the path of a source. Where names meet, the first of these is meant;
 * `run:`, `dataset:`, `model:`, `endpoint:`, `source:` and `request:` before it say which.
 * @throws NOT_FOUND; INVALID_REQUEST when a shortened hash fits several
 */
export async function findSubject(store: Records, text: string, findRequest: FindRequest): Promise<LineageSubject> {
  const [, prefix, rest = ''] = /^([a-z]+):([^]+)$/.exec(text) ?? [];
  const kind = KINDS.find((one) => one === prefix);
  const found = kind === undefined ? await anyOf(store, text, findRequest) : await named(store, kind, rest, findRequest);
  if (found !== null) return found;
  throw new MillraceError('NOT_FOUND', kind === undefined ? `Nothing is known under ${text}.` : `There is no ${kind} ${rest}.`, {
    fix: 'Give the id of a request (its answer has it as `requestId`), of a run or of a dataset, `model/3`, `model@champion`, an endpoint, or the path of a source.',
  });
}

async function anyOf(store: Records, text: string, findRequest: FindRequest): Promise<LineageSubject | null> {
  const order = REQUEST.test(text)
    ? (['request'] as const)
    : RUN.test(text)
      ? (['run', 'request'] as const)
      : (['endpoint', 'model', 'dataset', 'run', 'source', 'request'] as const);
  for (const kind of order) {
    const found = await named(store, kind, text, findRequest);
    if (found !== null) return found;
  }
  return null;
}

async function named(store: Records, kind: (typeof KINDS)[number], text: string, findRequest: FindRequest): Promise<LineageSubject | null> {
  switch (kind) {
    case 'run': {
      const run = RUN.test(text) ? await store.runs.find(text) : ((await store.runs.findByWorkflow(text)) ?? (await runOfPrefix(store, text)));
      return run === null ? null : { kind, run: run.id };
    }
    case 'dataset': {
      const dataset = await orNull(store.datasets.find(text));
      return dataset === null ? null : { kind, dataset: dataset.id };
    }
    case 'model': {
      const [, model, version] = VERSION.exec(text) ?? [];
      const row =
        (await store.models.find(text)) !== null
          ? await orNull(store.models.versionNamed(text))
          : model === undefined || version === undefined || (await store.models.find(model)) === null
            ? null
            : await orNull(store.models.versionNamed(model, version));
      return row === null ? null : { kind: 'version', model: row.model, version: row.version };
    }
    case 'endpoint':
      return (await store.endpoints.find(text)) === null ? null : { kind, endpoint: text };
    case 'source':
      return (await store.lineage.knowsSource(text)) ? { kind, path: text } : null;
    case 'request': {
      const prediction = await findRequest(text, await store.lineage.endpointOf(text));
      return prediction === null ? null : { kind: 'prediction', prediction };
    }
  }
}

async function runOfPrefix(store: Records, text: string) {
  if (!RUN_PREFIX.test(text)) return null;
  const [only, another] = await store.runs.findByPrefix(text);
  if (another !== undefined) throw new MillraceError('INVALID_REQUEST', `${text} fits several runs.`, { fix: 'Give more digits.' });
  return only ?? null;
}

/** What is asked for may not be there; every other failure goes on. */
async function orNull<T>(found: Promise<T>): Promise<T | null> {
  try {
    return await found;
  } catch (error) {
    if (error instanceof MillraceError && error.code === 'NOT_FOUND') return null;
    throw error;
  }
}
