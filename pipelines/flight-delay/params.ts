import { z } from 'zod';

export const FlightDelayParams = z.object({
  source: z
    .string()
    .default('package:vega-datasets/data/flights-3m.parquet')
    .describe('Parquet file of flights: date, delay (minutes), distance (miles), origin, destination.'),
  delayedAfterMinutes: z.number().min(0).max(1_000).default(15).describe('A flight is delayed when it is later than this.'),
  treeRows: z.number().int().min(1_000).default(500_000).describe('Rows the trees are trained on, drawn at random from the training part.'),
  trees: z.number().int().min(1).max(2_000).default(60),
  networkRows: z.number().int().min(1_000).default(20_000).describe('Rows the network is trained on: tf.js on a CPU is slow.'),
  seed: z.number().int().min(0).default(7),
  environment: z.enum(['development', 'production']).default('development'),
  endpoint: z.string().default('flight-delay'),
  bakeSeconds: z.number().min(0).max(86_400).default(5).describe('How long each canary step is watched.'),
  leastAuc: z.number().min(0).max(1).default(0.6).describe('The model must be at least this good on the latest flights.'),
});
