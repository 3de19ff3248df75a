/**
 * Several processes of the prediction server behind one port, kept alive.
 *
 * Invariants:
 * 1. No request passes through this process: it accepts connections, hands each to a process in turn, and computes nothing.
 * 2. A process that ends costs the requests that it was answering; another takes its place and its port stays open.
 * 3. A process whose event loop did not turn for `hangMs` is killed; while it reads a model's file it has `LOAD_MS`.
 * 4. The predictor that ran last when a process ended or hung is blamed, and all processes are told before the next one starts.
 * 5. A stop ends every process, politely first. When this process dies, its children end by themselves.
 */
import cluster, { type Worker } from 'node:cluster';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { MillraceError } from '../contracts/errors.ts';
import type { ServingLog } from './ports.ts';
import type { Blame, ToParent, ToProcess } from './process-messages.ts';
import { readMark } from './running-mark.ts';

export interface ProcessSupervisorOptions {
  readonly processes: number;
  /** Names the processes in the store: `<serverId>-<slot>.<life>`. */
  readonly serverId: string;
  /** The state folder; marks lie under `serving/`. */
  readonly home: string;
  readonly hangMs: number;
  /** How long a process may take to stop. */
  readonly stopMs: number;
  readonly log: ServingLog;
}

export interface ProcessSupervisor {
  /** Resolves when all processes listen. Rejects when one ended before it first listened. */
  start(): Promise<{ readonly url: string; readonly port: number }>;
  /** Resolves when all have ended; true when all did so by themselves. */
  stop(): Promise<boolean>;
}

interface Slot {
  readonly slot: number;
  readonly markPath: string;
  worker: Worker | undefined;
  life: number;
  serverId: string | undefined;
  replaces: string | undefined;
  ready: boolean;
  everReady: boolean;
  startedAtMs: number;
  heardAtMs: number;
  failures: number;
  hung: boolean;
  timer: NodeJS.Timeout | undefined;
}

const LOOK_EVERY_MS = 250;
/** Time for a model's file to be read into memory, and for a process to start. */
const LOAD_MS = 120_000;
const FIRST_RESTART_MS = 100;
const MAX_RESTART_MS = 10_000;
/** A process that lived so long starts without waiting. */
const SETTLED_MS = 30_000;
/** Crashes longer ago do not count. */
const BLAME_WINDOW_MS = 5 * 60_000;
const FIRST_BLAME_MS = 60_000;
const MAX_BLAME_MS = 60 * 60_000;
const GATHER_MS = 1_000;

/** A connection on its way to a process, as node:cluster sends it. */
interface HandedOver {
  readonly seq?: number;
  readonly act?: string;
  readonly ack?: number;
}

/**
 * A connection that was handed to a process which ended before it took it belongs to nobody: node:cluster keeps it open,
 * and its client would wait for ever. Such ones are closed, so that the client tries again.
 */
function closeOrphans(worker: Worker): void {
  const child = worker.process;
  const underWay = new Map<number, { close(): void }>();
  const send = child.send.bind(child) as (...args: unknown[]) => boolean;
  const watched = (message: HandedOver, handle?: { close?: () => void }, ...rest: unknown[]): boolean => {
    const { seq, act } = message;
    if (act === 'newconn' && seq !== undefined && typeof handle?.close === 'function') underWay.set(seq, handle as { close(): void });
    return send(message, handle, ...rest);
  };
  child.send = watched as typeof child.send;
  child.on('internalMessage', ({ ack }: HandedOver) => {
    if (ack !== undefined) underWay.delete(ack);
  });
  worker.once('exit', () => {
    for (const handle of underWay.values()) handle.close();
    underWay.clear();
  });
}

