import type { Command } from 'commander';
import type { Terminal } from './terminal.ts';

/** What every command is given beside its own arguments. */
export interface Invocation {
  readonly terminal: Terminal;
  /** Whether a machine reads: one JSON document on standard output and nothing else. */
  readonly json: boolean;
  /** Sets the exit code of a command that worked but whose outcome is bad (a failed run). */
  readonly exit: (code: number) => void;
}

export interface Program {
  readonly root: Command;
  readonly terminal: Terminal;
  readonly exit: (code: number) => void;
}

/**
 * Adds a command with the options that every one has. `nameAndArguments` is commander's: `show <run>`.
 * Its handler gets the arguments, then its own options, then the invocation.
 */
export function addCommand(program: Program, parent: Command, nameAndArguments: string, description: string): Command {
  return parent.command(nameAndArguments).description(description).option('--json', 'print JSON for machines').option('--debug', 'show the stack of an error');
}

/** The invocation of a command, from its parsed options. */
export function invocationOf(program: Program, options: { readonly json?: boolean }): Invocation {
  return { terminal: program.terminal, json: options.json === true, exit: program.exit };
}

/** Adds a command that only holds others. */
export function addGroup(program: Program, name: string, description: string): Command {
  return program.root.command(name).description(description);
}

/** Prints a value for machines, or its text for people. */
export function print(invocation: Invocation, value: unknown, text: () => string): void {
  invocation.terminal.write(invocation.json ? `${JSON.stringify(value)}\n` : text());
}

/** Collects an option that may be given more than once. */
export const collect = (value: string, before: readonly string[] = []): readonly string[] => [...before, value];
