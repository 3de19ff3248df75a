import { resolve } from 'node:path';
import { MillraceError } from '../contracts/errors.ts';
import { endpointWorkflowId, WORKFLOW_QUEUE } from '../contracts/queues.ts';
import type { Clients } from './clients.ts';
import { withClients } from './clients.ts';
import { addCommand, invocationOf, print, type Program } from './command.ts';
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
async function startEndpoints(clients: Clients, endpoints: readonly string[]): Promise<boolean> {
  try {
    const client = await clients.temporal();
    for (const name of endpoints)
      await client.workflow.start('endpoint', {
        workflowId: endpointWorkflowId(name),
        taskQueue: WORKFLOW_QUEUE,
        args: [name],
        workflowIdConflictPolicy: 'USE_EXISTING',
      });
    return true;
  } catch (error) {
    if (error instanceof MillraceError && (error.code === 'TEMPORAL_UNAVAILABLE' || error.code === 'NOT_RUNNING')) return false;
    throw error;
  }
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
      const made = await backUp({
        databaseUrl: databaseUrl(config),
        artifacts: createArtifacts({ root: config.artifacts.folder }),
        home: config.home,
        folder: resolve(folder),
        version: packageVersion,
        onProgress: telling(program, options.json),
      });
      const rows = made.tables.reduce((sum, table) => sum + table.rows, 0);
      print(
        invocation,
        { folder: resolve(folder), createdAt: made.createdAt, tables: made.tables.length, rows, artifacts: made.artifacts, files: made.state.length },
        () =>
          renderFields([
            ['backup', resolve(folder)],
            ['as of', made.createdAt],
            ['tables', `${String(made.tables.length)}, ${rows.toLocaleString('en')} rows`],
            ['artifacts', `${made.artifacts.count.toLocaleString('en')}, ${showBytes(made.artifacts.sizeBytes)}`],
            ['files of the state folder', String(made.state.length)],
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
        const started = await startEndpoints(clients, restored.endpoints);
        print(invocation, { ...restored, endpointsStarted: started }, () =>
          [
            renderFields([
              [
                'restored',
                `${restored.rows.toLocaleString('en')} rows of ${String(restored.tables)} tables, ${restored.artifacts.toLocaleString('en')} artifacts, ${String(restored.files)} files`,
              ],
              ['endpoints', restored.endpoints.join(', ')],
              ['terminated', restored.terminated === 0 ? null : `${String(restored.terminated)} runs that were under way`],
            ]),
            started ? '' : '\nNo Temporal answered: `millrace up` starts what keeps the endpoints.\n',
            '\nSchedules are not in a backup: make them again with `millrace schedule create`, and those of monitors by a run of their pipeline.\n',
          ].join(''),
        );
      });
    },
  );
}
