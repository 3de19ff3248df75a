import { InferenceSession, Tensor } from 'onnxruntime-node';
import { MillraceError } from '../contracts/errors.ts';
import type { Signature } from '../contracts/signature.ts';
import type { PackedRows } from '../data/request-row.ts';

export interface ModelOutput {
  /** Row-major [rows × width]. */
  readonly values: ArrayLike<number>;
  readonly width: number;
}

/**
 * A loaded model. The port knows nothing of requests: whoever implements it may compute on this thread, as
 * `loadOnnxRunner` does, or on another one.
 */
export interface ModelRunner {
  /** The arrays must not change until the promise settles. */
  run(packed: PackedRows, firstRow: number, rows: number): Promise<ModelOutput>;
  close(): Promise<void>;
}

export interface RunnerOptions {
  /** Threads of one run. Default 1: more than one slows small models, and requests share the machine's cores. */
  readonly intraOpThreads?: number;
}

type Group = 'numbers' | 'dates' | 'strings';
const GROUP_TYPES: Readonly<Record<Group, string>> = { numbers: 'float32', dates: 'int64', strings: 'string' };

/** The graph input that takes a group: the one of its name, or for a bare ONNX file the only one of its type. */
function inputFor(session: InferenceSession, group: Group): string {
  if (session.inputNames.includes(group)) return group;
  const fitting = session.inputMetadata.filter((input) => input.isTensor && input.type === GROUP_TYPES[group]);
  const [only] = fitting;
  if (only === undefined || fitting.length !== 1) {
    throw new MillraceError('MODEL_INVALID', `The model has no input for the ${group} of its signature.`, {
      problems: [{ path: `graph.${group}`, message: `no single input of type ${GROUP_TYPES[group]}`, found: session.inputNames.join(', ') }],
    });
  }
  return only.name;
}

/** The output that is answered: `output`, or for a bare ONNX file the last one that is a tensor of floats. */
function outputOf(session: InferenceSession): string {
  if (session.outputNames.includes('output')) return 'output';
  const fitting = session.outputMetadata.filter((output) => output.isTensor && (output.type === 'float32' || output.type === 'float64'));
  const last = fitting.at(-1);
  if (last === undefined)
    throw new MillraceError('MODEL_INVALID', 'The model has no output of floats.', {
      problems: [{ path: 'output', message: 'no float output', found: session.outputNames.join(', ') }],
    });
  return last.name;
}

/**
 * Loads an ONNX model into this thread. A run computes on the event loop (onnxruntime-node does), after it yielded once.
 *
 * @throws MillraceError MODEL_INVALID when onnxruntime refuses the file, or its inputs do not fit the signature.
 */
export async function loadOnnxRunner(model: Uint8Array, signature: Signature, options: RunnerOptions = {}): Promise<ModelRunner> {
  const session = await InferenceSession.create(model, {
    intraOpNumThreads: options.intraOpThreads ?? 1,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    logSeverityLevel: 4,
  }).catch((cause: unknown) => {
    throw new MillraceError('MODEL_INVALID', 'onnxruntime cannot load the model file.', { cause });
  });
  try {
    const { graph } = signature;
    const width: Readonly<Record<Group, number>> = { numbers: graph.numbers.length, dates: graph.dates.length, strings: graph.strings.length };
    const groups = (['numbers', 'dates', 'strings'] as const).filter((group) => width[group] > 0).map((group) => ({ group, input: inputFor(session, group) }));
    const unfed = session.inputNames.filter((name) => !groups.some((g) => g.input === name));
    if (unfed.length > 0) {
      throw new MillraceError('MODEL_INVALID', 'The model has inputs that its signature does not fill.', {
        problems: unfed.map((name) => ({ path: name, message: 'an input without columns' })),
      });
    }
    const output = outputOf(session);
    const fetches = [output];

    return {
      async run(packed, firstRow, rows) {
        const feeds: Record<string, Tensor> = {};
        for (const { group, input } of groups) {
          const columns = width[group];
          const from = firstRow * columns;
          const to = from + rows * columns;
          const dims = [rows, columns];
          if (group === 'numbers') feeds[input] = new Tensor('float32', packed.numbers.subarray(from, to), dims);
          else if (group === 'dates') feeds[input] = new Tensor('int64', packed.dates.subarray(from, to), dims);
          else feeds[input] = new Tensor('string', packed.strings.slice(from, to), dims);
        }
        const result = (await session.run(feeds, fetches))[output];
        if (result === undefined || !(result.data instanceof Float32Array || result.data instanceof Float64Array))
          throw new MillraceError('MODEL_INVALID', 'The model gave no floats.');
        if (rows > 0 && result.data.length % rows !== 0) throw new MillraceError('MODEL_INVALID', 'The model did not give one output a row.');
        return { values: result.data, width: rows === 0 ? 0 : result.data.length / rows };
      },
      close: () => session.release(),
    };
  } catch (error) {
    await session.release();
    throw error;
  }
}
