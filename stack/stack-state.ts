import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Ports } from '../config/config.ts';
import { isRunning, type ProcessIdentity } from './process-identity.ts';
import type { ChildState } from './supervisor.ts';

export interface StackUrls {
  readonly temporal: string;
  readonly temporalUi: string | undefined;
  readonly api: string;
  readonly serving: string;
}

export interface PartState {
  readonly name: string;
  /** `external`: a server that the environment names; it is not ours to start or stop. */
  readonly state: ChildState | 'external';
  readonly process?: ProcessIdentity | undefined;
  readonly restarts?: number;
  readonly logFile?: string;
}

/** What `<home>/stack.json` says about a stack. No secret is in it. */
export interface StackState {
  readonly version: string;
  readonly supervisor: ProcessIdentity;
  readonly startedAt: string;
  readonly phase: 'starting' | 'ready' | 'stopping';
  readonly ports: Ports;
  readonly urls: StackUrls;
  readonly parts: readonly PartState[];
}

export function stackFile(home: string): string {
  return join(home, 'stack.json');
}

export function stackLockFile(home: string): string {
  return join(home, 'stack.lock');
}

/** Replaces the file at once: a reader sees the old state or the new one. */
export function writeStackState(home: string, state: StackState): void {
  const file = stackFile(home);
  const temporary = `${file}.${process.pid}`;
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(temporary, `${JSON.stringify(state, null, 2)}\n`);
  renameSync(temporary, file);
}

/** The state in the file, whether its supervisor still lives or not. */
export function readStackState(home: string): StackState | undefined {
  const file = stackFile(home);
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as StackState) : undefined;
}

export function removeStackState(home: string): void {
  rmSync(stackFile(home), { force: true });
}

/** The processes of a stack, as its file lists them, that still run. */
export function survivors(state: StackState): readonly ProcessIdentity[] {
  return state.parts.flatMap((part) => (part.process === undefined ? [] : [part.process])).filter(isRunning);
}
