import { resolve } from 'node:path';
import type { Client } from '@temporalio/client';
import { MillraceError } from '../contracts/errors.ts';
import type { KeptSchedule } from '../store/backup.ts';
import { endpointWorkflowId, WORKFLOW_QUEUE } from '../contracts/queues.ts';
import type { Clients } from './clients.ts';
import { withClients } from './clients.ts';
import { addCommand, invocationOf, print, type Program } from './command.ts';
import { makeSchedules, readSchedules } from './kept-schedules.ts';
import { renderFields, showBytes } from './table.ts';

/** What a person who waits is told on the way; nothing where a machine reads. */
const telling =
  (program: Program, json: boolean | undefined) =>
  (what: string): void => {
    if (json !== true && program.terminal.isInteractive) program.terminal.writeError(`${what}\n`);
  };

/**
 * The workflows that keep the endpoints, started anew from the routes that were restored. Where no Temporal answers the
 * stack starts them with itself.
 */
const startEndpoints = async (client: Client, endpoints: readonly string[]): Promise<true> => {
  for (const name of endpoints)
    await client.workflow.start('endpoint', {
      workflowId: endpointWorkflowId(name),
      taskQueue: WORKFLOW_QUEUE,
      args: [name],
      workflowIdConflictPolicy: 'USE_EXISTING',
    });
  return true;
};

/** What Temporal says, or null where none answers. */
async function ofTemporal<T>(clients: Clients, work: (client: Client) => Promise<T>): Promise<T | null> {
  try {
    return await work(await clients.temporal());
  } catch (error) {
    if (error instanceof MillraceError && (error.code === 'TEMPORAL_UNAVAILABLE' || error.code === 'NOT_RUNNING')) return null;
    throw error;
  }
}

/** What a person has to make by hand. */
function describeMissing(schedules: readonly KeptSchedule[] | null): string {
  const how = 'Make them with `millrace schedule create PIPELINE`, and those of monitors and triggers by a run of their pipeline.';
  if (schedules === null) return `\nThe backup knows of no schedules. ${how}\n`;
  return schedules.length === 0 ? '' : `\nSchedules that are missing, because no Temporal answered: ${schedules.map(({ id }) => id).join(', ')}. ${how}\n`;
}

/** `millrace backup` and `millrace restore`. */
export function addBackupCommands(program: Program): void {
  addCommand(
    program,
    program.root,
    'backup <folder>',
    'write the store as of now, all artifacts, and the logs of predictions into a folder; the stack keeps running',
  ).action(async (folder: string, options: { json?: boolean }) => {
    const invocation = invocationOf(program, options);
    await withClients(async (clients) => {
      const [{ backUp }, { createArtifacts }, { databaseUrl }, { packageVersion }] = await Promise.all([
        import('../store/backup.ts'),
        import('../store/artifacts.ts'),
        import('../config/service-addresses.ts'),
        import('../config/package-root.ts'),
      ]);
      const store = await clients.store();
      const { config } = clients;
      const { who } = await clients.actor(undefined);
      await store.audit.write({ action: 'store.backup', subject: 'store', who });
      const schedules = await ofTemporal(clients, readSchedules);
      const made = await backUp({
        databaseUrl: databaseUrl(config),
        artifacts: createArtifacts({ root: config.artifacts.folder }),
        home: config.home,
        folder: resolve(folder),
        version: packageVersion,
        schedules,
        onProgress: telling(program, options.json),
      });
      const rows = made.tables.reduce((sum, table) => sum + table.rows, 0);
      print(
        invocation,
        {
          folder: resolve(folder),
          createdAt: made.createdAt,
          tables: made.tables.length,
          rows,
          artifacts: made.artifacts,
          files: made.state.length,
          schedules: schedules?.length ?? null,
        },
        () =>
          renderFields([
            ['backup', resolve(folder)],
            ['as of', made.createdAt],
            ['tables', `${String(made.tables.length)}, ${rows.toLocaleString('en')} rows`],
            ['artifacts', `${made.artifacts.count.toLocaleString('en')}, ${showBytes(made.artifacts.sizeBytes)}`],
            ['files of the state folder', String(made.state.length)],
            ['schedules', schedules === null ? 'not in it: no Temporal answered' : String(schedules.length)],
            ['keep it safe', made.state.some(({ path }) => path === 'hash.key') ? 'it holds the key of hashed columns' : null],
          ]),
      );
    });
  });

  addCommand(program, program.root, 'restore <folder>', 'fill the store of a new stack from a backup; one that is not empty is left alone').action(
    async (folder: string, options: { json?: boolean }) => {
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const [{ restore }, { openArtifacts }, { databaseUrl }] = await Promise.all([
          import('../store/backup.ts'),
          import('../store/artifacts.ts'),
          import('../config/service-addresses.ts'),
        ]);
        const store = await clients.store();
        const { config } = clients;
        const { who } = await clients.actor(undefined);
        const restored = await restore({
          databaseUrl: databaseUrl(config),
          artifacts: await openArtifacts(config.artifacts.folder),
          home: config.home,
          folder: resolve(folder),
          onProgress: telling(program, options.json),
        });
        await store.audit.write({ action: 'store.restore', subject: 'store', who, details: { backupOf: restored.createdAt } });
        const { schedules } = restored;
        const started = (await ofTemporal(clients, (client) => startEndpoints(client, restored.endpoints))) ?? false;
        const made = schedules === null ? null : await ofTemporal(clients, (client) => makeSchedules(client, schedules));
        print(invocation, { ...restored, endpointsStarted: started, schedulesMade: made }, () =>
          [
            renderFields([
              [
                'restored',
                `${restored.rows.toLocaleString('en')} rows of ${String(restored.tables)} tables, ${restored.artifacts.toLocaleString('en')} artifacts, ${String(restored.files)} files`,
              ],
              ['endpoints', restored.endpoints.join(', ')],
              ['schedules', made === null || made.length === 0 ? null : made.join(', ')],
              ['terminated', restored.terminated === 0 ? null : `${String(restored.terminated)} runs that were under way`],
            ]),
            started ? '' : '\nNo Temporal answered: `millrace up` starts what keeps the endpoints.\n',
            made === null ? describeMissing(schedules) : '',
          ].join(''),
        );
      });
    },
  );
}
