import { styleText } from 'node:util';

/** Where a command writes, and what it knows of who reads. */
export interface Terminal {
  write(text: string): void;
  writeError(text: string): void;
  /** Whether standard output is a terminal that can be redrawn. */
  readonly isInteractive: boolean;
  /** Width in columns; 100 where none is known. */
  readonly columns: number;
  readonly paint: (style: Style, text: string) => string;
}

export type Style = 'bold' | 'dim' | 'green' | 'red' | 'yellow' | 'cyan';

/** The terminal of this process. Colours only on a terminal, and not under NO_COLOR. */
export function processTerminal(env: NodeJS.ProcessEnv = process.env): Terminal {
  const isInteractive = process.stdout.isTTY && env['TERM'] !== 'dumb' && !env['CI'];
  const coloured = process.stdout.isTTY && !env['NO_COLOR'] && env['TERM'] !== 'dumb';
  return {
    write: (text) => {
      process.stdout.write(text);
    },
    writeError: (text) => {
      process.stderr.write(text);
    },
    isInteractive,
    get columns() {
      return process.stdout.columns || 100;
    },
    paint: (style, text) => (coloured ? styleText(style, text, { validateStream: false }) : text),
  };
}
