import { z } from 'zod';
import { MillraceError } from '../contracts/errors.ts';
import { describeVersion } from '../store/version-description.ts';
import { type Resource, resource } from './resource.ts';

/** Versions of models, whole. */
export const REGISTRY_RESOURCES: readonly Resource[] = [
  resource('/models/{model}/versions/{version}', {
    summary: 'A version by its number or an alias: hashes, signature, a sample of requests and answers, code, environment, tags, stage.',
    answers: 'object',
    params: {
      model: z.string().min(1).max(256).describe('Its name.'),
      version: z.string().min(1).max(300).describe('A number or an alias.'),
    },
    query: {},
    read: async (store, { model, version }, artifacts) => {
      if (artifacts === undefined) throw new MillraceError('NOT_FOUND', 'This API was started without an artifact store.');
      return describeVersion(store, artifacts, model, version);
    },
  }),
];
