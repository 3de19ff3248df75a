import type { LogLevel } from '../config/config.ts';

const ORDER: readonly LogLevel[] = ['trace', 'debug', 'info', 'warn', 'error'];

export type ProcessLog = (level: LogLevel, message: string, details?: Readonly<Record<string, unknown>>) => void;

/** One JSON line an event on stderr, which the supervisor keeps under `<home>/logs`. */
export function createProcessLog(name: string, level: LogLevel): ProcessLog {
  return (lineLevel, message, details = {}) => {
    if (ORDER.indexOf(lineLevel) < ORDER.indexOf(level)) return;
    process.stderr.write(`${JSON.stringify({ at: new Date().toISOString(), level: lineLevel, process: name, message, ...details })}\n`);
  };
}
