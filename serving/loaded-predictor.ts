import { MillraceError, type Problem } from '../contracts/errors.ts';
import type { ServedVersion } from '../contracts/routes.ts';
import { type Predictor, PredictorSchema, type Signature } from '../contracts/signature.ts';
import { type Batcher, createBatcher } from './batcher.ts';
import { type Decisions, DecisionsSchema, rulesAlone } from '../contracts/decisions.ts';
import { compileDecisions, type Decider } from '../data/row-decisions.ts';
import { type LoggedInputs, planLoggedInputs } from './logged-inputs.ts';
import { loadOnnxRunner, type ModelOutput, type ModelRunner, type RunnerOptions } from './model-runner.ts';

import { createRowReader, type PackedRows, type RowReader } from '../data/request-row.ts';
import type { ArtifactBytes } from './ports.ts';
import type { MarkWriter } from './running-mark.ts';
import { createRowCompleter, type RowCompleter } from './row-completer.ts';
import type { StartRunner } from './threaded-runner.ts';

/** A model that was read, checked and warmed: ready for traffic. */
export interface LoadedPredictor {
  readonly signature: Signature;
  readonly logged: LoggedInputs;
  /** Values a row in the graph's output, as seen on the stored sample; 0 when there is no sample. */
  readonly outputWidth: number;
  readonly row: RowReader;
  readonly batcher: Batcher;
  /** What is done with its predictions; undefined: they are answered as they are. */
  readonly decider: Decider | undefined;
  /** What fills in the columns that requests may leave out; undefined when there are none. */
  readonly completer: RowCompleter | undefined;
  /** Which columns those are. */
  readonly lookups: Predictor['lookups'];
  /** What it takes in memory, as estimated from its file. */
  readonly memoryBytes: number;
  /** Keeps the model until the function that it gives is called, for a request that is not in the batcher yet. */
  hold(): () => void;
  /** Waits until what was taken is answered, then frees the model. No request may be added any more. */
  close(): Promise<void>;
}

export interface LoadOptions {
  readonly hashKey?: string;
  readonly runner?: RunnerOptions;
  readonly maxBatchRows?: number;
  /** Without the control share of its rules of decision, and without reviews: nothing is logged. */
  readonly rulesAlone?: boolean;
  readonly onUnexpected?: (cause: unknown) => void;
  /** Told which predictor's native code is about to run. */
  readonly mark?: MarkWriter | undefined;
  /** Where large models are loaded and run, so that they stall nobody. Left out: where all others are. */
  readonly threads?: RunnerThreads | undefined;
  /** Waited for before a large model is read into a thread. */
  readonly aside?: (() => Promise<void>) | undefined;
}

export interface RunnerThreads {
  /** From so much memory on, as estimated, a model is large. */
  readonly fromBytes: number;
  readonly start: StartRunner;
  /** Told when a thread ended by itself. */
  readonly onLost?: ((predictor: string) => void) | undefined;
}

/** How far a sample's output may be from the stored one: the same graph on another processor rounds differently. */
const SAMPLE_TOLERANCE = 1e-4;
/** Runs before traffic: onnxruntime plans its memory on the first ones. */
const WARM_RUNS = 3;

const MODEL_BASE_BYTES = 1024 * 1024;
const SCAN_BYTES = 4 * 1024 * 1024;
/** Reading a model's file may take so long; a run on a thread is noticed as slow from the next on. */
const LOAD_MS = 120_000;
const SLOW_RUN_MS = 500;
/** Operators that onnxruntime turns into tables much larger than their attributes in the file. */
const UNFOLDED = ['TreeEnsemble', 'LabelEncoder', 'TfIdfVectorizer'] as const;

/**
 * About how much memory a session over this file takes. Seen with onnxruntime 1.30 as growth of a process by several
 * sessions: trees 7 to 9 times the file (1.3 and 6.7 MiB), a table of 200,000 texts 12 times (4.7 MiB), weights of a
 * network twice (7.6 MiB).
 */
async function sessionBytes(file: Buffer): Promise<number> {
  let unfolded = false;
  // piece by piece, with an overlap: the loop turns between them
  for (let at = 0; at < file.length && !unfolded; at += SCAN_BYTES) {
    if (at > 0) await new Promise((resolve) => setImmediate(resolve));
    const piece = file.subarray(at, at + SCAN_BYTES + 64);
    unfolded = UNFOLDED.some((operator) => piece.includes(operator));
  }
  return MODEL_BASE_BYTES + (unfolded ? 12 : 3) * file.length;
}

function parsePredictor(bytes: Buffer): Predictor {
  let json: unknown;
  try {
    json = JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw new MillraceError('MODEL_INVALID', 'The predictor is not JSON.', { cause });
  }
  const parsed = PredictorSchema.safeParse(json);
  if (parsed.success) return parsed.data;
  throw new MillraceError('MODEL_INVALID', 'The predictor does not have the form of one.', {
    problems: parsed.error.issues.map((i) => ({ path: i.path.join('.'), message: i.message })),
  });
}

function parseDecisions(bytes: Buffer): Decisions {
  const parsed = DecisionsSchema.safeParse(JSON.parse(bytes.toString('utf8')));
  if (parsed.success) return parsed.data;
  throw new MillraceError('MODEL_INVALID', 'The rules of decision do not have the form of such rules.', {
    problems: parsed.error.issues.map((i) => ({ path: i.path.join('.'), message: i.message })),
  });
}

