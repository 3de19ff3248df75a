import { createRequire } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';

/**
 * What `node` is given to run the program `name` (no extension) that stands beside the caller: the built `.js` when the
 * caller runs from dist, the `.ts` source through tsx in development and tests, whatever the working folder.
 */
export function nodeProgram(name: string, callerUrl: string): readonly string[] {
  const source = callerUrl.endsWith('.ts');
  const file = fileURLToPath(new URL(`./${name}${source ? '.ts' : '.js'}`, callerUrl));
  return source ? ['--import', pathToFileURL(createRequire(callerUrl).resolve('tsx')).href, file] : [file];
}
