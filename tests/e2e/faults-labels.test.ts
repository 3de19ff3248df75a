import { readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WORKFLOW_QUEUE } from '../../contracts/queues.ts';
import { type FaultStack, startFaultStack, until } from '../support/fault-stack.ts';

let stack: FaultStack;
const alerts: string[] = [];
const receiver = createServer((request, response) => {
  let body = '';
  request.on('data', (part: Buffer) => (body += part.toString()));
  request.on('end', () => {
    alerts.push((JSON.parse(body) as { text: string }).text);
    response.end();
  });
});

beforeAll(async () => {
  await new Promise<void>((resolve) => receiver.listen(0, '127.0.0.1', resolve));
  process.env['LABEL_TEST_ALERTS'] = `http://127.0.0.1:${String((receiver.address() as AddressInfo).port)}/`;
  stack = await startFaultStack('label-project');
});
afterAll(async () => {
  delete process.env['LABEL_TEST_ALERTS'];
  await stack.close();
  receiver.closeAllConnections();
  receiver.close();
});

const begin = async (queue: string) => {
  const handle = await stack.client.workflow.start('words', { workflowId: queue, taskQueue: WORKFLOW_QUEUE, args: [{ queue }] });
  await until(async () => (await stack.store.labels.list()).some(({ name, waiting }) => name === queue && waiting === 1));
  return handle;
};
const answerAll = async (queue: string): Promise<void> => {
  const { labels } = stack.store;
  for (let item = await labels.next(queue, 'ada'); item !== null; item = await labels.next(queue, 'ada'))
    await labels.answer(queue, { item: item.id, by: 'ada', label: 'number' });
};

describe('a run that waits for labels', () => {
  it('tells the alert channel, outlives both its workers, and ends on answers that came while they were dead', async () => {
    const handle = await begin('killed');
    await until(() => Promise.resolve(alerts.some((text) => text.includes('waits for 2 labels') && text.includes('millrace label killed'))));
    stack.kill('cpu-worker');
    stack.kill('orchestrator');
    await answerAll('killed');
    const { labelled } = (await handle.result()) as { labelled: { rows: number } };
    expect(labelled.rows).toBe(3);
    const run = await stack.store.runs.findByWorkflow('killed');
    expect((await stack.store.stages.list(run?.id ?? '')).map(({ name, status }) => [name, status])).toEqual([
      ['ingest', 'completed'],
      ['label-functions', 'completed'],
      ['label', 'completed'],
    ]);
  });

  it('closes its questions when it is cancelled, and the reconciler does when it is terminated', async () => {
    const waiting = async (name: string) => (await stack.store.labels.list()).find((queue) => queue.name === name)?.waiting;
    const cancelled = await begin('cancelled');
    await cancelled.cancel();
    await until(async () => (await waiting('cancelled')) === 0);
    const terminated = await begin('terminated');
    await terminated.terminate('a test of terminated runs');
    await until(async () => (await waiting('terminated')) === 0);
    expect(await stack.store.labels.next('cancelled', 'ada')).toBeNull();
    expect(await stack.store.labels.next('terminated', 'ada')).toBeNull();
  });

  it('and flagged predictions: their labels are written where feedback is', async () => {
    const { labels } = stack.store;
    await labels.openQueue({ name: 'review', classes: ['number', 'name'] });
    await labels.enqueue('review', [{ endpoint: 'words', requestId: 'r-1', row: 2, shown: { word: 'four' } }]);
    await answerAll('review');
    await until(async () => (await labels.unfed()).length === 0);
    const folder = join(stack.config.home, 'feedback', 'words');
    const lines = readdirSync(folder).flatMap((file) => readFileSync(join(folder, file), 'utf8').trim().split('\n'));
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([{ requestId: 'r-1', row: 2, label: 'number', at: expect.any(String) as string }]);
  });
});
