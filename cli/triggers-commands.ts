import { withClients } from './clients.ts';
import { addCommand, addGroup, invocationOf, print, type Program } from './command.ts';
import { requirePipeline } from './pipelines.ts';
import { renderTable } from './table.ts';

export function addTriggersCommands(program: Program): void {
  const group = addGroup(program, 'triggers', 'what asks for retrainings by itself');
  addCommand(program, group, 'list [pipeline]', 'what is watched, what it asked for, and what keeps it from being looked at').action(
    async (pipeline: string | undefined, options: { readonly json?: boolean }) => {
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const store = await clients.store();
        if (pipeline !== undefined) await requirePipeline(store, pipeline);
        const found = (await store.retrainTriggers.list(pipeline)).map(({ pipeline: of, name, trigger, lookedAt, asked, askedAt, problem }) => ({
          pipeline: of,
          name,
          kind: trigger.kind,
          lookedAt,
          asked,
          askedAt,
          problem,
        }));
        print(invocation, found, () =>
          found.length === 0
            ? 'Nothing is watched: a pipeline says it by retrainOn.\n'
            : renderTable(
                ['pipeline', 'trigger', 'kind', 'looked at', 'asked', 'last', 'problem'],
                found.map((t) => [t.pipeline, t.name, t.kind, t.lookedAt ?? 'not yet', String(t.asked), t.askedAt ?? '', t.problem ?? '']),
              ),
        );
      });
    },
  );
}
