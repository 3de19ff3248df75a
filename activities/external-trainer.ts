import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { endModuleWorker, startModuleWorker } from '../config/module-worker.ts';
import { MillraceError, type Problem } from '../contracts/errors.ts';
import {
  type CommandTrainer,
  CommandTrainerSchema,
  type PythonTrainer,
  PythonTrainerSchema,
  TASK_VARIABLE,
  TrainerLineSchema,
  type TrainerTask,
} from '../contracts/external-trainer.ts';
import type { TrainerSpec } from '../contracts/stages.ts';
import type { RungValue } from '../ml/search/parameters.ts';
import { goesOn } from '../ml/search/stopping.ts';
import type { TrainingProgress } from '../ml/trainer.ts';
import type { StoredArtifact } from '../store/artifacts.ts';
import { createCheckpointFolder } from './checkpoint-folder.ts';
import type { StoppedTraining, TrainedCandidate, TrainJob } from './compute-job.ts';
import type { JoinJob, PreparedTraining, PrepareJob } from './external-data.ts';
import type { ExternalThreadMessage } from './external-thread.ts';
import { hashInside, pathInside } from './project-files.ts';
import { ensurePythonEnvironment, plainEnvironment, programPath } from './python-environment.ts';
import { type ProgramEnd, runProgram } from './run-program.ts';
import { splitRungs, withRungs } from './rung-checkpoint.ts';
import { SCRIPT_RUNNER } from './script-runner.ts';
import type { StageContext } from './stage-definition.ts';

/**
 * Training by another program: it gets its data as files and a task that names them, tells how far it is on its output,
 * and leaves a model, which is joined to the features.
 *
 * Invariants:
 * 1. The program sees no variable, token or address of Millrace's own beside what the contract gives it.
 * 2. Whatever ends the attempt, none of its processes and none of its files is left; what it committed is kept.
 * 3. Every failure shows the last lines of the program's log.
 */
export type ExternalTrainer = ({ readonly name: 'python' } & PythonTrainer) | ({ readonly name: 'command' } & CommandTrainer);

/** What a training by another program gives beside its candidate. */
export interface ExternallyTrained extends TrainedCandidate {
  /** The program's log: its beginning and its end. */
  readonly log: StoredArtifact;
}

type Context = Pick<StageContext, 'call' | 'deps' | 'signal' | 'progress' | 'device' | 'childUsed' | 'resume' | 'commitCheckpoint'>;

/** A program may think for long without a word. */
const STALL_AFTER_MS = 30 * 60_000;
const SIGN_EVERY_MS = 1_000;
const TOUCH_EVERY_MS = 30_000;
/** Scratch folders that nobody has touched for so long were left by a machine that went down. */
const ABANDONED_AFTER_MS = 10 * 60_000;
const LOG_LINES = 20;
const MOST_HISTORY = 10_000;
const OUT_OF_MEMORY = /MemoryError|out of memory|OutOfMemory|bad_alloc|Cannot allocate memory|ENOMEM|bad allocation/;
const KILLED_EXIT_CODE = 137;

export const isExternal = ({ name }: TrainerSpec): boolean => name === 'python' || name === 'command';

/** @throws INVALID_PARAMETERS with every problem */
export function parseExternalTrainer({ name, parameters }: TrainerSpec): ExternalTrainer {
  const refuse = (issues: readonly { readonly path: readonly PropertyKey[]; readonly message: string }[]): MillraceError =>
    new MillraceError('INVALID_PARAMETERS', `The parameters of the trainer ${name} do not fit.`, {
      problems: issues.map((issue): Problem => ({ path: ['trainer', ...issue.path.map(String)].join('.'), message: issue.message })),
    });
  if (name === 'python') {
    const parsed = PythonTrainerSchema.safeParse(parameters);
    if (!parsed.success) throw refuse(parsed.error.issues);
    return { name, ...parsed.data };
  }
  const parsed = CommandTrainerSchema.safeParse(parameters);
  if (!parsed.success) throw refuse(parsed.error.issues);
  return { name: 'command', ...parsed.data };
}

/**
 * What beside the stage's input decides what a program makes: its code, and the interpreter with its packages. Makes the
 * environment where it is not there yet.
 */
