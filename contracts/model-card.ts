import { z } from 'zod';
import { EvaluationReportSchema } from './evaluation.ts';
import { Sha256Schema } from './ids.ts';
import { SignatureColumnSchema, SignatureSchema } from './signature.ts';
import { TuningHistorySchema, TrialRecordSchema } from './tuning.ts';

/**
 * What is known of a version when it is registered, as it lies in the artifact store: a page is drawn from it, and from
 * nothing else.
 *
 * Invariants:
 * 1. No value of a personal column is in it: not of one that was declared, and not of one that looks it.
 * 2. Figures are those that the stages left; none is computed anew.
 */
const FactsSchema = z.record(z.string(), z.unknown());

/** A rule that had to hold before the version was registered. */
export const CardRuleSchema = z.object({
  /** `auc at least 0.8`. */
  rule: z.string(),
  /** What was found; null where there was nothing to hold the rule against. */
  found: z.string().nullable(),
  /** `warns`: it did not hold, and was one that lets pass. */
  state: z.enum(['holds', 'warns', 'fails']),
});
export type CardRule = z.infer<typeof CardRuleSchema>;

/** A column that the model reads: how it came to be, and what its values in the training rows were like. */
export const CardColumnSchema = z.object({
  ...SignatureColumnSchema.shape,
  /** Hashed or masked at ingest; `undeclared`: no one said so, and its values look personal. Null: neither. */
  personal: z.enum(['hash', 'mask', 'undeclared']).nullable(),
  /** What made it, where no request can be given it as the training rows were. */
  unserved: z.string().nullable(),
  /** The feature view that it is looked up in, when a request names its entity. */
  view: z.string().nullable(),
  /** Null where the training rows have no profile, or none of this column. */
  training: z
    .object({
      rows: z.number(),
      nulls: z.number(),
      distinct: z.number(),
      /** Least, median and greatest: numbers, or UTC ISO instants without a median. None of texts and personal columns. */
      range: z.tuple([z.union([z.number(), z.string()]), z.number().nullable(), z.union([z.number(), z.string()])]).nullable(),
    })
    .nullable(),
});
export type CardColumn = z.infer<typeof CardColumnSchema>;

export const ModelCardSchema = z.object({
  format: z.literal('millrace-card/1'),
  model: z.string(),
  version: z.number().int(),
  description: z.string().nullable(),
  owner: z.string().nullable(),
  /** As the pipeline states it: task, decision, outcome, … */
  purpose: FactsSchema.nullable(),
  /** UTC ISO. */
  createdAt: z.string(),
  predictor: Sha256Schema,
  onnxSizeBytes: z.number(),
  run: z.object({ id: z.string(), pipeline: z.string(), commit: z.string().nullable(), clean: z.boolean().nullable(), build: z.string().nullable() }),
  task: SignatureSchema.shape.task,
  /** Binary: answered as positive from this probability on. Else null. */
  threshold: z.number().nullable(),
  trainer: z.object({ name: z.string(), parameters: z.unknown() }),
  /** How it was trained; null for a file from elsewhere, or when its stage was not found. */
  training: z
    .object({
      seed: z.number(),
      rows: z.number(),
      /** Rows that the training part had. */
      ofRows: z.number(),
      device: z.string().nullable(),
      cpuSeconds: z.number().nullable(),
      peakMib: z.number().nullable(),
      /** The predictor that it went on from. */
      from: Sha256Schema.nullable(),
      /** By name: kind of feature and the columns that it reads. */
      features: z.array(z.object({ name: z.string(), kind: z.string(), columns: z.array(z.string()) })),
    })
    .nullable(),
  data: z.array(z.object({ role: z.enum(['snapshot', 'training', 'validation', 'test']), id: Sha256Schema, name: z.string(), rows: z.number() })),
  columns: z.array(CardColumnSchema),
  importance: z.array(z.object({ feature: z.string(), share: z.number() })),
  /** Candidates that validation compared, the best first. */
  selection: z
    .object({
      metric: z.string(),
      scores: z.array(
        z.object({ trainer: z.string(), value: z.number(), chosen: z.boolean(), /** The chief ones. */ metrics: z.record(z.string(), z.number()).optional() }),
      ),
    })
    .nullable(),
  evaluation: EvaluationReportSchema.nullable(),
  /** Slices by these were left out: their values are personal. */
  hiddenSlices: z.array(z.string()),
  rules: z.array(CardRuleSchema),
  tuning: TuningHistorySchema.pick({ metric: true, direction: true, seed: true, parameters: true, best: true })
    .extend({ search: z.string(), trials: z.array(TrialRecordSchema.pick({ trial: true, state: true, values: true, value: true, seconds: true })) })
    .nullable(),
  environment: z.record(z.string(), z.string()),
  /** The page (artifact, HTML); null where it could not be drawn. */
  page: Sha256Schema.nullable(),
});
export type ModelCard = z.infer<typeof ModelCardSchema>;
export type CardTuning = NonNullable<ModelCard['tuning']>;
