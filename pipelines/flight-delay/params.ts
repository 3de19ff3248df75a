import { z } from 'zod';

export const FlightDelayParams = z.object({
  /** Parquet file of flights: date, delay (minutes), distance (miles), origin, destination. */
  source: z.string().default('package:vega-datasets/data/flights-3m.parquet'),
  /** A flight is delayed when it is later than this. */
  delayedAfterMinutes: z.number().min(0).max(1_000).default(15),
  /** Rows the trees are trained on, drawn at random from the training part. */
  treeRows: z.number().int().min(1_000).default(500_000),
  trees: z.number().int().min(1).max(2_000).default(60),
  /** Rows the network is trained on: tf.js on a CPU is slow. */
  networkRows: z.number().int().min(1_000).default(20_000),
  seed: z.number().int().min(0).default(7),
  environment: z.enum(['development', 'production']).default('development'),
  endpoint: z.string().default('flight-delay'),
  /** How long each canary step is watched. */
  bakeSeconds: z.number().min(0).max(86_400).default(5),
  /** The model must be at least this good on the latest flights. */
  leastAuc: z.number().min(0).max(1).default(0.6),
});
