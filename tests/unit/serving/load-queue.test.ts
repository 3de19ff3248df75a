import { describe, expect, it } from 'vitest';
import { createLoadQueue } from '../../../serving/load-queue.ts';

/** A queue whose tasks note that they began, and end when they are told. */
function watched(atOnce = 1, asideAtOnce = 1) {
  const queue = createLoadQueue(atOnce, asideAtOnce);
  const began: string[] = [];
  const end = new Map<string, () => void>();
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  return {
    queue,
    began,
    add: (name: string, aside = false): Promise<string> =>
      queue.run(name, async (goAside) => {
        began.push(name);
        if (aside) {
          await goAside();
          began.push(`${name} aside`);
        }
        await new Promise<void>((resolve) => end.set(name, resolve));
        return name;
      }),
    end: async (name: string): Promise<void> => {
      end.get(name)?.();
      await turn();
    },
    turn,
  };
}

describe('the queue of loads', () => {
  it('runs one after the other, in order, and goes on after one that failed', async () => {
    const { queue, add, began, end, turn } = watched();
    const failed = queue.run('bad', () => Promise.reject(new Error('no such file')));
    const first = add('a');
    void add('b');
    await expect(failed).rejects.toThrow('no such file');
    await turn();
    expect(began).toEqual(['a']);
    await end('a');
    expect(await first).toBe('a');
    expect(began).toEqual(['a', 'b']);
  });

  it('lets those that are waited for go first, in the order in which somebody asked, and no other wait for ever', async () => {
    const { queue, add, began, end, turn } = watched();
    for (const name of ['running', 'x', 'y', '1', '2', '3', '4', '5', '6']) void add(name);
    await turn();
    for (const name of ['1', '2', '3', '4', '5', '6', '1']) queue.hurry(name);
    for (const name of ['running', '1', '2', '3', '4', 'x', '5', '6']) await end(name);
    expect(began).toEqual(['running', '1', '2', '3', '4', 'x', '5', '6', 'y']);
  });

  it('goes on with the next while one that went aside is at work, and keeps those that did to their own number', async () => {
    const { queue, add, began, end, turn } = watched();
    void add('large', true);
    void add('larger', true);
    void add('asked', true);
    void add('small');
    await turn();
    expect([...began].sort()).toEqual(['asked', 'large', 'large aside', 'larger', 'small']);
    // asked for while it was on its way aside
    queue.hurry('asked');
    await end('large');
    expect(began.slice(5)).toEqual(['asked aside']);
    await end('asked');
    expect(began.slice(6)).toEqual(['larger aside']);
  });
});
