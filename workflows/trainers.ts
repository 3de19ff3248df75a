import type { z } from 'zod';
import type { CommandTrainerSchema, PythonTrainerSchema } from '../contracts/external-trainer.ts';
import type { TrainerSpec } from '../contracts/stages.ts';
import type { GbdtParameters } from '../ml/gbdt/parameters.ts';
import type { LinearParameters } from '../ml/linear/parameters.ts';
import type { MlpParameters } from '../ml/mlp/parameters.ts';

/** Gradient boosted trees, histogram-based. */
export const gbdt = (parameters: Partial<GbdtParameters> = {}): TrainerSpec => ({ name: 'gbdt', parameters });
/** Logistic, softmax or ridge regression, dense or sparse. */
export const linear = (parameters: Partial<LinearParameters> = {}): TrainerSpec => ({ name: 'linear', parameters });
/** A feed-forward network. */
export const mlp = (parameters: Partial<MlpParameters> = {}): TrainerSpec => ({ name: 'mlp', parameters });
/**
 * A Python script, by the contract of docs/training.md: it reads the task file that MILLRACE_TASK names and writes
 * `model.onnx`. Its packages come from a requirements file.
 */
export const python = (trainer: z.input<typeof PythonTrainerSchema>): TrainerSpec => ({ name: 'python', parameters: trainer });
/** Any other program under the same contract. */
export const command = (trainer: z.input<typeof CommandTrainerSchema>): TrainerSpec => ({ name: 'command', parameters: trainer });
