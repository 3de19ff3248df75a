import { MillraceError } from './errors.ts';

/** The version's predictor (SHA-256). @throws MODEL_INVALID for one that an MLflow client registered, and no stage has taken over yet */
export function requirePredictor(of: { readonly model: string; readonly version: number; readonly predictor: string | null }): string {
  if (of.predictor !== null) return of.predictor;
  throw new MillraceError('MODEL_INVALID', `Version ${String(of.version)} of ${of.model} was registered by an MLflow client and is no predictor yet.`, {
    fix: `Take it over first, in a pipeline: registeredVersion('${of.model}@${String(of.version)}') makes a predictor of its ONNX file.`,
  });
}
