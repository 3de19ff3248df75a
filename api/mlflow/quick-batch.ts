import { LAST_MS, MOST_KEY, MOST_PARAM_VALUE, MOST_TAG_VALUE } from './limits.ts';

/**
 * What clients log nearly always, read by hand: a schema makes several objects of each point, which is most of what a batch of a
 * thousand costs. Whatever is not of the plainest shape is left to the schema, which also says what is wrong with it.
 */
type Fields = Readonly<Record<string, unknown>>;

interface PlainPoint {
  readonly key: string;
  readonly value: number;
  readonly atMs: number;
  readonly step: number;
}
interface PlainPair {
  readonly key: string;
  readonly value: string;
}

/** Letters, digits and signs of keys, in parts that are neither empty nor `.` nor `..`. */
const PLAIN_KEY = /^(?!\.{1,2}(?:\/|$))[\w.\- :]+(?:\/(?!\.{1,2}(?:\/|$))[\w.\- :]+)*$/;
const isAbsent = (value: unknown): boolean => value === undefined || value === null;
const isPlainKey = (key: unknown): key is string => typeof key === 'string' && key.length <= MOST_KEY && PLAIN_KEY.test(key);

function plainPoint(given: unknown): PlainPoint | undefined {
  if (typeof given !== 'object' || given === null) return undefined;
  const { key, value, timestamp, step, model_id, dataset_name, dataset_digest } = given as Fields;
  if (!isPlainKey(key) || typeof value !== 'number' || !Number.isFinite(value)) return undefined;
  if (typeof timestamp !== 'number' || !Number.isSafeInteger(timestamp) || timestamp < 0 || timestamp > LAST_MS) return undefined;
  if (!isAbsent(model_id) || !isAbsent(dataset_name) || !isAbsent(dataset_digest)) return undefined;
  if (isAbsent(step)) return { key, value, atMs: timestamp, step: 0 };
  return typeof step === 'number' && Number.isSafeInteger(step) ? { key, value, atMs: timestamp, step } : undefined;
}

function plainPair(given: unknown, longest: number): PlainPair | undefined {
  if (typeof given !== 'object' || given === null) return undefined;
  const { key, value } = given as Fields;
  return isPlainKey(key) && typeof value === 'string' && value.length <= longest && !/\u0000|[\uD800-\uDFFF]/u.test(value) ? { key, value } : undefined;
}

/** All of them, or undefined where one is not plain. */
function plainList<Item>(given: unknown, item: (one: unknown) => Item | undefined): readonly Item[] | undefined {
  if (isAbsent(given)) return [];
  if (!Array.isArray(given)) return undefined;
  const items: Item[] = [];
  for (const one of given as readonly unknown[]) {
    const plain = item(one);
    if (plain === undefined) return undefined;
    items.push(plain);
  }
  return items;
}

/** The run that old clients name `run_uuid` too; undefined where it is not named by `run_id`. */
function plainRun({ run_id, run_uuid }: Fields): string | undefined {
  return typeof run_id === 'string' && /^\w+$/.test(run_id) && (isAbsent(run_uuid) || run_uuid === run_id) ? run_id : undefined;
}

/** A request of `log-metric`. */
export function quickPoint(request: Fields): (PlainPoint & { readonly runId: string }) | undefined {
  const runId = plainRun(request);
  const point = runId === undefined ? undefined : plainPoint(request);
  return runId === undefined || point === undefined ? undefined : { runId, ...point };
}

/** A request of `log-batch`. */
export function quickBatch(request: Fields) {
  const runId = plainRun(request);
  if (runId === undefined) return undefined;
  const metrics = plainList(request['metrics'], plainPoint);
  const params = plainList(request['params'], (one) => plainPair(one, MOST_PARAM_VALUE));
  const tags = plainList(request['tags'], (one) => plainPair(one, MOST_TAG_VALUE));
  return metrics === undefined || params === undefined || tags === undefined ? undefined : { runId, metrics, params, tags };
}