export async function externalFingerprint(
  spec: TrainerSpec,
  { deps, signal, progress }: Pick<Context, 'deps' | 'signal' | 'progress'>,
): Promise<Readonly<Record<string, unknown>>> {
  const trainer = parseExternalTrainer(spec);
  const { projectFolder, cacheFolder } = deps.config;
  if (trainer.name === 'python') {
    const script = await hashInside(projectFolder, trainer.script);
    const beside = await hashInside(projectFolder, join(trainer.script, '..'), (name) => name.endsWith('.py'));
    const { version, packages } = await ensurePythonEnvironment({
      cacheFolder,
      projectFolder,
      requirements: trainer.requirements,
      python: trainer.python,
      signal,
      progress,
    });
    return { code: { script, beside }, python: version, packages };
  }
  const files: Record<string, string> = {};
  for (const path of new Set([...trainer.files, ...trainer.run])) {
    const inside = await pathInside(projectFolder, path).catch(() => undefined);
    if (inside === undefined && trainer.files.includes(path)) throw new MillraceError('SOURCE_NOT_FOUND', `There is no ${path} in the project folder.`);
    // an argument that happens to name the whole project is none of its files
    if (inside !== undefined && (trainer.files.includes(path) || (await stat(inside)).isFile())) files[path] = await hashInside(projectFolder, path);
  }
  return { code: files };
}

/**
 * Trains one candidate by the program that the job's trainer names. A trial is stopped early as those of Millrace's own
 * trainers are, where the program tells its progress and, with it, the metric that is tuned.
 * @throws TRAINER_FAILED, TRAINER_STALLED, TRAINER_KILLED, OUT_OF_MEMORY, MODEL_INVALID with the log's last lines;
 * PYTHON_UNAVAILABLE, PYTHON_ENVIRONMENT_FAILED; what `trainPredictor` throws of its data; the signal's reason
 */
