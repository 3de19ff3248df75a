import { randomBytes } from 'node:crypto';
import { Ajv } from 'ajv';
import { beforeAll, describe, expect, it } from 'vitest';
import { createApiServer } from '../../api/server.ts';
import { labelInteractively } from '../../cli/label-prompt.ts';
import type { Store } from '../../store/store.ts';
import { freshStore } from '../support/database.ts';

let store: Store;
beforeAll(async () => {
  store = await freshStore();
});

const runNow = async (): Promise<string> => {
  const runId = randomBytes(16).toString('hex');
  await store.runs.begin({ runId, workflowId: `w-${runId}`, temporalRunId: 't', pipeline: 'mails', params: {}, trigger: { kind: 'cli' } });
  return runId;
};
const ask = async (
  queue: string,
  texts: readonly string[],
  options: { labellers?: number; breakTies?: boolean; classes?: readonly string[]; runId?: string } = {},
) => {
  const { runId = await runNow(), classes = ['spam', 'ham'], ...rest } = options;
  return store.labels.request({
    runId,
    stage: 'label-people',
    workflowId: `w-${runId}`,
    name: queue,
    classes,
    expiresAt: null,
    items: texts.map((text, index) => ({ key: `${queue}/${text}`, shown: { text }, priority: 1 - index / 100 })),
    ...rest,
  });
};
const answerNext = async (queue: string, by: string, label: string | null): Promise<string> => {
  const item = await store.labels.next(queue, by);
  if (item === null) throw new Error('there is nothing for them');
  await store.labels.answer(queue, { item: item.id, by, label });
  return String(item.shown['text']);
};

