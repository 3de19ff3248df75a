/**
 * Loads wait here for their turn, so that hundreds of them do not meet in memory.
 *
 * Invariants:
 * 1. At most `atOnce` tasks run at a time; of those that went aside, at most `asideAtOnce`.
 * 2. Tasks start in the order in which they came, except those that were hurried: they start before the others, in the order in
 *    which they were hurried. After `HURRIED_IN_A_ROW` of them one that was not is next: nobody waits for ever.
 */
export interface LoadQueue {
  /** Runs the task in its turn. `aside`: what follows needs this thread no more; it goes on in its turn among others of that kind. */
  run<T>(key: string, task: (aside: () => Promise<void>) => Promise<T>): Promise<T>;
  /** Somebody waits for the task of this key. */
  hurry(key: string): void;
}

const HURRIED_IN_A_ROW = 4;

interface Waiting {
  readonly key: string;
  readonly start: () => void;
}

interface Lane {
  /** Resolves when it is this key's turn. */
  enter(key: string, hurried: boolean): Promise<void>;
  leave(): void;
  hurry(key: string): void;
}

function createLane(atOnce: number): Lane {
  const hurried: Waiting[] = [];
  const others: Waiting[] = [];
  let running = 0;
  let inARow = 0;

  function next(): void {
    while (running < atOnce) {
      const othersTurn = hurried.length === 0 || (inARow >= HURRIED_IN_A_ROW && others.length > 0);
      const first = othersTurn ? others.shift() : hurried.shift();
      if (first === undefined) return;
      inARow = othersTurn ? 0 : inARow + 1;
      running += 1;
      first.start();
    }
  }

  return {
    enter(key, isHurried) {
      return new Promise((start) => {
        (isHurried ? hurried : others).push({ key, start });
        next();
      });
    },
    leave() {
      running -= 1;
      next();
    },
    hurry(key) {
      const at = others.findIndex((entry) => entry.key === key);
      if (at >= 0) hurried.push(...others.splice(at, 1));
    },
  };
}

export function createLoadQueue(atOnce: number, asideAtOnce: number): LoadQueue {
  const [main, beside] = [createLane(atOnce), createLane(asideAtOnce)];
  const tasks = new Map<string, { hurried: boolean }>();
  return {
    async run(key, task) {
      const own = { hurried: false };
      tasks.set(key, own);
      await main.enter(key, false);
      let lane = main;
      try {
        return await task(async () => {
          if (lane === beside) return;
          lane.leave();
          lane = beside;
          await beside.enter(key, own.hurried);
        });
      } finally {
        lane.leave();
        if (tasks.get(key) === own) tasks.delete(key);
      }
    },
    hurry(key) {
      const task = tasks.get(key);
      if (task === undefined || task.hurried) return;
      task.hurried = true;
      main.hurry(key);
      beside.hurry(key);
    },
  };
}
