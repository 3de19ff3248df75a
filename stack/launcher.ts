// Runs a program that must not outlive whoever started it, where the system has no parent-death signal: the end of
// stdin means that the parent is gone. Usage: launcher SIGNAL GRACE_MS PROGRAM [ARGUMENTS]
import { spawn } from 'node:child_process';

const [signal = 'SIGTERM', graceMs = '10000', program = '', ...args] = process.argv.slice(2);
const child = spawn(program, args, { stdio: ['ignore', 'inherit', 'inherit'] });

child.once('error', (error) => {
  process.stderr.write(`${error.message}\n`);
  process.exit(127);
});
child.once('exit', (code, by) => {
  process.exit(code ?? (by === 'SIGKILL' ? 137 : 143));
});
for (const forwarded of ['SIGTERM', 'SIGINT', 'SIGQUIT', 'SIGHUP'] as const) {
  process.on(forwarded, () => {
    child.kill(forwarded);
  });
}
process.stdin.resume();
process.stdin.once('close', () => {
  child.kill(signal as NodeJS.Signals);
  setTimeout(() => {
    child.kill('SIGKILL');
  }, Number(graceMs));
});
