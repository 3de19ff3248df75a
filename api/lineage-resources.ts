import { z } from 'zod';
import { findSubject } from '../store/lineage-subject.ts';
import { type Resource, resource } from './resource.ts';

/** Where things come from and what came of them. */
export const LINEAGE_RESOURCES: readonly Resource[] = [
  resource('/lineage/{id}', {
    summary: 'Lineage of a request, run, version, dataset, endpoint or source, as nodes, edges and runs.',
    answers: 'object',
    // what one project read another one may have made
    everyProject: true,
    params: {
      id: z
        .string()
        .min(1)
        .max(2_000)
        .describe('A request id, a run, `model/3`, `model@champion`, a dataset, an endpoint, or the path of a source; a slash is written %2F.'),
    },
    query: { direction: z.enum(['up', 'down', 'both']).default('both').describe('`up`: where it comes from. `down`: what came of it.') },
    read: async (store, { id, direction }, _artifacts, { findRequest }) => store.lineage.of(await findSubject(store, id, findRequest), direction),
  }),
];
