import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { MillraceError } from '../contracts/errors.ts';

/**
 * Writes a page, and opens it where that is asked for. `name` is its file's when no other is given.
 * @returns The path. @throws MillraceError INVALID_REQUEST when it cannot be written or opened
 */
export async function writePage(page: string, options: { readonly out?: string; readonly open?: boolean }, name: string): Promise<string> {
  const path = resolve(options.out ?? name.replaceAll(/[^\p{L}\p{N}._-]+/gu, '-'));
  await writeFile(path, page).catch((error: unknown) => {
    throw new MillraceError('INVALID_REQUEST', `${path} cannot be written.`, { cause: error, fix: 'Give a file in a folder that is there: --out FILE.' });
  });
  if (options.open === true) await openFile(path);
  return path;
}

/** Opens a file in the person's browser. Resolves once the opener was started; its path is never read by a shell. */
async function openFile(path: string): Promise<void> {
  const { spawn } = await import('node:child_process');
  const [command, args] = process.platform === 'darwin' ? ['open', [path]] : process.platform === 'win32' ? ['explorer.exe', [path]] : ['xdg-open', [path]];
  await new Promise<void>((started, reject) => {
    const child = spawn(command, args, { detached: true, stdio: 'ignore' });
    child.once('error', () => {
      reject(new MillraceError('INVALID_REQUEST', `There is no ${command} to open ${path} with.`, { fix: 'Open the file by hand.' }));
    });
    child.once('spawn', () => {
      child.unref();
      started();
    });
  });
}
