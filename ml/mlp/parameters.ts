import { z } from 'zod';

/** Settings of the trainer `mlp`: a fully connected network with ReLU between its layers, trained with Adam. */
export const MlpParametersSchema = z.strictObject({
  hidden: z.array(z.number().int().min(1).max(4096)).max(8).default([64]).describe('Units of each hidden layer. An empty list is a linear model.'),
  epochs: z.number().int().min(1).max(10_000).default(20).describe('Most passes over the training rows.'),
  batchSize: z.number().int().min(1).max(1_000_000).default(256),
  learningRate: z.number().positive().max(10).default(1e-3),
  l2: z.number().min(0).default(1e-5).describe('Penalty l2/2 · ‖w‖² beside the mean loss, on weights, not on biases.'),
  earlyStoppingEpochs: z
    .number()
    .int()
    .min(0)
    .max(10_000)
    .default(3)
    .describe('Stop when the validation loss has not improved for so many epochs, and keep the best. 0: never. Needs validation rows.'),
});
export type MlpParameters = z.output<typeof MlpParametersSchema>;
