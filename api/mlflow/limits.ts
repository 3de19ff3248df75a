import { z } from 'zod';
import { double, int64, list, optional, text } from './operation.ts';

/** Names, lengths and numbers as MLflow's own server has them. */
export const MOST_METRICS = 1_000;
export const MOST_PARAMS_OR_TAGS = 100;
export const MOST_ENTITIES = 1_000;
export const MOST_BATCH_BYTES = 1_000_000;
export const MOST_TAG_VALUE = 8_000;
export const MOST_KEY = 250;
export const MOST_PARAM_VALUE = 6_000;
const MOST_EXPERIMENT_TAG_VALUE = 20_000;
const MOST_EXPERIMENT_NAME = 500;
/** The end of the year 9999: what comes later no date can say. */
export const LAST_MS = 253_402_300_799_999;

export const atMost = (what: string, most: number) =>
  text.refine((value) => value.length <= most, `exceeds the maximum length of ${most} characters (${what})`);

/** Whether a name would be another one if it were a path, as MLflow's own server would take it. */
function isPathLike(value: string): boolean {
  return value.startsWith('/') || value.endsWith('/') || value.split('/').some((part) => part === '' || part === '.' || part === '..');
}

const key = (what: string) =>
  atMost(what, MOST_KEY)
    .min(1, 'is missing: a key name must be provided')
    .regex(/^[/\p{L}\p{N}_.\- :]*$/u, 'may only contain alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), colon(:) and slashes (/)')
    .refine((value) => !isPathLike(value), 'may be treated as a file in certain cases, and must not resolve to another name when treated as such');

export const metricKey = key('Metric name');
export const paramKey = key('Param key');
export const tagKey = key('key');
export const paramValue = optional(atMost('Param value', MOST_PARAM_VALUE)).transform((value) => value ?? '');
export const tagValue = optional(atMost('value', MOST_TAG_VALUE)).transform((value) => value ?? '');
export const experimentTagValue = optional(atMost('value', MOST_EXPERIMENT_TAG_VALUE)).transform((value) => value ?? '');
export const experimentName = atMost('Experiment name', MOST_EXPERIMENT_NAME)
  .min(1, 'is missing')
  .refine((value) => value.trim() !== '', 'must not be empty');
export const milliseconds = int64.refine((value) => value >= 0 && value <= LAST_MS, `must be a number of milliseconds from 0 to ${LAST_MS}`);

export const metric = z
  .object({
    key: metricKey,
    value: double,
    timestamp: milliseconds,
    step: optional(int64),
    model_id: optional(text),
    dataset_name: optional(text),
    dataset_digest: optional(text),
  })
  .transform(({ timestamp, step, model_id, dataset_name, dataset_digest, ...point }) => ({
    ...point,
    atMs: timestamp,
    step: step ?? 0,
    ...(model_id === undefined || model_id === ''
      ? {}
      : {
          modelId: model_id,
          ...(dataset_name === undefined ? {} : { datasetName: dataset_name }),
          ...(dataset_digest === undefined ? {} : { datasetDigest: dataset_digest }),
        }),
  }));
export const param = z.object({ key: paramKey, value: paramValue });
export const tag = z.object({ key: tagKey, value: tagValue });
export const tagList = list(tag);

/** Keys that stand more than once. */
export function repeated(items: readonly { readonly key: string }[]): readonly string[] {
  const seen = new Set<string>();
  return items.filter(({ key: one }) => seen.size === seen.add(one).size).map(({ key: one }) => one);
}

export const toRecord = (items: readonly { readonly key: string; readonly value: string }[]): Readonly<Record<string, string>> =>
  Object.fromEntries(items.map(({ key: one, value }) => [one, value]));
