/**
 * The rows of one entity in a window that moves along with time, and what is to be known of them.
 *
 * Invariants:
 * 1. Rows come in their order; time never goes back until `clear`.
 * 2. After `moveTo(t)` it holds exactly the rows of (t − length, t].
 * 3. What it tells depends on the rows that it holds alone, to the last bit.
 * 4. A row costs amortised constant time, however many rows the window holds.
 */
import { createExactSum } from './exact-sum.ts';
import { compareText } from './row-text.ts';

export type Ordered = number | bigint | string;

export interface TrailingWindowOptions {
  readonly lengthUs: bigint;
  /** What is to be known besides the count and the last row. */
  readonly sums: boolean;
  readonly least: boolean;
  readonly greatest: boolean;
}

export interface TrailingWindow {
  /** `number` is what is summed, `ordered` what is compared, `row` the row's own number. */
  readonly push: (atUs: bigint, row: number, number: number, ordered: Ordered) => void;
  readonly moveTo: (atUs: bigint) => void;
  /** Another entity: everything is forgotten. */
  readonly clear: () => void;
  readonly count: () => number;
  /** Rounded once; 0 without a row. */
  readonly sum: () => number;
  readonly mean: () => number;
  /** Row numbers; −1 without a row. Of equal values the last row. */
  readonly last: () => number;
  readonly least: () => number;
  readonly greatest: () => number;
}

const FIRST_CAPACITY = 1024;
/** Keeps sums of a window that overflows on the way to a sum that does not. */
const SCALE = 2 ** -64;

export function createTrailingWindow({ lengthUs, sums, least, greatest }: TrailingWindowOptions): TrailingWindow {
  let instants = new BigInt64Array(FIRST_CAPACITY);
  let numbers = new Float64Array(sums ? FIRST_CAPACITY : 0);
  let head = 0;
  let tail = 0;
  /** Rows that left the arrays' front: makes a place in them into a number that stays. */
  let moved = 0;
  let lastRow = -1;
  const total = createExactSum();
  const low = createExtreme((newer, older) => !isLess(older, newer));
  const high = createExtreme((newer, older) => !isLess(newer, older));

  const clear = (): void => {
    head = 0;
    tail = 0;
    moved = 0;
    total.clear();
    if (least) low.clear();
    if (greatest) high.clear();
  };
  const moveTo = (atUs: bigint): void => {
    const until = atUs - lengthUs;
    while (head < tail && (instants[head] ?? 0n) <= until) {
      if (sums) total.remove(numbers[head] ?? 0);
      head++;
    }
    if (head === tail) clear();
    else {
      if (least) low.forget(moved + head);
      if (greatest) high.forget(moved + head);
    }
  };
  const makeRoom = (atUs: bigint): void => {
    moveTo(atUs);
    if (head === 0 && tail === 0) return;
    const target = tail - head > instants.length / 2 ? instants.length * 2 : instants.length;
    const [oldInstants, oldNumbers] = [instants, numbers];
    if (target > instants.length) {
      instants = new BigInt64Array(target);
      numbers = new Float64Array(sums ? target : 0);
    }
    instants.set(oldInstants.subarray(head, tail));
    if (sums) numbers.set(oldNumbers.subarray(head, tail));
    moved += head;
    tail -= head;
    head = 0;
  };
  /** The sum over `count`, of a window whose sum went beyond the largest double on the way. */
  const scaled = (count: number): number => {
    const again = createExactSum();
    for (let at = head; at < tail; at++) again.add((numbers[at] ?? 0) * SCALE);
    return again.value() / count / SCALE;
  };
  const meanOver = (count: number): number => {
    if (total.overflowed()) return scaled(count);
    return total.value() / count;
  };
  return {
    push(atUs, row, number, ordered) {
      if (tail === instants.length) makeRoom(atUs);
      instants[tail] = atUs;
      if (sums) {
        numbers[tail] = number;
        total.add(number);
      }
      if (least) low.push(ordered, row, moved + tail);
      if (greatest) high.push(ordered, row, moved + tail);
      lastRow = row;
      tail++;
    },
    moveTo,
    clear,
    count: () => tail - head,
    sum: () => meanOver(1),
    mean: () => (tail === head ? 0 : meanOver(tail - head)),
    last: () => (tail === head ? -1 : lastRow),
    least: () => low.row(),
    greatest: () => high.row(),
  };
}

/** DuckDB's order: NaN is above all numbers, text goes by code points. */
function isLess(a: Ordered, b: Ordered): boolean {
  if (typeof a === 'string' && typeof b === 'string') return compareText(a, b) < 0;
  return a < b || (Number.isNaN(b) && !Number.isNaN(a));
}

interface Extreme {
  push(value: Ordered, row: number, place: number): void;
  /** Forgets what came before a place. */
  forget(place: number): void;
  clear(): void;
  row(): number;
}

/** Candidates in order of their coming: one that is no better than a newer one will never be asked for again. */
function createExtreme(replaces: (newer: Ordered, older: Ordered) => boolean): Extreme {
  let values: Ordered[] = [];
  let rows: number[] = [];
  let places: number[] = [];
  let head = 0;
  return {
    push(value, row, place) {
      while (values.length > head && replaces(value, values[values.length - 1] ?? value)) {
        values.pop();
        rows.pop();
        places.pop();
      }
      values.push(value);
      rows.push(row);
      places.push(place);
    },
    forget(place) {
      while (head < places.length && (places[head] ?? place) < place) head++;
      if (head < FIRST_CAPACITY || head < places.length / 2) return;
      values = values.slice(head);
      rows = rows.slice(head);
      places = places.slice(head);
      head = 0;
    },
    clear() {
      values = [];
      rows = [];
      places = [];
      head = 0;
    },
    row: () => rows[head] ?? -1,
  };
}
