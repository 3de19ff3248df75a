import { z } from 'zod';

/** SHA-256 in hex: the name of an artifact. */
export const Sha256Schema = z.string().regex(/^[0-9a-f]{64}$/, 'must be a SHA-256 in hex');
/** A run's own id: 32 hex digits, made in the run's first activity; also the MLflow run id. */
export const RunIdSchema = z.string().regex(/^[0-9a-f]{32}$/, 'must be 32 hex digits');
/** Names of pipelines, models, endpoints, datasets, gates: they stand in URLs, workflow ids and paths. */
export const NameSchema = z.string().regex(/^[a-zA-Z][a-zA-Z0-9_-]{0,99}$/, 'must start with a letter and have at most 100 letters, digits, - or _');

export type Sha256 = z.infer<typeof Sha256Schema>;
export type RunId = z.infer<typeof RunIdSchema>;
