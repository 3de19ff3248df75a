import { z } from 'zod';
import { FeatureLookupSchema } from './feature-lookup.ts';
import { Sha256Schema } from './ids.ts';
import { RowTransformSchema } from './row-transforms.ts';

/**
 * The predictor is one thing: raw columns → row transforms → ONNX graph. Its signature says how a request's row gets
 * into the graph and what comes out; it is stored and hashed together with the graph.
 *
 * Invariants:
 * 1. The graph takes at most three inputs: `numbers` FLOAT [N, a], `dates` INT64 [N, b] (milliseconds since 1970 UTC;
 *    null is the least int64), `strings` STRING [N, c] (null is the text `\u0000`), and gives `output` FLOAT [N, K].
 *    An input with no columns is left out.
 * 2. `graph.*` names the columns after the transforms, in the order in which they are packed.
 * 3. `columns` names the raw columns that a request carries: exactly those that the transforms and the graph need.
 */
export const SignatureColumnSchema = z.object({ name: z.string(), type: z.enum(['number', 'integer', 'boolean', 'string', 'timestamp', 'date']) });
export const SignatureSchema = z.object({
  columns: z.array(SignatureColumnSchema),
  transforms: z.array(RowTransformSchema),
  graph: z.object({ numbers: z.array(z.string()), dates: z.array(z.string()), strings: z.array(z.string()) }),
  task: z.discriminatedUnion('kind', [
    /** `classes[k]` is the text of class k; for binary, class 1 is the positive one. */
    z.object({ kind: z.literal('binary'), target: z.string(), classes: z.array(z.string()).length(2) }),
    z.object({ kind: z.literal('multiclass'), target: z.string(), classes: z.array(z.string()).min(2) }),
    /** With `group`, a ranking: `output` is a score, the higher the further up among the rows that agree in that column. */
    z.object({ kind: z.literal('regression'), target: z.string(), group: z.string().optional() }),
    /** A bare ONNX file registered as it is: `output` is answered as it comes. */
    z.object({ kind: z.literal('raw') }),
  ]),
  /** For binary: probability of the positive class from which on it is answered. Chosen on validation. */
  threshold: z.number().min(0).max(1).default(0.5),
});
export type Signature = z.infer<typeof SignatureSchema>;

/** A predictor as it lies in the artifact store (JSON; its SHA-256 is the predictor's id). */
export const PredictorSchema = z.object({
  format: z.literal('millrace-predictor/1'),
  onnx: Sha256Schema,
  onnxSizeBytes: z.number().int().nonnegative(),
  signature: SignatureSchema,
  trainer: z.object({ name: z.string(), parameters: z.unknown() }),
  /** The predictor that its training went on from. */
  from: Sha256Schema.optional(),
  /** Profile of the training split (artifact), which monitoring compares with. Null for a bare ONNX file. */
  trainingProfile: Sha256Schema.nullable(),
  /** Rows with the output the graph must give for them, to 1e-4; checked before a version gets traffic. */
  sample: z.object({ rows: z.array(z.record(z.string(), z.unknown())), output: z.array(z.array(z.number())) }),
  importance: z.array(z.object({ feature: z.string(), share: z.number() })),
  /** Columns that the graph reads and no request can be given as the training rows were: column → what made or changed it. */
  unserved: z.record(z.string(), z.string()).default({}),
  /** Raw columns that a request may leave out when it names their entities. */
  lookups: z.array(FeatureLookupSchema).default([]),
});
export type Predictor = z.infer<typeof PredictorSchema>;
