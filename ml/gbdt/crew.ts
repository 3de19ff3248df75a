/**
 * The threads of one training: the calling one and its helpers, over one shared memory.
 *
 * Invariants:
 * 1. A phase is `count` tasks of one kind. `remaining` counts those not yet claimed; who lowers it from n to n - 1 has
 *    claimed task n - 1. Arguments are written before `remaining` is set and stay until the phase ends, so that a
 *    claim always sees its own phase's arguments, however late the helper wakes.
 * 2. A phase ends when `completed` equals `count`: nobody waits for a helper that claimed nothing.
 * 3. A helper that fails completes its task all the same, and leaves a mark that makes the phase throw.
 * 4. After `dismiss` no helper runs.
 */
import type { Worker } from 'node:worker_threads';
import { startModuleWorker } from '../../config/module-worker.ts';
import { MillraceError } from '../../contracts/errors.ts';
import type { Layout } from './layout.ts';
import type { FeatureColumns, SplitLimits, TaskKind, TaskRunner } from './tasks.ts';
import type { CompiledModule, SharedMemory } from './wasm-runtime.ts';

/** Int32 fields of the control block. */
export const CONTROL = { remaining: 0, completed: 1, kind: 2, wake: 3, stop: 4, failed: 5 } as const;

/** Reads of a counter before a thread goes to sleep; waking one takes longer than most phases. */
export const SPINS = 20_000;

/** A phase that makes no progress for so long is taken for a dead helper. */
const STALLED_MS = 300_000;

export interface CrewMemberData {
  readonly memory: SharedMemory;
  readonly module: CompiledModule;
  readonly layout: Layout;
  readonly limits: SplitLimits;
  readonly columns: FeatureColumns | undefined;
  readonly thread: number;
}

export interface Crew {
  /** Runs tasks 0 … count - 1 on all threads; `alone` keeps them in the calling thread, in order. */
  readonly run: (kind: TaskKind, count: number, taskArguments: readonly number[], alone?: boolean) => void;
  readonly dismiss: () => Promise<void>;
}

/** Claims tasks of the running phase and runs them until none is left. */
export function workOff(control: Int32Array, runner: TaskRunner, thread: number): void {
  for (;;) {
    const remaining = Atomics.load(control, CONTROL.remaining);
    if (remaining <= 0) return;
    if (Atomics.compareExchange(control, CONTROL.remaining, remaining, remaining - 1) !== remaining) continue;
    try {
      runner.run(control[CONTROL.kind] as TaskKind, remaining - 1, thread);
    } catch {
      Atomics.store(control, CONTROL.failed, 1);
    }
    Atomics.add(control, CONTROL.completed, 1);
    Atomics.notify(control, CONTROL.completed);
  }
}

/** Starts the helpers. They come up while the caller goes on; until then it does their tasks itself. */
export function createCrew(runner: TaskRunner, helpers: number, member: Omit<CrewMemberData, 'thread'>): Crew {
  const control = new Int32Array(member.memory.buffer, member.layout.control, 16);
  const given = new Float64Array(member.memory.buffer, member.layout.taskArguments, 16);
  const workers: Worker[] = [];
  for (let helper = 1; helper <= helpers; helper += 1) {
    const workerData: CrewMemberData = { ...member, thread: helper };
    const worker = startModuleWorker('crew-member', import.meta.url, { workerData });
    worker.on('error', () => {
      Atomics.store(control, CONTROL.failed, 1);
    });
    workers.push(worker);
  }

  const waitForOthers = (count: number): void => {
    let spins = 0;
    for (;;) {
      const completed = Atomics.load(control, CONTROL.completed);
      if (completed === count) return;
      spins += 1;
      if (spins < SPINS) continue;
      if (Atomics.wait(control, CONTROL.completed, completed, STALLED_MS) === 'timed-out')
        throw new MillraceError('INTERNAL', 'A training thread stopped answering.');
    }
  };

  return {
    run: (kind, count, taskArguments, alone = false) => {
      given.set(taskArguments);
      if (alone || workers.length === 0 || count < 2) {
        for (let index = 0; index < count; index += 1) runner.run(kind, index, 0);
        return;
      }
      control[CONTROL.kind] = kind;
      Atomics.store(control, CONTROL.completed, 0);
      Atomics.store(control, CONTROL.remaining, count);
      Atomics.add(control, CONTROL.wake, 1);
      Atomics.notify(control, CONTROL.wake);
      workOff(control, runner, 0);
      waitForOthers(count);
      if (Atomics.load(control, CONTROL.failed) === 1) throw new MillraceError('INTERNAL', 'A training thread failed.');
    },
    dismiss: async () => {
      Atomics.store(control, CONTROL.stop, 1);
      Atomics.add(control, CONTROL.wake, 1);
      Atomics.notify(control, CONTROL.wake);
      await Promise.all(workers.map((worker) => worker.terminate()));
    },
  };
}
