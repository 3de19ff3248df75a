import { and, desc, eq, lt } from 'drizzle-orm';
import { MillraceError } from '../contracts/errors.ts';
import type { Database } from './database.ts';
import { datasets } from './schema.ts';
import type { DatasetDraft } from './stages.ts';

export type DatasetRecord = typeof datasets.$inferSelect;

export function createDatasetsStore({ orm }: Database) {
  return {
    /** Records a dataset under its manifest's hash; one that is there stays with the run that made it first. */
    async put(draft: DatasetDraft & { readonly runId?: string; readonly stage?: string }): Promise<void> {
      await orm
        .insert(datasets)
        .values({ ...draft, source: draft.source ?? null, runId: draft.runId ?? null, stage: draft.stage ?? null })
        .onConflictDoNothing();
    },

    /** @throws NOT_FOUND */
    async get(id: string): Promise<DatasetRecord> {
      const [dataset] = await orm.select().from(datasets).where(eq(datasets.id, id));
      if (dataset === undefined) throw new MillraceError('NOT_FOUND', `There is no dataset ${id}.`);
      return dataset;
    },

    /** Newest first. `before` is the `seq` of the last one of the page before; default limit 50, at most 1,000. */
    async list(input: { readonly name?: string; readonly limit?: number; readonly before?: number } = {}): Promise<readonly DatasetRecord[]> {
      return orm
        .select()
        .from(datasets)
        .where(
          and(input.name === undefined ? undefined : eq(datasets.name, input.name), input.before === undefined ? undefined : lt(datasets.seq, input.before)),
        )
        .orderBy(desc(datasets.seq))
        .limit(Math.min(input.limit ?? 50, 1_000));
    },
  };
}
export type DatasetsStore = ReturnType<typeof createDatasetsStore>;