describe('a label queue', () => {
  it('shows different people different items, in order, and the same person the one they hold', async () => {
    await ask('held', ['a', 'b', 'c']);
    const first = await store.labels.next('held', 'ada');
    expect(first?.shown).toEqual({ text: 'a' });
    expect((await store.labels.next('held', 'ada'))?.id).toBe(first?.id);
    expect((await store.labels.next('held', 'ben'))?.shown).toEqual({ text: 'b' });
    const many = await Promise.all(Array.from({ length: 8 }, (_, i) => store.labels.next('held', `p${String(i)}`)));
    expect(many.filter((item) => item !== null).map(({ shown }) => shown)).toEqual([{ text: 'c' }]);
  });

  it('takes the same answer twice, and refuses another one, a class that is none, and a late one', async () => {
    await ask('once', ['a', 'b']);
    const item = await store.labels.next('once', 'ada');
    const answer = { item: item?.id ?? '', by: 'ada', label: 'spam' };
    expect(await store.labels.answer('once', answer)).toMatchObject({ status: 'settled', label: 'spam' });
    expect(await store.labels.answer('once', answer)).toMatchObject({ status: 'settled', label: 'spam' });
    await expect(store.labels.answer('once', { ...answer, label: 'ham' })).rejects.toMatchObject({ code: 'CONFLICT' });
    await expect(store.labels.answer('once', { ...answer, by: 'ben' })).rejects.toMatchObject({ code: 'CONFLICT' });
    await expect(store.labels.answer('once', { ...answer, by: 'ben', label: 'eggs' })).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
  });

  it('asks one person more where two disagree, and leaves the item without a label where that does not decide', async () => {
    const { id } = await ask('ties', ['a', 'b'], { labellers: 2, classes: ['x', 'y', 'z'] });
    for (const [by, labels] of Object.entries({ ada: ['x', 'x'], ben: ['y', 'y'] })) for (const label of labels) await answerNext('ties', by, label);
    expect((await store.labels.progress(id)).open).toBe(2);
    await answerNext('ties', 'cid', 'y');
    await answerNext('ties', 'cid', 'z');
    expect(await store.labels.next('ties', 'dan')).toBeNull();
    const { items } = await store.labels.close(id, 'answered');
    expect(items.map(({ key, label, answers }) => [key, label, answers.map((answer) => answer.by)])).toEqual([
      ['ties/a', 'y', ['ada', 'ben', 'cid']],
      ['ties/b', null, ['ada', 'ben', 'cid']],
    ]);
  });

  it('does not ask again what was answered, gives each waiting run its answers, and closes what nobody waits for', async () => {
    const first = await ask('again', ['a', 'b']);
    await answerNext('again', 'ada', 'ham');
    expect(await store.labels.close(first.id, 'expired')).toMatchObject({ progress: { asked: 2, open: 1 } });
    expect(await store.labels.next('again', 'ada')).toBeNull();
    // closing twice tells the same
    expect(await store.labels.close(first.id, 'expired')).toMatchObject({ progress: { asked: 2, open: 1 } });
    const second = await ask('again', ['a', 'b']);
    expect(second).toMatchObject({ asked: 2, open: 1 });
    expect(await store.labels.untold()).toEqual([]);
    expect(await answerNext('again', 'ada', 'spam')).toBe('b');
    expect((await store.labels.untold()).map(({ id }) => id)).toEqual([second.id]);
    await store.labels.told(second.id);
    expect(await store.labels.untold()).toEqual([]);
  });

  it('refuses other classes while a run waits, and asks anew under them afterwards', async () => {
    const { id } = await ask('classes', ['a']);
    await expect(ask('classes', ['a'], { classes: ['yes', 'no'] })).rejects.toMatchObject({ code: 'CONFLICT' });
    await answerNext('classes', 'ada', 'spam');
    await store.labels.close(id, 'answered');
    expect(await ask('classes', ['a'], { classes: ['yes', 'no'] })).toMatchObject({ asked: 1, open: 1 });
    expect(await answerNext('classes', 'ada', 'no')).toBe('a');
  });

  it('takes an answer back while the run waits, and not after it was told', async () => {
    const { id } = await ask('undo', ['a', 'b']);
    const item = await store.labels.next('undo', 'ada');
    const answer = { item: item?.id ?? '', by: 'ada' };
    await store.labels.answer('undo', { ...answer, label: 'spam' });
    await store.labels.takeBack('undo', answer);
    expect((await store.labels.progress(id)).open).toBe(2);
    for (const label of ['ham', 'ham']) await answerNext('undo', 'ada', label);
    await store.labels.told(id);
    await expect(store.labels.takeBack('undo', answer)).rejects.toMatchObject({ code: 'CONFLICT' });
  });

  it('is closed, like a gate, when the run that asks has ended from outside', async () => {
    const runId = await runNow();
    const { id } = await ask('ended', ['a'], { runId });
    await store.approvals.request({ runId, gate: 'production', evidence: {}, expiresAt: null });
    expect(await store.labels.closeEnded()).toEqual([]);
    expect(await store.approvals.closeEnded()).toEqual([]);
    await store.runs.end({ runId, status: 'terminated' });
    expect(await store.labels.closeEnded()).toEqual([id]);
    expect(await store.approvals.closeEnded()).toEqual([`${runId}/production`]);
    expect(await store.labels.next('ended', 'ada')).toBeNull();
    expect((await store.approvals.get(runId, 'production')).status).toBe('expired');
  });

  it('gives settled labels of flagged predictions for feedback once, as the class they are', async () => {
    await store.labels.openQueue({ name: 'review', classes: [true, false] });
    const flagged = { endpoint: 'spam-filter', requestId: 'r-1', row: 0, shown: { text: 'hm' } };
    const ids = await store.labels.enqueue('review', [flagged, { ...flagged, row: 1 }]);
    expect(await store.labels.enqueue('review', [flagged, { ...flagged, row: 1 }])).toEqual(ids);
    const item = await store.labels.next('review', 'ada');
    await store.labels.answer('review', { item: item?.id ?? '', by: 'ada', label: true });
    const [label, ...more] = await store.labels.unfed();
    expect(more).toEqual([]);
    expect(label).toMatchObject({ flagged: { endpoint: 'spam-filter', requestId: 'r-1', row: 0 }, label: true });
    await store.labels.fedBack([label?.id ?? '']);
    expect(await store.labels.unfed()).toEqual([]);
  });
});