export function superviseProcesses(options: ProcessSupervisorOptions): ProcessSupervisor {
  const { log, hangMs } = options;
  const slots: Slot[] = Array.from({ length: options.processes }, (_, i) => ({
    slot: i + 1,
    markPath: join(options.home, 'serving', `running-${options.serverId}-${i + 1}`),
    worker: undefined,
    life: 0,
    serverId: undefined,
    replaces: undefined,
    ready: false,
    everReady: false,
    startedAtMs: 0,
    heardAtMs: 0,
    failures: 0,
    hung: false,
    timer: undefined,
  }));
  const crashes = new Map<string, number[]>();
  const blames = new Map<string, Blame>();
  const gathers = new Map<number, { readonly texts: string[]; missing: number; readonly done: () => void }>();
  let lastGather = 0;
  let stopping = false;
  let listening: { url: string; port: number } | undefined;
  let onReady: (() => void) | undefined;
  let onFailed: ((error: Error) => void) | undefined;
  let onEnded: (() => void) | undefined;

  const tell = (worker: Worker, message: ToProcess): void => {
    // One that is about to end takes no more messages, and needs none.
    if (worker.isConnected()) worker.send(message, () => undefined);
  };

  function liveBlames(): Blame[] {
    const now = Date.now();
    for (const [predictor, { untilMs }] of blames) if (untilMs <= now) blames.delete(predictor);
    return [...blames.values()];
  }

  function blame(slot: Slot, how: string, outside: boolean): void {
    const mark = readMark(slot.markPath);
    if (mark === undefined) return;
    const now = Date.now();
    const times = [...(crashes.get(mark.predictor) ?? []).filter((at) => now - at < BLAME_WINDOW_MS), now];
    crashes.set(mark.predictor, times);
    // Somebody outside killed it: by hand, or for want of memory. That says something of the model only when it happens again.
    if (outside && times.length < 2) return;
    const reason = new MillraceError(
      'MODEL_CRASHED',
      `A process of the prediction server ${how} while it ${mark.doing === 'load' ? 'loaded' : 'ran'} this model.`,
    );
    const fresh: Blame = {
      predictor: mark.predictor,
      times: times.length,
      untilMs: now + Math.min(MAX_BLAME_MS, FIRST_BLAME_MS * 2 ** (times.length - 1)),
      reason: reason.report(),
    };
    blames.set(mark.predictor, fresh);
    log('error', 'a model is blamed for the end of a process', { predictor: mark.predictor, times: times.length, how });
    for (const { worker } of slots) if (worker !== undefined) tell(worker, { type: 'blame', blame: fresh });
  }

  function gather(asker: Worker, id: number): void {
    lastGather += 1;
    const own = lastGather;
    const others = slots.flatMap(({ worker, ready }) => (worker !== undefined && worker !== asker && ready ? [worker] : []));
    const texts: string[] = [];
    const done = (): void => {
      if (!gathers.delete(own)) return;
      clearTimeout(timer);
      tell(asker, { type: 'gathered', id, texts });
    };
    const timer = setTimeout(done, GATHER_MS);
    gathers.set(own, { texts, missing: others.length, done });
    for (const worker of others) tell(worker, { type: 'metrics', id: own });
    if (others.length === 0) done();
  }

  function heard(slot: Slot, worker: Worker, message: ToParent): void {
    slot.heardAtMs = performance.now();
    if (message.type === 'hello') {
      tell(worker, {
        type: 'start',
        serverId: slot.serverId ?? '',
        slot: slot.slot,
        processes: options.processes,
        markPath: slot.markPath,
        blames: liveBlames(),
        replaces: slot.replaces,
      });
    } else if (message.type === 'ready') {
      slot.ready = true;
      slot.everReady = true;
      listening ??= { url: message.url, port: message.port };
      log('info', 'a process answers', { process: slot.slot, life: slot.life });
      if (slots.every(({ everReady }) => everReady)) onReady?.();
    } else if (message.type === 'metrics') {
      const waiting = gathers.get(message.id);
      if (waiting === undefined) return;
      waiting.texts.push(message.text);
      waiting.missing -= 1;
      if (waiting.missing === 0) waiting.done();
    } else if (message.type === 'gather') gather(worker, message.id);
  }

  function startProcess(slot: Slot): void {
    slot.timer = undefined;
    slot.replaces = slot.serverId;
    slot.life += 1;
    slot.serverId = `${options.serverId}-${slot.slot}${slot.life === 1 ? '' : `.${slot.life}`}`;
    slot.ready = false;
    slot.hung = false;
    slot.startedAtMs = slot.heardAtMs = performance.now();
    const worker = cluster.fork();
    slot.worker = worker;
    closeOrphans(worker);
    worker.on('message', (message: ToParent) => {
      heard(slot, worker, message);
    });
    worker.on('error', (error) => {
      log('error', 'a process cannot be reached', { process: slot.slot, error: String(error) });
    });
    worker.once('exit', (code: number | null, signal: string | null) => {
      ended(slot, code, signal);
    });
  }

  function ended(slot: Slot, code: number | null, signal: string | null): void {
    slot.worker = undefined;
    if (stopping) {
      if (slots.every(({ worker }) => worker === undefined)) onEnded?.();
      return;
    }
    const how = slot.hung ? `hung for ${hangMs / 1_000} s` : `ended (${signal ?? `exit code ${String(code)}`})`;
    if (!slot.everReady && signal === null && code !== 0) {
      // What keeps it from starting (a taken port, say) it has said itself.
      onFailed?.(new Error(`process ${slot.slot} ended before it listened`));
      return;
    }
    log('error', 'a process has ended; another takes its place', { process: slot.slot, how });
    if (slot.hung || signal !== null || (code !== null && code > 128)) blame(slot, how, !slot.hung && signal === 'SIGKILL');
    const settled = performance.now() - slot.startedAtMs > SETTLED_MS;
    slot.failures = settled ? 0 : slot.failures + 1;
    slot.timer = setTimeout(startProcess, Math.min(MAX_RESTART_MS, FIRST_RESTART_MS * 2 ** Math.max(0, slot.failures - 1)), slot);
  }

  function look(): void {
    const now = performance.now();
    for (const slot of slots) {
      if (slot.worker === undefined || slot.hung) continue;
      const silentMs = now - slot.heardAtMs;
      if (silentMs <= hangMs) continue;
      if ((!slot.ready || readMark(slot.markPath)?.doing === 'load') && silentMs <= LOAD_MS) continue;
      slot.hung = true;
      log('error', 'a process hangs and is killed', { process: slot.slot, silentMs: Math.round(silentMs) });
      slot.worker.process.kill('SIGKILL');
    }
  }

  let watch: NodeJS.Timeout | undefined;
  return {
    async start() {
      watch = setInterval(look, LOOK_EVERY_MS);
      await new Promise<void>((resolve, reject) => {
        onReady = resolve;
        onFailed = reject;
        for (const slot of slots) startProcess(slot);
      });
      return listening ?? { url: '', port: 0 };
    },
    async stop() {
      stopping = true;
      clearInterval(watch);
      for (const { timer } of slots) clearTimeout(timer);
      let polite = true;
      const workers = slots.flatMap(({ worker }) => (worker === undefined ? [] : [worker]));
      if (workers.length > 0) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(() => {
            polite = false;
            for (const { worker } of slots) worker?.process.kill('SIGKILL');
          }, options.stopMs);
          onEnded = () => {
            clearTimeout(timer);
            resolve();
          };
          for (const worker of workers) worker.process.kill('SIGTERM');
        });
      }
      for (const { markPath } of slots) rmSync(markPath, { force: true });
      return polite;
    },
  };
}
