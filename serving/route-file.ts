import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import { type Route, RouteSchema, type ServedVersion, ServedVersionSchema } from '../contracts/routes.ts';
import type { ServingLog } from './ports.ts';

/** A route that was in service, and the champion that answered before its own. */
export interface KeptRoute {
  readonly route: Route;
  readonly before?: ServedVersion | undefined;
}

const RouteFileSchema = z.object({
  format: z.literal('millrace-routes/1'),
  routes: z.array(RouteSchema),
  /** By endpoint; older files have none. */
  before: z.record(z.string(), ServedVersionSchema).default({}),
});

/** The routes kept at `path`; none when there is no such file, or it is not one (which is logged). */
export async function readRouteFile(path: string, log: ServingLog): Promise<readonly KeptRoute[]> {
  let content: string;
  try {
    content = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') log('warn', 'the kept routes cannot be read', { path, error: String(error) });
    return [];
  }
  try {
    const { routes, before } = RouteFileSchema.parse(JSON.parse(content));
    return routes.map((route) => ({ route, before: before[route.endpoint] }));
  } catch {
    log('warn', 'the file of kept routes is damaged; it is written anew with the next route', { path });
    return [];
  }
}

/** Keeps the routes at `path`: written beside it, synced, renamed, so that a crash leaves the old or the new ones. */
export async function writeRouteFile(path: string, kept: readonly KeptRoute[]): Promise<void> {
  const before = Object.fromEntries(kept.flatMap((entry) => (entry.before === undefined ? [] : [[entry.route.endpoint, entry.before]])));
  const content = JSON.stringify({ format: 'millrace-routes/1', routes: kept.map(({ route }) => route), before });
  await mkdir(dirname(path), { recursive: true });
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    const handle = await open(temporary, 'w');
    try {
      await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}
