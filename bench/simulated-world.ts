import { createRandom, hashIndex } from '../ml/random.ts';

const LEVELS = [-2, 0, 2] as const;

export interface WorldRow {
  readonly x: number;
  readonly side: 'left' | 'right';
}

/** What asks for a retraining in an hour, beside the monitor. */
export interface Asked {
  readonly key: string;
  /** How often it is sent. */
  readonly times: number;
}

/** What the simulated endpoint is asked, hour by hour: the same for the same seed. */
export interface World {
  /** Requests of an hour. Their `x` lies around a level that moves now and then. */
  requests(hour: number): readonly WorldRow[];
  /** Training data as they are in an hour, as CSV. */
  trainingCsv(hour: number): string;
  /** Null: nothing does. */
  asks(hour: number): Asked | null;
  /** Hours in which the level moves, without the first. */
  readonly moves: readonly number[];
}

export interface WorldOptions {
  readonly seed: number;
  /** From here on nothing moves, and nobody asks. */
  readonly hours: number;
  readonly requestsAnHour: number;
  readonly trainingRows: number;
  /** On average. */
  readonly movesEveryHours: number;
  readonly asksEveryHours: number;
  /** Of those that ask, each so many-th asks twice with the same key. */
  readonly twiceEvery: number;
}

export function createWorld({ seed, hours, requestsAnHour, trainingRows, movesEveryHours, asksEveryHours, twiceEvery }: WorldOptions): World {
  const random = createRandom(seed);
  const stretches: { readonly from: number; readonly level: number }[] = [{ from: 0, level: 0 }];
  for (let from = next(0), level = 0; from < hours; from = next(from)) {
    const others = LEVELS.filter((other) => other !== level);
    level = others[random.below(others.length)] ?? 0;
    stretches.push({ from, level });
  }
  function next(from: number): number {
    return from + Math.round(movesEveryHours * (0.5 + random.next()));
  }
  const levelAt = (hour: number): number => stretches.findLast(({ from }) => from <= hour)?.level ?? 0;
  const drawn = (hour: number, rows: number, stream: number): readonly (WorldRow & { readonly late: boolean })[] => {
    const row = createRandom(hashIndex(hour, seed + stream));
    const level = levelAt(hour);
    return Array.from({ length: rows }, () => {
      const x = level + row.normal();
      return { x: Number(x.toFixed(4)), side: row.next() < 0.5 ? 'left' : 'right', late: x + row.normal() > level };
    });
  };
  return {
    moves: stretches.slice(1).map(({ from }) => from),
    requests: (hour) => drawn(hour, requestsAnHour, 1).map(({ x, side }) => ({ x, side })),
    trainingCsv: (hour) =>
      ['x,side,late', ...drawn(hour, trainingRows, 2).map(({ x, side, late }) => `${String(x)},${side},${late ? 'yes' : 'no'}`)].join('\n'),
    asks(hour) {
      if (hour >= hours || hour % asksEveryHours !== 0) return null;
      return { key: `program/hour-${String(hour)}`, times: (hour / asksEveryHours) % twiceEvery === 1 ? 2 : 1 };
    },
  };
}
