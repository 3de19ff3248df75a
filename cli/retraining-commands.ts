import { userInfo } from 'node:os';
import { retrainingWorkflowId, WORKFLOW_QUEUE } from '../contracts/queues.ts';
import type { RetrainingEntry } from '../contracts/retraining.ts';
import { withClients } from './clients.ts';
import { addCommand, invocationOf, print, type Program } from './command.ts';
import { parseDurationMs } from './duration.ts';
import { requirePipeline } from './pipelines.ts';
import { renderTable } from './table.ts';

interface Common {
  readonly json?: boolean;
}

export function addRetrainingCommands(program: Program): void {
  addCommand(program, program.root, 'retrain <pipeline>', 'ask for a retraining; its controller starts it, or says why not yet')
    .requiredOption('--reason <text>', 'why; it stands in the ledger')
    .action(async (pipeline: string, options: Common & { reason: string }) => {
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        await requirePipeline(await clients.store(), pipeline);
        const client = await clients.temporal();
        const handle = await client.workflow.signalWithStart('retraining', {
          taskQueue: WORKFLOW_QUEUE,
          workflowId: retrainingWorkflowId(pipeline),
          args: [pipeline],
          signal: 'retrain',
          signalArgs: [{ reason: options.reason, source: userInfo().username }],
        });
        print(
          invocation,
          { pipeline, workflowId: handle.workflowId, requested: 'retrain' },
          () => `Asked for. What becomes of it: millrace retrainings ${pipeline}\n`,
        );
      });
    });

  addCommand(program, program.root, 'retrainings <pipeline>', 'the ledger of retraining: what was asked for, and what became of it')
    .option('--cool-down <duration>', 'from now on no retraining starts within this time after the last one')
    .action(async (pipeline: string, options: Common & { coolDown?: string }) => {
      const coolDownMs = options.coolDown === undefined ? undefined : parseDurationMs('--cool-down', options.coolDown);
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        await requirePipeline(await clients.store(), pipeline);
        const client = await clients.temporal();
        const handle = client.workflow.getHandle(retrainingWorkflowId(pipeline));
        if (coolDownMs !== undefined) await handle.executeUpdate('configure', { args: [{ coolDownMs }] });
        const ledger = await handle.query<readonly RetrainingEntry[]>('ledger');
        print(invocation, ledger, () =>
          ledger.length === 0
            ? 'Nothing was asked for yet.\n'
            : renderTable(
                ['at', 'decision', 'why', 'asked by', 'workflow'],
                ledger.map((e) => [e.at, e.decision, e.because, e.requests.map((r) => `${r.source}: ${r.reason}`).join('; '), e.workflowId ?? '']),
              ),
        );
      });
    });
}
