/**
 * The error table: every failure that a user can meet, with what it means to HTTP, to the shell and to Temporal.
 *
 * Invariants:
 * 1. Each code stands here once, with its fix. `docs/errors.md` is held against this table by a test.
 * 2. A driver's message, parameters or cause never cross a boundary; only a `MillraceError` does.
 * 3. `retryable: false` means that trying again cannot help; Temporal is told so.
 */

export interface ErrorEntry {
  readonly http: number;
  /** 1 the work failed, 2 bad usage or input, 3 a needed service is not reachable. */
  readonly exit: 1 | 2 | 3;
  readonly retryable: boolean;
  readonly summary: string;
  readonly fix: string;
}

const entry = (http: number, exit: 1 | 2 | 3, retryable: boolean, summary: string, fix: string): ErrorEntry => ({ http, exit, retryable, summary, fix });

export const ERRORS = {
  // input and usage
  INVALID_PARAMETERS: entry(
    400,
    2,
    false,
    'The parameters do not fit.',
    'Correct each value that is listed; `millrace pipelines show NAME` prints the parameters and their defaults.',
  ),
  INVALID_CONFIG: entry(400, 2, false, 'The configuration does not fit.', 'Correct each variable or field of millrace.config.ts that is listed.'),
  INVALID_REQUEST: entry(400, 2, false, 'The request does not fit.', 'Correct each row and column that is listed.'),
  UNKNOWN_PIPELINE: entry(
    404,
    2,
    false,
    'There is no pipeline of that name.',
    'Use one of the names listed; a pipeline is an export of a folder in pipelines/.',
  ),
  NOT_FOUND: entry(404, 2, false, 'There is nothing of that name.', 'Check the name; the list command of the same kind shows what exists.'),
  CONFLICT: entry(409, 1, false, 'That exists already, or another change is under way.', 'Wait for the other change to end, or choose another name.'),
  ARTIFACTS_UNAVAILABLE: entry(
    503,
    3,
    true,
    'The store of the artifacts does not answer.',
    'Check MILLRACE_ARTIFACTS, S3_ENDPOINT and the credentials; the stage is tried again by itself.',
  ),
  MODEL_IN_USE: entry(
    409,
    1,
    false,
    'An endpoint serves the model, or has served it.',
    'Serve another version first (`millrace endpoints show NAME`), then delete or rename it.',
  ),
  TOKEN_NEEDED: entry(
    401,
    2,
    false,
    'A token is needed.',
    'Send `Authorization: Bearer TOKEN`; on the command line, set MILLRACE_TOKEN. `millrace tokens create` makes one.',
  ),
  NOT_ALLOWED: entry(403, 2, false, 'The token may not do this.', 'Ask an admin for a token with the role that is named, or for one of that project.'),
  VOUCHER_REFUSED: entry(403, 2, false, 'The voucher is not good (any more).', 'Ask for a new one: each is good for one message, and for five minutes.'),
  SECRET_MISSING: entry(
    400,
    2,
    false,
    'A secret that a pipeline names is not set.',
    'Set each variable that is listed where the worker runs, and start the worker again.',
  ),
  AUDIT_BROKEN: entry(
    500,
    1,
    false,
    'What shows that the audit log is whole cannot be read.',
    'Look at who changed the file that is named; take a copy of it from elsewhere.',
  ),
  USAGE: entry(400, 2, false, 'The command was not understood.', 'See --help.'),
  // data
  SOURCE_NOT_FOUND: entry(404, 2, false, 'The source does not exist or cannot be read.', 'Check the path; it is taken relative to the project folder.'),
  SOURCE_MALFORMED: entry(
    400,
    2,
    false,
    'The source could not be parsed.',
    'Correct the file at the row and column that are named, or state format, delimiter or encoding of the source.',
  ),
  SOURCE_UNAVAILABLE: entry(
    503,
    3,
    true,
    'The server that holds the source does not answer.',
    'Check that the worker reaches the server; the stage is tried again by itself.',
  ),
  SOURCE_EMPTY: entry(400, 2, false, 'The source has no rows.', 'Check the path and the filter of the source.'),
  COLUMN_MISSING: entry(400, 2, false, 'A column that is needed is not there.', 'Use one of the columns that are listed, or correct the source.'),
  COLUMN_TYPE: entry(400, 2, false, 'A column has a type that does not fit.', 'Convert the column in the source or with a clean rule.'),
  EXPECTATIONS_FAILED: entry(
    422,
    1,
    false,
    'The data does not meet its expectations.',
    'Look at each expectation listed with its failing rows; correct the data, or the expectation.',
  ),
  SPLIT_IMPOSSIBLE: entry(400, 2, false, 'The data cannot be split as asked.', 'Give more rows, other fractions, or another column.'),
  SPLIT_LEAKS: entry(
    422,
    1,
    false,
    'The parts of a split know of each other.',
    'Look at each leak that is listed; split another way, or have it warn only: leaks.',
  ),
  // training
  TARGET_ONE_CLASS: entry(
    422,
    2,
    false,
    'The target has a single class.',
    'Check the rule that makes the target, and the split: training needs at least two classes.',
  ),
  TARGET_INVALID: entry(
    422,
    2,
    false,
    'The target cannot be learnt.',
    'The target must have no missing values and be a number (regression) or a category (classification).',
  ),
  FEATURES_INVALID: entry(422, 2, false, 'The features do not fit the data.', 'Correct each feature that is listed.'),
  TRAINING_DIVERGED: entry(422, 1, false, 'The loss became infinite or not a number.', 'Lower the learning rate, scale the features, or clip extreme values.'),
  TRAINING_STALLED: entry(
    422,
    1,
    false,
    'The loss no longer falls, though training is not at its end.',
    'Look at the last steps: scale the features, clip extreme values, or change the learning rate.',
  ),
  TUNING_FAILED: entry(
    422,
    1,
    false,
    'No trial of a tuning has completed.',
    'Look at the reasons that are listed; narrow the space, or correct what all trials share.',
  ),
  LOAD_TEST_FAILED: entry(
    422,
    1,
    false,
    'A version does not bear the load that was asked for.',
    'Look at each figure that is missed: take a smaller model, or ask for less; on a busy machine, run the stage on a pool of its own.',
  ),
  MODEL_INVALID: entry(422, 1, false, 'The model file cannot be used.', 'The file must be a valid ONNX model whose inputs and outputs match its signature.'),
  PYTHON_UNAVAILABLE: entry(
    500,
    3,
    false,
    'There is no Python interpreter that can be used.',
    'Install Python 3.9 or later with venv where the worker runs, or name one by python({ python: … }).',
  ),
  PYTHON_ENVIRONMENT_FAILED: entry(
    500,
    1,
    false,
    'The Python packages could not be installed.',
    "Look at pip's last lines; correct the requirements file, or let the worker reach a package index.",
  ),
  TRAINER_FAILED: entry(422, 1, false, 'The program that trains has failed.', 'Look at the last lines of its log, and correct the program.'),
  TRAINER_KILLED: entry(
    500,
    1,
    true,
    'The program that trains was killed.',
    'Nothing to do: the next attempt goes on from its last checkpoint. If it comes again, look at the log of the machine.',
  ),
  TRAINER_STALLED: entry(
    504,
    1,
    true,
    'The program that trains hangs.',
    'Let it print a line now and then, or give the stage a longer stallAfter; the next attempt goes on from its last checkpoint.',
  ),
  OUT_OF_MEMORY: entry(507, 1, false, 'The work ran out of memory.', 'Use a pool with more memory, a smaller sample, or fewer features.'),
  ACCEPTANCE_FAILED: entry(422, 1, false, 'The model does not meet its acceptance rules.', 'Look at each rule listed with the value found.'),
  UNSERVED_COLUMN: entry(
    422,
    1,
    false,
    'The model reads a column that requests cannot be given.',
    'Leave the columns listed out of the features, or give what made them a counterpart for requests.',
  ),
  GATE_REJECTED: entry(409, 1, false, 'A reviewer rejected the gate.', 'See the reason; start a new run when it is settled.'),
  LABELS_MISSING: entry(
    408,
    1,
    false,
    'People did not give all labels in time.',
    'Answer the rest with `millrace label QUEUE` and start the run again; what was answered is kept.',
  ),
  GATE_EXPIRED: entry(408, 1, false, 'Nobody decided before the gate expired.', 'Start a new run, or give the gate more time.'),
  // publishing
  FENCED: entry(
    409,
    1,
    false,
    'A newer attempt has taken over; this one may not publish.',
    'Nothing to do: the newer attempt goes on. Look at the newest run.',
  ),
  DEPLOY_FAILED: entry(
    502,
    1,
    false,
    'The version could not be brought into service.',
    'Look at the rollout with `millrace endpoints show`; traffic is as it was before.',
  ),
  ROLLED_BACK: entry(409, 1, false, 'The rollout was taken back.', 'Look at the guard and its figures with `millrace endpoints show`.'),
  UNDO_FAILED: entry(
    500,
    1,
    true,
    'Something published could not be taken back.',
    'See which; `millrace runs show` lists what is left, and the reconciler tries again.',
  ),
  // machines
  ARTIFACT_CORRUPT: entry(
    500,
    1,
    false,
    'An artifact does not have the content that its name promises.',
    'The file was changed or damaged on disk. Restore it from a backup, or run the stage again with --no-cache.',
  ),
  ARTIFACT_MISSING: entry(
    404,
    1,
    false,
    'An artifact is not in the store.',
    'It was removed, or the store is another one. Run the stage again with --no-cache.',
  ),
  DISK_FULL: entry(507, 1, false, 'The disk of the artifact store is full.', 'Free space or move MILLRACE_HOME, then `millrace runs retry`.'),
  DATABASE_UNAVAILABLE: entry(503, 3, true, 'Postgres does not answer.', 'Check `millrace status`; with your own server check DATABASE_URL.'),
  TEMPORAL_UNAVAILABLE: entry(503, 3, true, 'Temporal does not answer.', 'Check `millrace status`; with your own server check TEMPORAL_ADDRESS.'),
  SERVER_UNAVAILABLE: entry(503, 3, true, 'A server that is needed does not answer.', 'Start the stack with `millrace up`, and check `millrace status`.'),
  SCHEMA_TOO_NEW: entry(500, 3, false, 'The database was made by a newer Millrace.', 'Update millrace to at least that version, or use another database.'),
  PORT_IN_USE: entry(409, 3, false, 'A port is taken by another program.', 'Stop that program, or move the port with the variable that is named.'),
  PROGRAM_MISSING: entry(500, 3, false, 'A program that is needed is not installed.', 'Install it; `millrace doctor` says how.'),
  ALREADY_RUNNING: entry(409, 2, false, 'A stack is already running in this state folder.', 'Use it, or stop it with `millrace down`.'),
  NOT_RUNNING: entry(409, 3, false, 'No stack is running in this state folder.', 'Start one with `millrace up`.'),
  // serving
  ENDPOINT_NOT_FOUND: entry(404, 2, false, 'There is no endpoint of that name.', '`millrace endpoints list` shows the endpoints.'),
  ENDPOINT_NOT_READY: entry(503, 1, true, 'The endpoint has no model loaded yet.', 'Wait for its rollout; `millrace endpoints show` says how far it is.'),
  MODEL_CRASHED: entry(
    503,
    1,
    true,
    'The model ended its process or hung, and gets no traffic for a while.',
    'Roll back with `millrace endpoints rollback`; look at the log of the prediction server.',
  ),
  TIMED_OUT: entry(504, 1, true, 'The request was not answered in time.', 'Send fewer rows at a time, or try again.'),
  NOT_MATERIALIZED: entry(
    409,
    1,
    false,
    'A feature view has no online values.',
    'Run a pipeline that materializes the view, or send its features with the request.',
  ),
  REQUEST_TOO_LARGE: entry(413, 2, false, 'The request is larger than the server takes.', 'Send fewer rows at a time.'),
  OVERLOADED: entry(429, 1, true, 'The server has more work than it can do.', 'Try again after the seconds in Retry-After.'),
  USER_CODE_FAILED: entry(
    500,
    1,
    false,
    'A step or function of the pipeline threw an error.',
    'Correct the step; `millrace runs retry` does again only what changed.',
  ),
  INTERNAL: entry(500, 1, true, 'Something unexpected went wrong.', 'See the log of the process, under the state folder; the run id is in the line.'),
} as const satisfies Record<string, ErrorEntry>;

