import { MillraceError, type Problem } from '../contracts/errors.ts';
import { answeredClass, jsonNumber } from './answer-text.ts';
import type { Decision } from '../data/row-decisions.ts';
import type { WriteRow } from './batcher.ts';
import type { EndpointLoad, ServingVersion } from './endpoint-table.ts';
import type { ModelOutput } from './model-runner.ts';
import type { LoggedRow, PredictionLog } from './prediction-log.ts';

/** Bounds on one request and on all of them. */
export interface ServingLimits {
  /** Larger bodies are refused with 413. */
  readonly maxBodyBytes: number;
  /** More rows in one request are refused with 413. */
  readonly maxRows: number;
  /** More requests at once are refused with 429. */
  readonly maxInFlight: number;
  /** More requests of one endpoint at once are refused with 429, so that a slow one leaves room for the others. */
  readonly maxInFlightOfEndpoint: number;
  /** A request that is not answered by then is answered with 504. */
  readonly timeoutMs: number;
}

export const DEFAULT_LIMITS: ServingLimits = {
  maxBodyBytes: 16 * 1024 * 1024,
  maxRows: 10_000,
  maxInFlight: 1_000,
  maxInFlightOfEndpoint: 800,
  timeoutMs: 30_000,
};

/** A request as both protocols bring it. */
export interface PredictionRequest {
  readonly requestId: string;
  readonly version: ServingVersion;
  readonly rows: number;
  readonly write: WriteRow;
  /** What the log holds of a row's input. */
  readonly logged: (row: number) => LoggedRow;
  /** `performance.now()` when the request was read. */
  readonly startedMs: number;
  /** By which a test of versions sticks. */
  readonly key?: string | undefined;
  /** It is computed beside the champion, and answers nobody. */
  readonly shadow?: boolean | undefined;
}

export interface Prediction {
  readonly output: ModelOutput;
  /** Where this request's rows start in the output. */
  readonly firstRow: number;
  /** Each row's output values as JSON. */
  readonly texts: readonly (readonly string[])[];
  /** What is done with each row, where the version has rules of decision. */
  readonly decisions: readonly Decision[] | undefined;
}

export interface Predictor {
  /** Answers by calling `done` once, later; a request that cannot be taken throws at once. */
  predict(request: PredictionRequest, done: (error: MillraceError | undefined, prediction: Prediction | undefined) => void): void;
  /**
   * Counts a request that waits for a model or for features as one that is being answered, until the function that it gives is called.
   * That function says whether the request's time was not over yet; `late` is called once when it is.
   * @throws as `predict` does at once
   */
  enter(request: { readonly rows: number; readonly load: EndpointLoad | undefined; readonly startedMs: number }, late: () => void): () => boolean;
  readonly inFlight: number;
  /** Ends the watch over time limits. */
  close(): void;
}

/** How often requests whose time is over are looked for. */
const SWEEP_EVERY_MS = 100;

/** A request that is being answered; the oldest stands first. */
interface Waiting {
  readonly startedMs: number;
  readonly late: () => void;
}

/** Counts a request that a version answered or failed. */
export function countAnswered(version: ServingVersion, code: number, rows: number, startedMs: number): void {
  version.figures.count(code, rows, performance.now() - startedMs);
  version.load.breaker?.count(version.challenger, code >= 500);
}

export const timedOut = (): MillraceError => new MillraceError('TIMED_OUT');

