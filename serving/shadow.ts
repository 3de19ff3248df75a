/**
 * Shows a challenger the requests that the champion has answered.
 *
 * Invariants:
 * 1. A request is mirrored after its answer was sent; nothing that goes wrong here reaches a client.
 * 2. Mirrored requests wait while others are being answered, and are bounded; what does not fit is dropped and counted.
 * 3. The challenger reads the request with its own signature; one that it cannot read counts as a failed request of the
 *    challenger's, not as a pair.
 */
import { ERRORS } from '../contracts/errors.ts';
import { answeredClass } from './answer-text.ts';
import type { ServingVersion } from './endpoint-table.ts';
import { toMillraceError } from './http-errors.ts';
import { completeRows, type PredictionRoutesDeps } from './predict-route.ts';
import type { Prediction } from './prediction.ts';

export interface Mirrored {
  readonly requestId: string;
  /** The champion that answered. */
  readonly champion: ServingVersion;
  readonly shadow: ServingVersion;
  readonly rows: readonly unknown[];
  /** What it answered. */
  readonly prediction: Prediction;
}

export interface Shadow {
  mirror(request: Mirrored): void;
  /** Requests that were not shown to a challenger because there was too much to do. */
  readonly dropped: number;
}

/** Mirrored requests that wait or run. */
const MAX_WAITING = 64;
/** A request of more rows is not mirrored: it would hold up what comes after it. */
const MAX_ROWS = 256;
/** Requests being answered, beyond which mirrored ones wait. */
const BUSY = 4;
const LOOK_AGAIN_MS = 2;
const TOLERANCE = 1e-4;

interface Waiting {
  readonly request: Mirrored;
  readonly output: Float64Array;
  readonly width: number;
}

const near = (a: number, b: number): boolean => a === b || Math.abs(a - b) <= TOLERANCE * Math.max(1, Math.abs(a));

/** Rows with the same answer: the same class, or the same values but for rounding. */
function equalRows({ request: { champion, rows }, output, width }: Waiting, shadow: ServingVersion, { output: other, firstRow }: Prediction): number {
  const [mine, its] = [champion.predictor.signature, shadow.predictor.signature];
  let equal = 0;
  for (let row = 0; row < rows.length; row += 1) {
    const [from, otherFrom] = [row * width, (firstRow + row) * other.width];
    if ('classes' in mine.task && 'classes' in its.task) {
      if (mine.task.classes[answeredClass(mine, output, from, width)] === its.task.classes[answeredClass(its, other.values, otherFrom, other.width)])
        equal += 1;
    } else if (width === other.width) {
      let same = true;
      for (let k = 0; k < width; k += 1) same &&= near(output[from + k] ?? Number.NaN, other.values[otherFrom + k] ?? Number.NaN);
      if (same) equal += 1;
    }
  }
  return equal;
}

export function createShadow(deps: Pick<PredictionRoutesDeps, 'predictor' | 'online'>): Shadow {
  const waiting: Waiting[] = [];
  let running = 0;
  let asked = false;
  let dropped = 0;

  const isBusy = (): boolean => deps.predictor.inFlight - running > BUSY;

  function ask(): void {
    if (asked || waiting.length === 0) return;
    asked = true;
    if (isBusy()) setTimeout(next, LOOK_AGAIN_MS);
    else setImmediate(next);
  }

  function next(): void {
    asked = false;
    const [first] = waiting;
    if (first === undefined) return;
    if (!isBusy()) {
      waiting.shift();
      run(first);
    }
    ask();
  }

  function run(entry: Waiting): void {
    const { shadow, requestId, rows } = entry.request;
    const startedMs = performance.now();
    running += 1;
    const release = shadow.predictor.hold();
    let over = false;
    const end = (error: unknown, prediction?: Prediction): void => {
      if (over) return;
      over = true;
      running -= 1;
      release();
      const code = prediction === undefined ? ERRORS[toMillraceError(error).code].http : 200;
      shadow.figures.count(code, rows.length, performance.now() - startedMs);
      if (prediction !== undefined) shadow.figures.countCompared(rows.length, equalRows(entry, shadow, prediction));
      ask();
    };
    try {
      completeRows(
        deps,
        shadow,
        rows,
        startedMs,
        (complete) => {
          deps.predictor.predict(
            {
              requestId,
              version: shadow,
              rows: rows.length,
              startedMs,
              shadow: true,
              write: (row, packed, at) => shadow.predictor.row.read(complete[row], row, packed, at),
              logged: (row) => ({ values: complete[row] as Readonly<Record<string, unknown>>, text: undefined }),
            },
            end,
          );
        },
        end,
      );
    } catch (error) {
      end(error);
    }
  }

  return {
    mirror(request) {
      const { output, firstRow } = request.prediction;
      const { length } = request.rows;
      if (waiting.length + running >= MAX_WAITING || length > MAX_ROWS) {
        dropped += 1;
        return;
      }
      // The run's own array may hold a whole batch, and would be kept for a few numbers of it.
      const copy = new Float64Array(length * output.width);
      for (let i = 0; i < copy.length; i += 1) copy[i] = output.values[firstRow * output.width + i] ?? Number.NaN;
      waiting.push({ request, output: copy, width: output.width });
      ask();
    },
    get dropped() {
      return dropped;
    },
  };
}
