import { agreementOf, type GivenLabel } from '../contracts/agreement.ts';
import { withClients } from './clients.ts';
import { addCommand, addGroup, invocationOf, type Program, print } from './command.ts';
import { labelInteractively } from './label-prompt.ts';
import { openAnswers } from './read-answer.ts';
import { renderFields, renderTable } from './table.ts';

interface Common {
  readonly json?: boolean;
}

/** Past so many classes one key is not enough for each. */
const MOST_KEYS = 32;

/** `millrace label QUEUE`, `millrace labels list` and `show`. */
export function addLabelCommands(program: Program): void {
  addCommand(program, program.root, 'label <queue>', 'give labels: shows one row after the other; what you answered is kept at once')
    .option('--as <name>', 'who answers (default: the user of this machine)')
    .action(async (name: string, options: Common & { as?: string }) => {
      const invocation = invocationOf(program, options);
      const { userInfo } = await import('node:os');
      const by = options.as ?? userInfo().username;
      await withClients(async (clients) => {
        const store = await clients.store();
        const { classes } = await store.labels.queue(name);
        const input = openAnswers(process.stdin, classes.length <= MOST_KEYS);
        try {
          const terminal = invocation.json ? { ...invocation.terminal, write: () => undefined } : invocation.terminal;
          const outcome = await labelInteractively({ store, queue: name, by, terminal, read: input.read });
          print(
            invocation,
            { queue: name, by, ...outcome },
            () =>
              `\n${String(outcome.answered)} answered, ${String(outcome.skipped)} skipped by ${by}; ${outcome.open.toLocaleString('en')} open in ${name}.\n`,
          );
        } finally {
          input.close();
        }
      });
    });

  const labels = addGroup(program, 'labels', 'label queues: what people are asked, and how far they agree');

  addCommand(program, labels, 'list', 'the label queues, each with how much is open').action(async (options: Common) => {
    const invocation = invocationOf(program, options);
    await withClients(async (clients) => {
      const queues = await (await clients.store()).labels.list();
      print(invocation, queues, () =>
        queues.length === 0
          ? 'There are no label queues. A pipeline makes one with label().\n'
          : renderTable(
              ['queue', 'open', 'settled', 'undecided', 'labellers', 'runs waiting', 'question'],
              queues.map((queue) => [
                queue.name,
                String(queue.open),
                String(queue.settled),
                String(queue.undecided),
                String(queue.labellers),
                String(queue.waiting),
                queue.question ?? '',
              ]),
            ),
      );
    });
  });

  addCommand(program, labels, 'show <queue>', 'one queue: progress, what each person gave, how far they agree').action(
    async (name: string, options: Common) => {
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const { labels: store } = await clients.store();
        const queue = await store.queue(name);
        const answers = await store.answers(name);
        const progress = (await store.list()).find((other) => other.name === name);
        const agreement = agreementOf(answers.flatMap(({ item, by, label }): GivenLabel[] => (label === null ? [] : [{ item, by, label }])));
        const people = [...new Set(answers.map(({ by }) => by))].map((by) => {
          const own = answers.filter((answer) => answer.by === by);
          const judged = own.filter(({ label, settled }) => label !== null && settled !== null);
          return {
            by,
            answers: own.filter(({ label }) => label !== null).length,
            skipped: own.filter(({ label }) => label === null).length,
            withMajority: judged.length === 0 ? null : judged.filter(({ label, settled }) => label === settled).length / judged.length,
          };
        });
        const figure = (value: number | null): string => (value === null ? '–' : value.toFixed(3));
        print(invocation, { ...queue, ...progress, people, agreement }, () =>
          [
            renderFields([
              ['queue', name],
              ['question', queue.question],
              ['classes', queue.classes.map(String).join(', ')],
              ['labellers a row', queue.labellers],
              ['open', progress?.open],
              ['settled', progress?.settled],
              ['without a majority', progress?.undecided],
              ['runs that wait', progress?.waiting],
              ['labelled by several', agreement.shared],
              ['same label', figure(agreement.observed)],
              ["Krippendorff's alpha", figure(agreement.alpha)],
              ["Fleiss' kappa", figure(agreement.fleiss)],
            ]),
            ...(people.length === 0
              ? []
              : [
                  '\n',
                  renderTable(
                    ['person', 'answers', 'skipped', 'with the majority'],
                    people.map((p) => [p.by, String(p.answers), String(p.skipped), figure(p.withMajority)]),
                  ),
                ]),
            ...(agreement.pairs.length === 0
              ? []
              : [
                  '\n',
                  renderTable(
                    ['person', 'and', 'rows', "Cohen's kappa"],
                    agreement.pairs.map((p) => [p.a, p.b, String(p.items), figure(p.kappa)]),
                  ),
                ]),
          ].join(''),
        );
      });
    },
  );
}