/** The classes must be as many as the graph gives probabilities. */
function checkWidth(signature: Signature, width: number): void {
  const expected = signature.task.kind === 'regression' ? 1 : signature.task.kind === 'raw' ? width : signature.task.classes.length;
  if (width === expected) return;
  throw new MillraceError('MODEL_INVALID', 'The model gives another number of values a row than its signature says.', {
    problems: [{ path: 'output', message: `${expected} expected`, found: String(width) }],
  });
}

/** Says before each run whose it is: in the turn of the loop in which the native code runs, and right before it. */
function markedRunner(runner: ModelRunner, mark: MarkWriter, predictor: string): ModelRunner {
  const note = (): void => {
    mark.runs(predictor);
  };
  const ran = (): void => {
    mark.ran();
  };
  return {
    run(packed, firstRow, rows) {
      setImmediate(note);
      const output = runner.run(packed, firstRow, rows);
      if (mark.isShared) output.then(ran, ran);
      return output;
    },
    close: () => runner.close(),
  };
}

/** Reads a model into a session: on this thread, or a large one on its own. */
async function startRunner(
  model: Buffer,
  memoryBytes: number,
  signature: Signature,
  predictor: string,
  { runner, mark, threads, aside }: LoadOptions,
): Promise<ModelRunner> {
  if (threads === undefined || memoryBytes < threads.fromBytes) {
    const loaded = mark?.loads(predictor);
    const bare = await loadOnnxRunner(model, signature, runner).finally(loaded);
    return mark === undefined ? bare : markedRunner(bare, mark, predictor);
  }
  await aside?.();
  const loaded = mark?.aside(predictor, LOAD_MS);
  return threads
    .start(model, signature, {
      runner,
      ...(mark === undefined ? {} : { runs: () => mark.aside(predictor, SLOW_RUN_MS) }),
      onLost() {
        mark?.aside(predictor, 0);
        threads.onLost?.(predictor);
      },
    })
    .finally(loaded);
}

async function runSample(predictor: Predictor, row: RowReader, runner: ModelRunner): Promise<number> {
  const { rows, output } = predictor.sample;
  if (rows.length === 0) return 0;
  if (rows.length !== output.length) throw new MillraceError('MODEL_INVALID', 'The stored sample has not one output a row.');
  const packed: PackedRows = row.allocate(rows.length);
  const problems = rows.flatMap((values, index): readonly Problem[] => row.read(values, index, packed, index) ?? []);
  if (problems.length > 0) throw new MillraceError('MODEL_INVALID', 'The stored sample does not fit the signature.', { problems });
  let found: ModelOutput | undefined;
  for (let i = 0; i < WARM_RUNS; i += 1) found = await runner.run(packed, 0, rows.length);
  await runner.run(packed, 0, 1);
  if (found === undefined) return 0;
  const { values, width } = found;
  checkWidth(predictor.signature, width);
  const differing = output.flatMap((expected, i): Problem[] => {
    const same =
      expected.length === width &&
      expected.every((value, k) => Math.abs(value - (values[i * width + k] ?? Number.NaN)) <= SAMPLE_TOLERANCE * Math.max(1, Math.abs(value)));
    return same
      ? []
      : [
          {
            path: `sample.output[${i}]`,
            message: `${expected.join(', ')} expected`,
            found: Array.from({ length: width }, (_, k) => values[i * width + k]).join(', '),
            row: i,
          },
        ];
  });
  if (differing.length > 0)
    throw new MillraceError('MODEL_INVALID', 'The model does not give the output stored for its sample.', { problems: differing.slice(0, 10) });
  return width;
}

/**
 * Reads a version's predictor and model, which the artifact store holds against their hashes, runs the stored sample, and warms the model.
 *
 * @throws MillraceError ARTIFACT_MISSING, ARTIFACT_CORRUPT, or MODEL_INVALID with what does not fit.
 */
export async function loadPredictor(served: ServedVersion, artifacts: ArtifactBytes, options: LoadOptions = {}): Promise<LoadedPredictor> {
  const predictor = parsePredictor(await artifacts.getBytes(served.predictor));
  const { signature } = predictor;
  const model = await artifacts.getBytes(predictor.onnx);
  const decisions = served.decisions === undefined ? undefined : parseDecisions(await artifacts.getBytes(served.decisions));
  const decider =
    decisions === undefined ? undefined : compileDecisions(options.rulesAlone === true ? rulesAlone(decisions) : decisions, signature, options.hashKey);
  const row = createRowReader(signature, options.hashKey);
  const memoryBytes = await sessionBytes(model);
  const runner = await startRunner(model, memoryBytes, signature, served.predictor, options);
  try {
    const outputWidth = await runSample(predictor, row, runner);
    const widths = { numbers: signature.graph.numbers.length, dates: signature.graph.dates.length, strings: signature.graph.strings.length };
    const batcher = createBatcher(runner, {
      widths,
      ...(options.maxBatchRows === undefined ? {} : { maxRows: options.maxBatchRows }),
      ...(options.onUnexpected === undefined ? {} : { onUnexpected: options.onUnexpected }),
    });
    let held = 0;
    let free: (() => void) | undefined;
    return {
      signature,
      logged: planLoggedInputs(signature),
      outputWidth,
      row,
      batcher,
      decider,
      completer: createRowCompleter(predictor.lookups, options.hashKey),
      lookups: predictor.lookups,
      memoryBytes,
      hold() {
        held += 1;
        return () => {
          held -= 1;
          if (held === 0) free?.();
        };
      },
      async close() {
        if (held > 0)
          await new Promise<void>((resolve) => {
            free = resolve;
          });
        await batcher.drained();
        await runner.close();
      },
    };
  } catch (error) {
    await runner.close();
    throw error;
  }
}
