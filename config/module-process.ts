import { createRequire } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';

/**
 * Node's arguments that run a module of ours (its path from the caller, no extension) as a process: the built `.js` when the caller
 * runs from dist, the `.ts` source by tsx in development and tests.
 */
export function moduleCommand(path: string, callerUrl: string): readonly string[] {
  const isSource = callerUrl.endsWith('.ts');
  const module = fileURLToPath(new URL(`${path}${isSource ? '.ts' : '.js'}`, callerUrl));
  return isSource ? ['--import', pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href, module] : [module];
}
