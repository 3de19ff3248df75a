import { desc, eq, sql } from 'drizzle-orm';
import type { Database } from './database.ts';
import { builds, type GitState } from './schema.ts';

export type BuildRecord = typeof builds.$inferSelect;

export interface BuildDraft {
  readonly id: string;
  readonly git: GitState;
  readonly pipelines: unknown;
  /** File name → SHA-256 of the artifact. */
  readonly bundles: Readonly<Record<string, string>>;
}

export function createBuildsStore({ orm }: Database) {
  return {
    /** Records a build, as the newest: a build is named by its content, and may come back when an edit is taken back. */
    async put(draft: BuildDraft): Promise<void> {
      const { git, ...rest } = draft;
      await orm
        .insert(builds)
        .values({ ...rest, gitRemote: git.remote, gitCommit: git.commit, gitClean: git.clean })
        .onConflictDoUpdate({
          target: builds.id,
          set: { createdAt: sql`now()`, bundles: rest.bundles, gitRemote: git.remote, gitCommit: git.commit, gitClean: git.clean },
        });
    },

    async find(id: string): Promise<BuildRecord | null> {
      return (await orm.select().from(builds).where(eq(builds.id, id)))[0] ?? null;
    },

    /** Newest first. Default limit 50. */
    async list(input: { readonly limit?: number } = {}): Promise<readonly BuildRecord[]> {
      return orm
        .select()
        .from(builds)
        .orderBy(desc(builds.createdAt))
        .limit(Math.min(input.limit ?? 50, 1_000));
    },
  };
}
export type BuildsStore = ReturnType<typeof createBuildsStore>;
