import { askRetraining } from './ask-retraining.ts';
import type { ActivityDependencies } from './dependencies.ts';
import { toActivityFailure } from './failure.ts';
import type { TriggerActivities } from './types.ts';

/** What the workflow that schedules start does in the world: ask a controller. */
export function createTriggerActivities(deps: Pick<ActivityDependencies, 'client' | 'log'>): TriggerActivities {
  return {
    askRetraining: async ({ pipeline, request }) => {
      try {
        await askRetraining(deps, pipeline, request);
      } catch (error) {
        throw toActivityFailure(error, 1, (original) => {
          deps.log('error', 'a retraining could not be asked for', {
            error: original instanceof Error ? (original.stack ?? original.message) : String(original),
          });
        });
      }
    },
  };
}