export async function trainExternally(job: TrainJob, context: Context, batchShare = 1): Promise<ExternallyTrained | StoppedTraining> {
  const { deps, signal, progress, device } = context;
  const trainer = parseExternalTrainer(job.trainer);
  const root = join(deps.config.home, 'programs');
  await sweep(root);
  const scratch = join(root, randomUUID());
  const folders = { data: join(scratch, 'data'), output: join(scratch, 'output'), checkpoint: join(scratch, 'checkpoint'), tmp: join(scratch, 'tmp') };
  for (const folder of Object.values(folders)) await mkdir(folder, { recursive: true });
  const touch = setInterval(() => {
    const now = new Date();
    utimes(scratch, now, now).catch(() => undefined);
  }, TOUCH_EVERY_MS);
  const thread = startComputing(context);
  let lent: Awaited<ReturnType<Context['deps']['store']['tokens']['lend']>> = null;
  try {
    const program = await programOf(trainer, context);
    progress(null, 'preparing the data');
    const saved = await context.resume();
    const { state, seen } = job.rungs === null || saved === undefined ? { state: saved, seen: [] } : splitRungs(saved);
    const looks = lookAt(job.rungs, seen);
    const checkpoints = createCheckpointFolder(folders.checkpoint, deps.artifacts, (step, bytes) =>
      context.commitCheckpoint(step, job.rungs === null ? bytes : withRungs(bytes, looks.seen)),
    );
    if (state !== undefined) await checkpoints.restore(state);

    const taskFile = join(scratch, 'task.json');
    const prepare = async (): Promise<PreparedTraining> => {
      const prepared = await thread.run<PreparedTraining>({
        kind: 'prepare',
        job,
        input: trainer.input,
        featuresFor: trainer.featuresFor,
        folder: folders.data,
      });
      const task: TrainerTask = {
        format: 'millrace-task/1',
        ...prepared.data,
        parameters: trainer.parameters,
        seed: job.seed,
        threads: job.threads,
        device: device === null ? 'cpu' : 'cuda:0',
        batchShare,
        checkpoint: folders.checkpoint,
        output: folders.output,
      };
      // whole when it is there: a script may wait for it
      await writeFile(`${taskFile}.new`, JSON.stringify(task));
      await rename(`${taskFile}.new`, taskFile);
      return prepared;
    };
    const passed = Object.fromEntries(trainer.env.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name] ?? '']])));
    // where tokens are needed, what it logs needs one
    lent = await deps.store.tokens.lend({ runId: context.call.runId });
    const logging: Readonly<Record<string, string>> = lent === null ? {} : { MLFLOW_TRACKING_TOKEN: lent.token };
    const threads = String(job.threads);
    const heard = createListener(context, looks.look, (step) => {
      checkpoints.commit(step);
    });
    const killsBefore = await outOfMemoryKills();
    const unprepared = new AbortController();
    let isPrepared = false;
    const start = (): Promise<ProgramEnd> =>
      runProgram({
        ...program,
        cwd: deps.config.projectFolder,
        env: {
          ...plainEnvironment(),
          ...passed,
          ...program.env,
          TMPDIR: folders.tmp,
          OMP_NUM_THREADS: threads,
          OPENBLAS_NUM_THREADS: threads,
          MKL_NUM_THREADS: threads,
          CUDA_VISIBLE_DEVICES: device === null ? '' : String(device.index),
          CUDA_DEVICE_ORDER: 'PCI_BUS_ID',
          [TASK_VARIABLE]: taskFile,
          // what is logged there to the run lands in this stage (api/mlflow/stage-store.ts)
          MLFLOW_TRACKING_URI: `${deps.config.urls.api}/stages/${context.call.runId}/${encodeURIComponent(context.call.stage)}`,
          MLFLOW_RUN_ID: context.call.runId,
          ...logging,
        },
        scratch,
        signal: AbortSignal.any([signal, looks.stopped, unprepared.signal]),
        secrets: [...ownSecrets(), ...Object.values(passed), ...Object.values(logging)],
        stallAfterMs: context.call.stallAfterMs ?? STALL_AFTER_MS,
        mayBeSilent: () => !isPrepared,
        onObject: heard.onObject,
        onOutput: heard.onOutput,
      }).finally(() => {
        heard.end();
      });
    // A script's imports take seconds: they are made while the data are prepared.
    const early = program.waits ? start() : undefined;
    // its failure is heard of when it is asked for
    early?.catch(() => undefined);
    let prepared: PreparedTraining;
    try {
      prepared = await prepare();
    } catch (error) {
      unprepared.abort(new Error('the data could not be prepared'));
      heard.end();
      await early?.catch(() => undefined);
      throw error;
    }
    isPrepared = true;
    heard.begin();
    const end = await (early ?? start());
    if (end.report !== undefined) context.childUsed({ cpuSeconds: end.report.cpuSeconds, peakMib: end.report.peakMib });
    // what it said is whole is kept, however it ended
    await checkpoints.settled();
    signal.throwIfAborted();
    const stoppedAt = looks.stoppedAt();
    if (stoppedAt !== undefined) return { stoppedAt, rungs: looks.seen };
    const failure = failureOf(end, killsBefore, await outOfMemoryKills());
    if (failure !== undefined) {
      deps.log('warn', `the program of stage ${context.call.stage} failed`, { run: context.call.runId, log: end.log.lastLines(3 * LOG_LINES).join('\n') });
      throw failure;
    }
    progress(null, 'checking the model');
    const { name, ...parameters } = trainer;
    const join_: JoinJob = { kind: 'join', job, prepared, output: folders.output, parameters, history: heard.history(), importance: heard.importance() };
    const candidate = await thread.run<TrainedCandidate>(join_).catch((error: unknown) => {
      throw error instanceof MillraceError && error.code === 'MODEL_INVALID' ? withLog(error, end) : error;
    });
    if ((end.report?.left ?? 0) > 0)
      deps.log('info', `${name} of stage ${context.call.stage} left ${String(end.report?.left)} processes, which were ended`, { run: context.call.runId });
    return { ...candidate, rungs: looks.seen, log: await deps.artifacts.putBytes(Buffer.from(end.log.text())) };
  } finally {
    clearInterval(touch);
    // one that cannot be taken back now expires
    if (lent !== null) await deps.store.tokens.revoke({ id: lent.id, by: `run ${context.call.runId}` }).catch(() => undefined);
    await thread.end();
    await rm(scratch, { recursive: true, force: true, maxRetries: 3 });
  }
}

interface Program {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** It waits for the task's file by itself, so it may be started before that is there. */
  readonly waits: boolean;
}

async function programOf(trainer: ExternalTrainer, { deps, signal, progress }: Context): Promise<Program> {
  const { projectFolder, cacheFolder } = deps.config;
  if (trainer.name === 'python') {
    const script = await pathInside(projectFolder, trainer.script);
    const { python } = await ensurePythonEnvironment({
      cacheFolder,
      projectFolder,
      requirements: trainer.requirements,
      python: trainer.python,
      signal,
      progress,
    });
    // an unbuffered script is heard as it speaks, and leaves no compiled files in the project
    return {
      command: python,
      args: ['-c', SCRIPT_RUNNER, script, ...trainer.args],
      waits: true,
      env: { PYTHONUNBUFFERED: '1', PYTHONDONTWRITEBYTECODE: '1', PYTHONHASHSEED: '0' },
    };
  }
  const [name = '', ...args] = trainer.run;
  const command = await programPath(name, projectFolder);
  if (command === undefined) {
    throw new MillraceError('PROGRAM_MISSING', `There is no program ${name} that could be run.`, {
      fix: name.includes('/')
        ? 'Check the path in the project, and that the file is executable.'
        : 'Install it where the worker runs, or give its path in the project.',
    });
  }
  return { command, args, env: {}, waits: false };
}

