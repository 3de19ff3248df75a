import { and, desc, eq, lt } from 'drizzle-orm';
import { MillraceError } from '../contracts/errors.ts';
import { writeAudit } from './audit.ts';
import { type Database, onlyRow, storable } from './database.ts';
import { type COMMENT_KINDS, comments, runs, versions } from './schema.ts';

/** What people say of runs and versions. A comment stays as it was written. */
export type CommentRecord = typeof comments.$inferSelect;
export type CommentKind = (typeof COMMENT_KINDS)[number];
export type CommentSubject = { readonly run: string } | { readonly model: string; readonly version: number };

const placeOf = (of: CommentSubject): { readonly kind: CommentKind; readonly subject: string } =>
  'run' in of ? { kind: 'run', subject: of.run } : { kind: 'version', subject: `${of.model}/${String(of.version)}` };

export function createCommentsStore({ orm }: Database) {
  return {
    /** @throws NOT_FOUND for a run or version that is not there */
    async add({ of, who, text }: { readonly of: CommentSubject; readonly who: string; readonly text: string }): Promise<CommentRecord> {
      return orm.transaction(async (tx) => {
        const there =
          'run' in of
            ? await tx.select({ id: runs.id }).from(runs).where(eq(runs.id, of.run))
            : await tx
                .select({ id: versions.version })
                .from(versions)
                .where(and(eq(versions.model, of.model), eq(versions.version, of.version)));
        if (there.length === 0)
          throw new MillraceError('NOT_FOUND', 'run' in of ? `There is no run ${of.run}.` : `There is no version ${String(of.version)} of model ${of.model}.`);
        const made = onlyRow(
          await tx
            .insert(comments)
            .values({ ...placeOf(of), ...storable({ who, text }) })
            .returning(),
        );
        await writeAudit(tx, {
          action: 'comment.add',
          subject: 'run' in of ? `runs/${of.run}` : `models/${of.model}/versions/${String(of.version)}`,
          who,
          details: { text },
        });
        return made;
      });
    },

    /** Newest first. Default limit 50, at most 1,000; `before` is the `id` of the last one of the page before. */
    async list({
      of,
      limit = 50,
      before,
    }: {
      readonly of: CommentSubject;
      readonly limit?: number;
      readonly before?: number;
    }): Promise<readonly CommentRecord[]> {
      const { kind, subject } = placeOf(of);
      return orm
        .select()
        .from(comments)
        .where(and(eq(comments.kind, kind), eq(comments.subject, subject), before === undefined ? undefined : lt(comments.id, before)))
        .orderBy(desc(comments.id))
        .limit(Math.min(limit, 1_000));
    },
  };
}
export type CommentsStore = ReturnType<typeof createCommentsStore>;
