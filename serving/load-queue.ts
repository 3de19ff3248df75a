/**
 * Loads wait here for their turn, so that hundreds of them do not meet in memory.
 *
 * Invariants:
 * 1. At most `atOnce` tasks run at a time.
 * 2. Tasks start in the order in which they came, except those that were hurried: they start before all others.
 */
export interface LoadQueue {
  /** Runs the task in its turn. */
  run<T>(key: string, task: () => Promise<T>): Promise<T>;
  /** Somebody waits for the task of this key: it is next. */
  hurry(key: string): void;
}

interface Waiting {
  readonly key: string;
  readonly start: () => void;
}

export function createLoadQueue(atOnce: number): LoadQueue {
  const waiting: Waiting[] = [];
  let running = 0;

  function next(): void {
    while (running < atOnce) {
      const first = waiting.shift();
      if (first === undefined) return;
      running += 1;
      first.start();
    }
  }

  return {
    run(key, task) {
      return new Promise((resolve, reject) => {
        waiting.push({
          key,
          start() {
            task()
              .then(resolve, reject)
              .finally(() => {
                running -= 1;
                next();
              });
          },
        });
        next();
      });
    },
    hurry(key) {
      const at = waiting.findIndex((entry) => entry.key === key);
      if (at > 0) waiting.unshift(...waiting.splice(at, 1));
    },
  };
}