/** Holds what a trial tells of its metric against what it takes to go on. */
function lookAt(rungs: TrainJob['rungs'], before: readonly RungValue[]) {
  const seen = [...before];
  const stop = new AbortController();
  let stoppedAt: number | undefined;
  return {
    seen,
    stopped: stop.signal,
    stoppedAt: () => stoppedAt,
    look: (fraction: number, metrics: Readonly<Record<string, number>>): void => {
      const value = rungs === null ? undefined : metrics[rungs.metric];
      if (rungs === null || value === undefined || Number.isNaN(value)) return;
      for (const rung of rungs.rungs.slice(seen.length)) {
        if (fraction < rung.fraction || stoppedAt !== undefined) return;
        seen.push({ fraction: rung.fraction, value });
        const values = seen.map((one) => one.value);
        if (goesOn(rungs.by, rung.limit, values, rungs.direction)) continue;
        stoppedAt = rung.fraction;
        stop.abort(new Error('stopped early'));
      }
    },
  };
}

/** Hears what the program says of itself; gives signs of life while it has not been silent for too long. */
function createListener(
  { progress }: Context,
  look: (fraction: number, metrics: Readonly<Record<string, number>>) => void,
  onCheckpoint: (step: number) => void,
) {
  let history: TrainingProgress[] = [];
  let importance: readonly number[] | null = null;
  let every = 1;
  let seen = 0;
  let shown = { fraction: null as number | null, message: 'preparing the data' };
  let step = 0;
  // silence is watched by runProgram, which ends the program itself
  const signs = setInterval(() => {
    progress(shown.fraction, shown.message);
  }, SIGN_EVERY_MS);
  return {
    /** The data are there: from now on it trains. */
    begin: (): void => {
      shown = { ...shown, message: 'training' };
    },
    onOutput: (): void => {
      progress(shown.fraction, shown.message);
    },
    onObject: (value: unknown): boolean => {
      const parsed = TrainerLineSchema.safeParse(value);
      if (!parsed.success) return false;
      const line = parsed.data;
      step = line.step ?? step;
      const metrics = Object.fromEntries(Object.entries(line.metrics ?? {}).map(([name, figure]) => [name, figure ?? Number.NaN]));
      const figures = Object.entries(metrics).map(([name, figure]) => `${name} ${figure.toPrecision(4)}`);
      const parts = [...(line.step == null ? [] : [`step ${String(line.step)}`]), ...figures, ...(line.message == null ? [] : [line.message])];
      shown = { fraction: line.progress ?? shown.fraction, message: parts.length > 0 ? parts.join(', ') : shown.message };
      progress(shown.fraction, shown.message);
      if (figures.length > 0 && seen++ % every === 0) {
        history.push({ fraction: line.progress ?? shown.fraction ?? 0, step, metrics });
        if (history.length >= MOST_HISTORY) {
          // every other one is enough to see the curve
          history = history.filter((_, index) => index % 2 === 0);
          every *= 2;
        }
      }
      look(line.progress ?? shown.fraction ?? 0, metrics);
      if (line.importance != null) importance = line.importance;
      if (line.checkpoint === true) onCheckpoint(step);
      return true;
    },
    history: (): readonly TrainingProgress[] => history,
    importance: (): readonly number[] | null => importance,
    end: (): void => {
      clearInterval(signs);
    },
  };
}

const logProblems = ({ log }: ProgramEnd): Problem[] => log.lastLines(LOG_LINES).map((message) => ({ path: 'log', message }));

const withLog = (error: MillraceError, end: ProgramEnd): MillraceError =>
  new MillraceError(error.code, error.message, { problems: [...error.problems, ...logProblems(end)], fix: error.fix });