export type ErrorCode = keyof typeof ERRORS;

/** One thing that is wrong. Every validator returns all of them, not the first. */
export interface Problem {
  /** Where: a parameter's path, `file`, `column`, `rows[3].origin`. */
  readonly path: string;
  readonly message: string;
  /** What was found, already masked where it may be personal. */
  readonly found?: string;
  readonly fix?: string;
  readonly file?: string;
  readonly row?: number;
  readonly column?: string;
}

/** What crosses a boundary (activity → Temporal, HTTP, CLI): plain JSON. */
export interface ErrorReport {
  readonly code: ErrorCode;
  readonly message: string;
  readonly fix: string;
  readonly problems: readonly Problem[];
}

/**
 * The one error class. `message` is a sentence that stands on its own; `problems` lists everything that is wrong.
 * The original error may be given as `cause`: it is logged where it happened and never leaves the process.
 */
export class MillraceError extends Error {
  readonly code: ErrorCode;
  readonly problems: readonly Problem[];
  readonly fix: string;
  override readonly name = 'MillraceError';

  constructor(code: ErrorCode, message?: string, options: { problems?: readonly Problem[]; fix?: string; cause?: unknown } = {}) {
    super(message ?? ERRORS[code].summary, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.problems = options.problems ?? [];
    this.fix = options.fix ?? ERRORS[code].fix;
  }

  get retryable(): boolean {
    return ERRORS[this.code].retryable;
  }

  report(): ErrorReport {
    return { code: this.code, message: this.message, fix: this.fix, problems: this.problems };
  }

  static fromReport(report: ErrorReport): MillraceError {
    return new MillraceError(report.code, report.message, { problems: report.problems, fix: report.fix });
  }
}

export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && Object.hasOwn(ERRORS, value);
}

/** Says a report as people read it: what, each problem, how to fix it. No stack. */
export function describeError(report: ErrorReport): string {
  const lines = [`${report.code}: ${report.message}`];
  for (const p of report.problems) {
    const where = [p.file, p.row === undefined ? undefined : `row ${p.row}`, p.column === undefined ? undefined : `column ${p.column}`]
      .filter(Boolean)
      .join(', ');
    lines.push(
      `  - ${p.path ? `${p.path}: ` : ''}${p.message}${p.found === undefined ? '' : ` (found ${p.found})`}${where ? ` [${where}]` : ''}${p.fix ? ` → ${p.fix}` : ''}`,
    );
  }
  lines.push(`  How to fix it: ${report.fix}`);
  return lines.join('\n');
}
