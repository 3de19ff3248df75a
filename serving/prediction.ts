import { MillraceError, type Problem } from '../contracts/errors.ts';
import { jsonNumber } from './answer-text.ts';
import type { WriteRow } from './batcher.ts';
import type { ServingVersion } from './endpoint-table.ts';
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
}

export const DEFAULT_LIMITS: ServingLimits = { maxBodyBytes: 16 * 1024 * 1024, maxRows: 10_000, maxInFlight: 1_000 };

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
}

export interface Prediction {
  readonly output: ModelOutput;
  /** Where this request's rows start in the output. */
  readonly firstRow: number;
  /** Each row's output values as JSON. */
  readonly texts: readonly (readonly string[])[];
}

export interface Predictor {
  /** Answers by calling `done` once, later; a request that cannot be taken throws at once. */
  predict(request: PredictionRequest, done: (error: MillraceError | undefined, prediction: Prediction | undefined) => void): void;
  /**
   * Counts a request whose rows are being completed as one that is being answered, until the function that it gives is called.
   * @throws as `predict` does at once
   */
  enter(rows: number): () => void;
  readonly inFlight: number;
}

/** Puts a request through its version: limits, packing, the run, the log. */
export function createPredictor(deps: { readonly limits: ServingLimits; readonly log: PredictionLog }): Predictor {
  const { limits } = deps;
  let inFlight = 0;

  function admit(rows: number): void {
    if (rows === 0)
      throw new MillraceError('INVALID_REQUEST', 'The request has no rows.', {
        problems: [{ path: 'rows', message: 'must have at least one row', found: '0' }],
      });
    if (rows > limits.maxRows) throw new MillraceError('REQUEST_TOO_LARGE', `The request has ${rows} rows; this server takes ${limits.maxRows} at a time.`);
    if (inFlight >= limits.maxInFlight) throw new MillraceError('OVERLOADED', `${inFlight} requests are being answered; this server takes no more at a time.`);
  }

  return {
    enter(rows) {
      admit(rows);
      inFlight += 1;
      return () => {
        inFlight -= 1;
      };
    },
    predict({ requestId, version, rows, write, logged, startedMs }, done) {
      admit(rows);
      const problems: readonly Problem[] | undefined = version.predictor.batcher.add(rows, write, (error, output, packed, firstRow) => {
        inFlight -= 1;
        if (error !== undefined || output === undefined) {
          done(error ?? new MillraceError('INTERNAL'), undefined);
          return;
        }
        const { values, width } = output;
        const texts: string[][] = [];
        const latencyMs = performance.now() - startedMs;
        for (let row = 0; row < rows; row += 1) {
          const from = (firstRow + row) * width;
          const rowTexts: string[] = [];
          for (let k = 0; k < width; k += 1) rowTexts.push(jsonNumber(values[from + k] ?? Number.NaN));
          texts.push(rowTexts);
          if (version.log)
            deps.log.record(version, { requestId, row, input: logged(row), packed, packedRow: firstRow + row, output: rowTexts.join(','), latencyMs });
        }
        done(undefined, { output, firstRow, texts });
      });
      if (problems !== undefined) throw new MillraceError('INVALID_REQUEST', undefined, { problems });
      inFlight += 1;
    },
    get inFlight() {
      return inFlight;
    },
  };
}