/** Puts a request through its version: limits, packing, the run, the log. */
export function createPredictor(deps: {
  readonly limits: ServingLimits;
  readonly log: PredictionLog;
  /** Hashes a client's key for the log; undefined: keys are not logged. */
  readonly hashKey?: ((key: string) => string) | undefined;
}): Predictor {
  const { limits } = deps;
  const waiting = new Set<Waiting>();
  let inFlight = 0;

  function admit(rows: number, load: EndpointLoad | undefined): void {
    if (rows === 0)
      throw new MillraceError('INVALID_REQUEST', 'The request has no rows.', {
        problems: [{ path: 'rows', message: 'must have at least one row', found: '0' }],
      });
    if (rows > limits.maxRows) throw new MillraceError('REQUEST_TOO_LARGE', `The request has ${rows} rows; this server takes ${limits.maxRows} at a time.`);
    if (inFlight >= limits.maxInFlight) throw new MillraceError('OVERLOADED', `${inFlight} requests are being answered; this server takes no more at a time.`);
    if (load !== undefined && load.inFlight >= limits.maxInFlightOfEndpoint)
      throw new MillraceError(
        'OVERLOADED',
        `${load.inFlight} requests of this endpoint are being answered; this server takes no more of one endpoint at a time.`,
      );
  }

  /** Counts a request until what it gives is called, which says whether the request's time was not over yet. */
  function track(load: EndpointLoad | undefined, startedMs: number, late: () => void): () => boolean {
    const entry: Waiting = { startedMs, late };
    waiting.add(entry);
    inFlight += 1;
    if (load !== undefined) load.inFlight += 1;
    return () => {
      inFlight -= 1;
      if (load !== undefined) load.inFlight -= 1;
      return waiting.delete(entry);
    };
  }

  // One timer for all: one of its own would cost each request more than its place in a set.
  const sweep = setInterval(() => {
    const before = performance.now() - limits.timeoutMs;
    for (const entry of waiting) {
      if (entry.startedMs > before) return;
      waiting.delete(entry);
      entry.late();
    }
  }, SWEEP_EVERY_MS);
  sweep.unref();

  return {
    enter({ rows, load, startedMs }, late) {
      admit(rows, load);
      return track(load, startedMs, late);
    },
    predict({ requestId, version, rows, write, logged, startedMs, key, shadow }, done) {
      admit(rows, version.load);
      let leave: () => boolean = () => true;
      const problems: readonly Problem[] | undefined = version.predictor.batcher.add(rows, write, (error, output, packed, firstRow) => {
        // An answer that comes too late was given already, as a failure.
        if (!leave()) return;
        if (error !== undefined || output === undefined) {
          done(error ?? new MillraceError('INTERNAL'), undefined);
          return;
        }
        const { values, width } = output;
        const texts: string[][] = [];
        const { decider, signature } = version.predictor;
        const decisions: Decision[] | undefined = decider === undefined ? undefined : [];
        const latencyMs = performance.now() - startedMs;
        for (let row = 0; row < rows; row += 1) {
          const from = (firstRow + row) * width;
          const rowTexts: string[] = [];
          for (let k = 0; k < width; k += 1) rowTexts.push(jsonNumber(values[from + k] ?? Number.NaN));
          texts.push(rowTexts);
          const decision = decider?.decide({
            requestId,
            row,
            values: logged(row).values,
            output: values,
            from,
            answered: answeredClass(signature, values, from, width),
          });
          if (decision !== undefined) decisions?.push(decision);
        }
        try {
          done(undefined, { output, firstRow, texts, decisions });
        } catch (cause) {
          done(new MillraceError('INTERNAL', 'The answer could not be written.', { cause }), undefined);
        }
        // who asked has the answer by now: what is left to do is nobody's wait
        if (version.log) {
          for (let row = 0; row < rows; row += 1)
            deps.log.record(version, {
              requestId,
              row,
              input: logged(row),
              packed,
              packedRow: firstRow + row,
              output: texts[row]?.join(',') ?? '',
              decision: decisions?.[row],
              shadow,
              key: key === undefined ? undefined : deps.hashKey?.(key),
              latencyMs,
            });
        }
        version.figures.countOutputs(signature, values, width, firstRow, rows);
      });
      if (problems !== undefined) throw new MillraceError('INVALID_REQUEST', undefined, { problems });
      leave = track(version.load, startedMs, () => {
        done(timedOut(), undefined);
      });
    },
    get inFlight() {
      return inFlight;
    },
    close() {
      clearInterval(sweep);
    },
  };
}
