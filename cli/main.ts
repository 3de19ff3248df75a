import { runCommandLine } from './program.ts';
import { processTerminal } from './terminal.ts';

// A reader that has seen enough (`millrace runs list | head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? 0 : 1);
});

process.exitCode = await runCommandLine(process.argv.slice(2), processTerminal());