describe('the API of label queues', () => {
  it('lets a page label: the next item, the answer (twice), progress and agreement; and is in the OpenAPI document', async () => {
    const app = createApiServer({ store, version: '1.0.0' });
    await ask('page', ['a', 'b'], { labellers: 2 });
    for (const by of ['ada', 'ben']) {
      for (const label of ['spam', 'ham']) {
        const next = (await app.inject({ url: `/api/v1/label-queues/page/next?by=${by}` })).json<{ classes: string[]; item: { id: string } }>();
        expect(next.classes).toEqual(['spam', 'ham']);
        for (const _ of ['first', 'again']) {
          const sent = await app.inject({
            method: 'POST',
            url: '/api/v1/label-queues/page/answers',
            payload: { answers: [{ item: next.item.id, by, label }] },
          });
          expect(sent.statusCode).toBe(200);
        }
      }
    }
    expect((await app.inject({ url: '/api/v1/label-queues/page/next?by=cid' })).json<{ item: unknown }>().item).toBeNull();
    expect((await app.inject({ url: '/api/v1/label-queues/page' })).json()).toMatchObject({
      open: 0,
      settled: 2,
      people: [
        { by: 'ada', answers: 2, skipped: 0 },
        { by: 'ben', answers: 2, skipped: 0 },
      ],
      agreement: { shared: 2, observed: 1, alpha: 1, fleiss: 1 },
    });
    const bad = await app.inject({ method: 'POST', url: '/api/v1/label-queues/page/answers', payload: { answers: [{ item: 'x', by: '', label: 'spam' }] } });
    expect(bad.statusCode).toBe(400);
    expect(bad.json<{ problems: { path: string }[] }>().problems.map(({ path }) => path)).toEqual(['answers.0.item', 'answers.0.by']);
    const many = await app.inject({ method: 'POST', url: '/api/v1/label-queues/page/answers', payload: { answers: Array.from({ length: 101 }, () => ({})) } });
    expect(many.statusCode).toBe(400);
    expect(
      (await app.inject({ method: 'POST', url: '/api/v1/label-queues/none/answers', payload: { answers: [{ item: 'a'.repeat(32), by: 'a', label: null }] } }))
        .statusCode,
    ).toBe(404);
    const document = (await app.inject({ url: '/api/v1/openapi.json' })).json<{
      paths: Record<string, { post?: { requestBody: { content: { 'application/json': { schema: object } } } } }>;
    }>();
    const schema = document.paths['/api/v1/label-queues/{queue}/answers']?.post?.requestBody.content['application/json'].schema ?? {};
    const fits = new Ajv({ strict: false }).compile(schema);
    expect(fits({ answers: [{ item: 'a'.repeat(32), by: 'ada', label: 'spam' }] })).toBe(true);
    expect(fits({ answers: [] })).toBe(false);
    await app.close();
  });
});

describe('the prompt of millrace label', () => {
  it('takes keys and words, skips, takes back, refuses what is no answer, quits, and goes on where it was', async () => {
    await ask('prompt', ['one', 'two', 'three', 'four']);
    let text = '';
    const terminal = {
      write: (more: string) => (text += more),
      writeError: () => undefined,
      isInteractive: false,
      columns: 80,
      paint: (_: unknown, plain: string) => plain,
    };
    const session = (answers: (string | null)[]) =>
      labelInteractively({ store, queue: 'prompt', by: 'ada', terminal, read: () => Promise.resolve(answers.shift() ?? null) });
    // one: spam; two: ham, taken back, then spam; three: skipped; quit
    expect(await session(['1', 'ham', 'u', 'x', '1', 's', 'q'])).toEqual({ answered: 2, skipped: 1, takenBack: 1, open: 2 });
    expect(text).toContain('That is none of the answers.');
    expect(await session(['2'])).toEqual({ answered: 1, skipped: 0, takenBack: 0, open: 1 });
    expect(text).toContain('There is nothing more for you in this queue.');
    const answers = await store.labels.answers('prompt');
    expect(answers.map(({ label }) => label).sort()).toEqual(['ham', null, 'spam', 'spam'].sort());
  });
});
