// The supervisor of `millrace up --detach`. Arguments: the parts to run; none for all.
import { loadProjectConfig } from '../config/load-project-config.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { DetachedMessage } from './detached.ts';
import { PART_NAMES } from './parts.ts';
import { startStack } from './stack.ts';

function tell(message: DetachedMessage): void {
  if (process.connected) process.send?.(message);
}
function log(line: string): void {
  process.stdout.write(`${new Date().toISOString()} ${line}\n`);
}

try {
  const named = PART_NAMES.filter((name) => process.argv.slice(2).includes(name));
  const config = await loadProjectConfig();
  const stack = await startStack({
    config,
    ...(named.length > 0 ? { parts: named } : {}),
    onEvent: (event) => {
      log(JSON.stringify(event));
      tell({ type: 'event', event });
    },
  });
  log('ready');
  tell({ type: 'ready' });
  await stack.stopped;
  log('stopped');
} catch (error) {
  log(error instanceof Error ? (error.stack ?? error.message) : String(error));
  tell({ type: 'failed', report: error instanceof MillraceError ? error.report() : new MillraceError('INTERNAL').report() });
  process.exitCode = 1;
} finally {
  if (process.connected) process.disconnect();
}