function failureOf(end: ProgramEnd, killsBefore: number | undefined, killsAfter: number | undefined): MillraceError | undefined {
  const problems = logProblems(end);
  const { outcome, report } = end;
  if (outcome === 'stalled')
    return new MillraceError('TRAINER_STALLED', 'The program that trains has printed nothing for too long, and was ended.', { problems });
  if (report === undefined || outcome === 'lost') return new MillraceError('TRAINER_KILLED', 'The program that trains was killed from outside.', { problems });
  if (report.error !== undefined) return new MillraceError('TRAINER_FAILED', `The program could not be started (${report.error}).`, { problems });
  if (report.code === 0) return undefined;
  const saidSo = problems.some(({ message }) => OUT_OF_MEMORY.test(message));
  const kernelSaysSo = killsBefore === undefined || killsAfter === undefined || killsAfter > killsBefore;
  if (saidSo || report.code === KILLED_EXIT_CODE || (report.signal === 'SIGKILL' && kernelSaysSo))
    return new MillraceError('OUT_OF_MEMORY', 'The program that trains ran out of memory.', { problems });
  if (report.signal === 'SIGKILL' || report.signal === 'SIGTERM')
    return new MillraceError('TRAINER_KILLED', `The program that trains was ended by ${report.signal}.`, { problems });
  const how = report.signal === null ? `with exit code ${String(report.code)}` : `by the signal ${report.signal}`;
  return new MillraceError('TRAINER_FAILED', `The program that trains ended ${how}.`, { problems });
}

/** How many processes the kernel has ended for want of memory since the machine started; undefined where it does not say. */
async function outOfMemoryKills(): Promise<number | undefined> {
  const found = /^oom_kill (\d+)$/m.exec(await readFile('/proc/vmstat', 'utf8').catch(() => ''))?.[1];
  return found === undefined ? undefined : Number(found);
}

/** Values of this process's variables that are secrets by their names. */
function ownSecrets(): string[] {
  return Object.entries(process.env).flatMap(([name, value]) =>
    value !== undefined && value.length >= 6 && /TOKEN|SECRET|PASSWORD|API_?KEY|ACCESS_KEY|HASH_KEY|DATABASE_URL|CREDENTIAL/i.test(name) ? [value] : [],
  );
}

/** Removes what a machine left that went down with its launcher. */
async function sweep(root: string): Promise<void> {
  for (const name of await readdir(root).catch(() => [])) {
    const path = join(root, name);
    const touchedMs = await stat(path).then(
      ({ mtimeMs }) => mtimeMs,
      () => Date.now(),
    );
    if (Date.now() - touchedMs > ABANDONED_AFTER_MS) await rm(path, { recursive: true, force: true });
  }
}

/** A thread that computes one job after the other; what it has loaded for the first one serves the next. */
function startComputing({ signal, deps, call, progress }: Context): { run<Result>(job: PrepareJob | JoinJob): Promise<Result>; end(): Promise<void> } {
  const worker = startModuleWorker('external-thread', import.meta.url);
  let fail: (error: unknown) => void = () => undefined;
  worker.on('error', (error) => {
    fail('code' in error && error.code === 'ERR_WORKER_OUT_OF_MEMORY' ? new MillraceError('OUT_OF_MEMORY') : error);
  });
  worker.on('exit', (code) => {
    fail(new MillraceError('INTERNAL', `The computing thread ended with code ${String(code)} before it was done.`));
  });
  return {
    async run<Result>(job: PrepareJob | JoinJob): Promise<Result> {
      signal.throwIfAborted();
      // reading and fitting end by themselves, and have no steps to tell of
      const signs = setInterval(() => {
        progress(null, job.kind === 'prepare' ? 'preparing the data' : 'checking the model');
      }, SIGN_EVERY_MS);
      let settle: () => void = () => undefined;
      try {
        return await new Promise<Result>((resolve, reject) => {
          const onAbort = (): void => {
            reject(signal.reason as Error);
          };
          const onMessage = (message: ExternalThreadMessage): void => {
            if (message.type === 'done') {
              resolve(message.result as Result);
              return;
            }
            if (message.log !== '') deps.log('error', `training ${call.stage}`, { run: call.runId, error: message.log });
            reject(MillraceError.fromReport(message.report));
          };
          settle = () => {
            signal.removeEventListener('abort', onAbort);
            worker.off('message', onMessage);
          };
          fail = reject;
          signal.addEventListener('abort', onAbort);
          worker.once('message', onMessage);
          worker.postMessage(job);
        });
      } finally {
        clearInterval(signs);
        settle();
      }
    },
    async end() {
      fail = () => undefined;
      await endModuleWorker(worker);
    },
  };
}
