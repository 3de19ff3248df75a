import { and, desc, eq, getTableColumns, inArray, isNull, lt, sql } from 'drizzle-orm';
import { MillraceError } from '../contracts/errors.ts';
import type { ExperimentEvidence, LedgerWrite, ReadyTune } from '../contracts/retraining.ts';
import { type Database, onlyRow, storable } from './database.ts';
import { experimentRequests, retrainings } from './schema.ts';

/**
 * The ledger of retraining: a row for each trigger, with what became of it; and requests for experiments.
 *
 * Invariants:
 * 1. A trigger has one row, whoever writes it how often. A write that comes late, with a lower revision, changes nothing.
 * 2. Evidence is written with a trigger's first write, and stays.
 * 3. A pipeline has one open request for an experiment at most.
 */
export type RetrainingRecord = Omit<typeof retrainings.$inferSelect, 'revision'>;
export type ExperimentRequestRecord = typeof experimentRequests.$inferSelect;

export interface OpenExperimentInput {
  readonly pipeline: string;
  readonly workflowId: string;
  readonly because: string;
  readonly evidence: ExperimentEvidence;
  readonly tune: ReadyTune | null;
}

const triggerRowKey = (controller: string, number: number): string => `${controller}/${String(number)}`;

export function createRetrainingStore({ orm }: Database) {
  const { revision: _, ...shown } = getTableColumns(retrainings);
  return {
    /** Writes entries as they are now, in the order given. */
    async put({ pipeline, controller, revision, entries }: LedgerWrite): Promise<void> {
      if (entries.length === 0) return;
      await orm
        .insert(retrainings)
        .values(
          entries.map(({ entry, evidence }) => {
            const { key, ...rest } = entry;
            return {
              ...rest,
              reason: storable(rest.reason),
              because: storable(rest.because),
              source: storable(rest.source),
              condition: storable(rest.condition),
              triggerKey: storable(key),
              pipeline,
              key: triggerRowKey(controller, entry.number),
              evidence: storable(evidence ?? null),
              heldBy: rest.heldBy,
              revision,
            };
          }),
        )
        .onConflictDoUpdate({
          target: [retrainings.pipeline, retrainings.key],
          set: {
            times: sql`excluded.times`,
            fate: sql`excluded.fate`,
            because: sql`excluded.because`,
            heldBy: sql`excluded.held_by`,
            workflowId: sql`excluded.workflow_id`,
            runId: sql`excluded.run_id`,
            mergedInto: sql`excluded.merged_into`,
            settledAt: sql`excluded.settled_at`,
            timing: sql`excluded.timing`,
            revision: sql`excluded.revision`,
          },
          setWhere: sql`excluded.revision > ${retrainings.revision}`,
        });
    },

    /** Newest first. `before` is the id of the last one of the page before; default limit 50, at most 1,000. */
    async list(
      input: { readonly pipeline?: string; readonly workflowId?: string; readonly limit?: number; readonly before?: number } = {},
    ): Promise<readonly RetrainingRecord[]> {
      return orm
        .select(shown)
        .from(retrainings)
        .where(
          and(
            input.pipeline === undefined ? undefined : eq(retrainings.pipeline, input.pipeline),
            input.workflowId === undefined ? undefined : eq(retrainings.workflowId, input.workflowId),
            input.before === undefined ? undefined : lt(retrainings.id, input.before),
          ),
        )
        .orderBy(desc(retrainings.id))
        .limit(Math.min(input.limit ?? 50, 1_000));
    },

    /** One trigger, by its number; of a controller that was begun anew the newest. @throws NOT_FOUND */
    async get(pipeline: string, number: number): Promise<RetrainingRecord> {
      const [found] = await orm
        .select(shown)
        .from(retrainings)
        .where(and(eq(retrainings.pipeline, pipeline), eq(retrainings.number, number)))
        .orderBy(desc(retrainings.id))
        .limit(1);
      if (found === undefined)
        throw new MillraceError('NOT_FOUND', `The ledger of ${pipeline} has no trigger ${String(number)}.`, {
          fix: `\`millrace retrainings list ${pipeline}\` shows what there is.`,
        });
      return found;
    },

    /** The evidence of triggers of one controller, by their numbers; those that have none are left out. */
    async evidence(pipeline: string, controller: string, numbers: readonly number[]): Promise<ReadonlyMap<number, unknown>> {
      if (numbers.length === 0) return new Map();
      const found = await orm
        .select({ number: retrainings.number, evidence: retrainings.evidence })
        .from(retrainings)
        .where(
          and(
            eq(retrainings.pipeline, pipeline),
            inArray(
              retrainings.key,
              numbers.map((number) => triggerRowKey(controller, number)),
            ),
          ),
        );
      return new Map(found.filter((row) => row.evidence !== null).map((row) => [row.number, row.evidence]));
    },

    /** Opens a request, or gives the one that is open. */
    async openExperiment(input: OpenExperimentInput): Promise<ExperimentRequestRecord> {
      await orm
        .insert(experimentRequests)
        .values({ ...input, because: storable(input.because), evidence: storable<ExperimentEvidence>(input.evidence), tune: input.tune })
        .onConflictDoNothing();
      const [open] = await orm
        .select()
        .from(experimentRequests)
        .where(and(eq(experimentRequests.pipeline, input.pipeline), isNull(experimentRequests.closedAt)));
      if (open !== undefined) return open;
      return onlyRow(await orm.select().from(experimentRequests).where(eq(experimentRequests.workflowId, input.workflowId)));
    },

    /** Closes the pipeline's open request; null when there is none. `by` null: a retraining went well. */
    async closeExperiment(input: { readonly pipeline: string; readonly by: string | null; readonly comment: string }): Promise<ExperimentRequestRecord | null> {
      const [closed] = await orm
        .update(experimentRequests)
        .set({ closedAt: sql`now()`, closedBy: input.by, comment: storable(input.comment) })
        .where(and(eq(experimentRequests.pipeline, input.pipeline), isNull(experimentRequests.closedAt)))
        .returning();
      return closed ?? null;
    },

    /** Newest first. */
    async experiments(
      input: { readonly pipeline?: string; readonly open?: boolean; readonly limit?: number; readonly before?: number } = {},
    ): Promise<readonly ExperimentRequestRecord[]> {
      return orm
        .select()
        .from(experimentRequests)
        .where(
          and(
            input.pipeline === undefined ? undefined : eq(experimentRequests.pipeline, input.pipeline),
            input.open === true ? isNull(experimentRequests.closedAt) : undefined,
            input.before === undefined ? undefined : lt(experimentRequests.id, input.before),
          ),
        )
        .orderBy(desc(experimentRequests.id))
        .limit(Math.min(input.limit ?? 50, 1_000));
    },
  };
}
export type RetrainingStore = ReturnType<typeof createRetrainingStore>;
