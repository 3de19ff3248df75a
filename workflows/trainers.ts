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
