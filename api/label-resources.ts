import { agreementOf, type GivenLabel } from '../contracts/agreement.ts';
import { NameSchema } from '../contracts/ids.ts';
import { FlaggedItemsSchema, LabelAnswersSchema, LabelQueueSchema, PersonSchema } from '../contracts/labels.ts';
import { action, type Resource, resource } from './resource.ts';

/** Label queues: what a page needs to let people label. */
export const LABEL_RESOURCES: readonly Resource[] = [
  resource('/label-queues', {
    summary: 'Label queues by name, each with how much is open.',
    answers: 'page',
    params: {},
    query: {},
    read: async (store) => ({ items: await store.labels.list(), next: null }),
  }),
  resource('/label-queues/{queue}', {
    summary: 'A label queue: its question and classes, how much is open, what each person gave, how far they agree.',
    answers: 'object',
    params: { queue: NameSchema },
    query: {},
    read: async (store, { queue: name }) => {
      const queue = await store.labels.queue(name);
      const [answers, queues] = await Promise.all([store.labels.answers(name), store.labels.list()]);
      const given = answers.flatMap(({ item, by, label }): GivenLabel[] => (label === null ? [] : [{ item, by, label }]));
      const people = [...new Set(answers.map(({ by }) => by))].map((by) => {
        const own = answers.filter((answer) => answer.by === by);
        return { by, answers: own.filter(({ label }) => label !== null).length, skipped: own.filter(({ label }) => label === null).length };
      });
      return { ...queue, ...queues.find((other) => other.name === name), people, agreement: agreementOf(given) };
    },
  }),
  resource('/label-queues/{queue}/next', {
    summary: 'The next item for a person, held for them for ten minutes; `item` is null when there is none.',
    answers: 'object',
    params: { queue: NameSchema },
    query: { by: PersonSchema.describe('Who asks.') },
    read: async (store, { queue: name, by }) => {
      const { question, classes } = await store.labels.queue(name);
      return { queue: name, question, classes, item: await store.labels.next(name, by) };
    },
  }),
  action('/label-queues/{queue}/answers', LabelAnswersSchema, {
    summary: "Takes people's answers. An answer that was taken before is taken again without effect; a person's other answer to the same item is refused.",
    params: { queue: NameSchema },
    read: async (store, { queue: name, body }) => {
      const items = [];
      for (const { item, by, label, comment } of body.answers) {
        const { status, label: settled } = await store.labels.answer(name, { item, by, label, ...(comment === undefined ? {} : { comment }) });
        items.push({ item, status, label: settled });
      }
      return { items };
    },
  }),
  action('/label-queues', LabelQueueSchema, {
    summary: 'Makes a queue that no run waits for, or brings its question up to date.',
    params: {},
    read: (store, { body: { question, ...queue } }) => store.labels.openQueue({ ...queue, ...(question === undefined ? {} : { question }) }),
  }),
  action('/label-queues/{queue}/items', FlaggedItemsSchema, {
    summary: 'Puts flagged predictions into a queue; their labels become feedback. The same request and row is one item.',
    params: { queue: NameSchema },
    read: async (store, { queue: name, body }) => ({ items: (await store.labels.enqueue(name, body.items)).map((id) => ({ id })) }),
  }),
];
