import { and, desc, eq, lt } from 'drizzle-orm';
import { type Database, onlyRow, storable } from './database.ts';
import { retrainings } from './schema.ts';

/** The ledger of retraining: each trigger, and what came of it. Lines are added, never changed, but for the run they started. */
export type RetrainingRecord = typeof retrainings.$inferSelect;

export interface RetrainingDraft {
  readonly pipeline: string;
  /** Unique in its pipeline; the same key again writes nothing. */
  readonly key: string;
  readonly trigger: unknown;
  readonly reasons: readonly string[];
  /** `started`, `queued`, `merged`, `coolingDown`, `overBudget`, `paused`, … */
  readonly decision: string;
  readonly runId?: string;
  /** UTC ISO. Default now. */
  readonly at?: string;
}

export function createRetrainingStore({ orm }: Database) {
  return {
    /** Adds a line, or gives the one that is there under its key. */
    async append(draft: RetrainingDraft): Promise<RetrainingRecord> {
      const { at, ...rest } = draft;
      await orm
        .insert(retrainings)
        .values({
          ...rest,
          trigger: storable(rest.trigger ?? {}),
          reasons: storable(rest.reasons),
          runId: rest.runId ?? null,
          ...(at === undefined ? {} : { at }),
        })
        .onConflictDoNothing();
      return onlyRow(
        await orm
          .select()
          .from(retrainings)
          .where(and(eq(retrainings.pipeline, draft.pipeline), eq(retrainings.key, draft.key))),
      );
    },

    /** Newest first. `before` is the id of the last one of the page before; default limit 50, at most 1,000. */
    async list(input: { readonly pipeline?: string; readonly limit?: number; readonly before?: number } = {}): Promise<readonly RetrainingRecord[]> {
      return orm
        .select()
        .from(retrainings)
        .where(
          and(
            input.pipeline === undefined ? undefined : eq(retrainings.pipeline, input.pipeline),
            input.before === undefined ? undefined : lt(retrainings.id, input.before),
          ),
        )
        .orderBy(desc(retrainings.id))
        .limit(Math.min(input.limit ?? 50, 1_000));
    },
  };
}
export type RetrainingStore = ReturnType<typeof createRetrainingStore>;
