import { z } from 'zod';
import { NameSchema, Sha256Schema } from './ids.ts';

/** The files of an exported version, beside the manifest. */
export const MODEL_FILES = {
  manifest: 'manifest.json',
  onnx: 'model.onnx',
  predictor: 'predictor.json',
  signature: 'signature.json',
  decisions: 'decisions.json',
} as const;

/**
 * A version as a folder that needs no Millrace: `model.onnx`, `predictor.json` (its signature with sample, importance and
 * origin, byte for byte as it was registered), `signature.json` (the same signature alone, for people), `decisions.json` where rules
 * came along, and this as `manifest.json`.
 */
export const ModelFolderSchema = z.object({
  format: z.literal('millrace-model/1'),
  model: NameSchema,
  version: z.number().int().positive(),
  /** SHA-256 of `predictor.json`: the predictor's id. */
  predictor: Sha256Schema,
  /** SHA-256 of `decisions.json`: rules that turn its predictions into actions, without control share and reviews. */
  decisions: Sha256Schema.optional(),
  /** Of Millrace. */
  exportedBy: z.string(),
  /** Whether rows are hashed by the project's key on their way: whoever predicts needs it then. It is not in the folder. */
  needsHashKey: z.boolean(),
  files: z.array(z.object({ path: z.string(), sha256: Sha256Schema, sizeBytes: z.number().int().nonnegative() })),
});
export type ModelFolder = z.infer<typeof ModelFolderSchema>;
