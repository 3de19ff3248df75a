import type { Terminal } from '../../../cli/terminal.ts';

/** A terminal that keeps what is written to it. */
export function recordedTerminal(
  options: { readonly isInteractive?: boolean; readonly columns?: number } = {},
): Terminal & { readonly out: () => string; readonly err: () => string } {
  let out = '';
  let err = '';
  return {
    write: (text) => {
      out += text;
    },
    writeError: (text) => {
      err += text;
    },
    isInteractive: options.isInteractive ?? false,
    columns: options.columns ?? 100,
    paint: (_style, text) => text,
    out: () => out,
    err: () => err,
  };
}
