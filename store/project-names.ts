import { type SQL, sql } from 'drizzle-orm';

/** The projects whose things a search finds, as patterns in which `*` stands for any text; left out or undefined: all. */
export interface OfProjects {
  readonly projects?: readonly string[] | undefined;
}

/** The patterns as LIKE has them. */
export function likePatterns(projects: readonly string[]): readonly string[] {
  return projects.map((pattern) => pattern.replace(/[\\%_]/g, '\\$&').replaceAll('*', '%'));
}

/** Whether a name belongs to the projects; undefined where all do. */
export function isOfProjects(name: SQL, { projects }: OfProjects): SQL | undefined {
  return projects === undefined ? undefined : sql`${name} like any(${sql.param(likePatterns(projects))}::text[])`;
}
