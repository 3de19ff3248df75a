import { and, asc, eq, gt, lt, sql } from 'drizzle-orm';
import { MillraceError } from '../contracts/errors.ts';
import type { Database, Executor } from './database.ts';
import { artifactFiles } from './schema.ts';

/**
 * Files of MLflow's clients: paths that name artifacts. There are no folders of their own: one is there while a file lies in it.
 *
 * Invariants:
 * 1. A path is written when its bytes are whole in the artifact store, in one statement: it names all of a file or is not there.
 * 2. A path is a file or a folder, never both.
 */
export type ArtifactFile = typeof artifactFiles.$inferSelect;

export interface ArtifactEntry {
  /** The last part of its path. */
  readonly name: string;
  readonly isFolder: boolean;
  /** 0 for a folder. */
  readonly sizeBytes: number;
}

/** What sorts right behind everything below a folder: `/` is followed by `0`. */
const below = (folder: string) => (folder === '' ? undefined : and(gt(artifactFiles.path, `${folder}/`), lt(artifactFiles.path, `${folder}0`)));

async function refuseClash(tx: Executor, path: string): Promise<void> {
  const [inside] = await tx.select({ path: artifactFiles.path }).from(artifactFiles).where(below(path)).limit(1);
  if (inside !== undefined) throw new MillraceError('INVALID_REQUEST', `${path} is a folder: a file cannot take its place.`);
  const parts = path.split('/');
  for (let depth = 1; depth < parts.length; depth++) {
    const folder = parts.slice(0, depth).join('/');
    const [file] = await tx.select({ path: artifactFiles.path }).from(artifactFiles).where(eq(artifactFiles.path, folder));
    if (file !== undefined) throw new MillraceError('INVALID_REQUEST', `${folder} is a file: nothing can lie in it.`);
  }
}

export function createArtifactFilesStore({ orm }: Database) {
  return {
    /** Names an artifact; a file that was there is replaced. @throws INVALID_REQUEST where a folder has the path, or a file a folder's */
    async put(file: { readonly path: string; readonly sha256: string; readonly sizeBytes: number }): Promise<void> {
      await orm.transaction(async (tx) => {
        // clients that write below one root at once are taken one by one: neither of two that clash misses the other
        await tx.execute(sql`select pg_advisory_xact_lock(hashtextextended(${file.path.split('/').slice(0, 2).join('/')}, 7400))`);
        await refuseClash(tx, file.path);
        await tx
          .insert(artifactFiles)
          .values(file)
          .onConflictDoUpdate({ target: artifactFiles.path, set: { sha256: file.sha256, sizeBytes: file.sizeBytes, updatedAt: sql`now()` } });
      });
    },

    /** @throws INVALID_REQUEST where `put` would */
    async requireFree(path: string): Promise<void> {
      await refuseClash(orm, path);
    },

    async find(path: string): Promise<ArtifactFile | null> {
      return (await orm.select().from(artifactFiles).where(eq(artifactFiles.path, path)))[0] ?? null;
    },

    /** What lies right in a folder, by name; a folder that is not there is empty. */
    async list(folder: string): Promise<readonly ArtifactEntry[]> {
      const from = folder === '' ? 1 : folder.length + 2;
      const { rows } = await orm.execute<{ name: string; size: string; folder: boolean }>(sql`
        select split_part(rest, '/', 1) as name, bool_or(position('/' in rest) > 0) as folder, coalesce(sum(size_bytes) filter (where position('/' in rest) = 0), 0) as size
        from (select substring(path from ${from}::int) as rest, size_bytes from artifact_files where ${below(folder) ?? sql`true`}) as files
        group by 1 order by 1`);
      return rows.map(({ name, folder: isFolder, size }) => ({ name, isFolder, sizeBytes: isFolder ? 0 : Number(size) }));
    },

    /** Every file below a folder, by path. At most `limit`; `after` is the last path of the page before. */
    async walk(folder: string, input: { readonly limit: number; readonly after?: string }): Promise<readonly ArtifactFile[]> {
      return orm
        .select()
        .from(artifactFiles)
        .where(and(below(folder), input.after === undefined ? undefined : gt(artifactFiles.path, input.after)))
        .orderBy(asc(artifactFiles.path))
        .limit(input.limit);
    },

    /** Removes a file, or all below a folder. How many files it was. */
    async remove(path: string): Promise<number> {
      const { rowCount } = await orm.delete(artifactFiles).where(sql`${artifactFiles.path} = ${path} or (${below(path) ?? sql`false`})`);
      return rowCount ?? 0;
    },
  };
}
export type ArtifactFilesStore = ReturnType<typeof createArtifactFilesStore>;
