import { spawn } from 'node:child_process';
import { mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import type { MillraceConfig } from '../config/config.ts';
import { type ErrorReport, MillraceError } from '../contracts/errors.ts';
import { nodeProgram } from './node-program.ts';
import type { PartName } from './parts.ts';
import { type StackEvent, stackStatus } from './stack.ts';
import type { StackState } from './stack-state.ts';

/** What the detached supervisor tells the process that started it. */
export type DetachedMessage =
  | { readonly type: 'event'; readonly event: StackEvent }
  | { readonly type: 'ready' }
  | { readonly type: 'failed'; readonly report: ErrorReport };

export interface StartDetachedOptions {
  readonly config: MillraceConfig;
  readonly parts?: readonly PartName[];
  readonly onEvent?: (event: StackEvent) => void;
  readonly env?: NodeJS.ProcessEnv;
}

/**
 * Brings the stack up in a process of its own, in a session of its own, and resolves when it is ready; it goes on when
 * this process ends. Its log is `<home>/logs/supervisor.log`. `stopStack` ends it.
 *
 * @throws MillraceError Whatever `startStack` throws.
 */
export async function startDetached(options: StartDetachedOptions): Promise<StackState> {
  const { config } = options;
  const logs = join(config.home, 'logs');
  mkdirSync(logs, { recursive: true });
  const log = openSync(join(logs, 'supervisor.log'), 'a', 0o640);
  const child = spawn(process.execPath, [...nodeProgram('detached-main', import.meta.url), ...(options.parts ?? [])], {
    cwd: config.projectFolder,
    env: { ...(options.env ?? process.env), MILLRACE_PROJECT: config.projectFolder, MILLRACE_HOME: config.home },
    detached: true,
    stdio: ['ignore', log, log, 'ipc'],
  });
  try {
    await new Promise<void>((resolve, reject) => {
      child.on('message', (message: DetachedMessage) => {
        if (message.type === 'event') options.onEvent?.(message.event);
        else if (message.type === 'ready') resolve();
        else reject(MillraceError.fromReport(message.report));
      });
      child.once('error', reject);
      child.once('exit', (code, signal) => {
        reject(
          new MillraceError('SERVER_UNAVAILABLE', `The supervisor ended while it was starting (${signal ?? `exit code ${code}`}).`, {
            fix: `Look at ${join(logs, 'supervisor.log')}.`,
          }),
        );
      });
    });
  } finally {
    if (child.connected) child.disconnect();
    child.unref();
  }
  const state = stackStatus(config.home);
  if (state === undefined) throw new MillraceError('NOT_RUNNING', 'The stack stopped right after it was ready.');
  return state;
}
