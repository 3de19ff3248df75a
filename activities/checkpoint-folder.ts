import { existsSync } from 'node:fs';
import { chmod, copyFile, lstat, mkdir, readdir } from 'node:fs/promises';
import { dirname, join, relative, sep } from 'node:path';
import { z } from 'zod';
import { canonicalJson } from '../contracts/canonical-json.ts';
import { MillraceError } from '../contracts/errors.ts';
import { Sha256Schema } from '../contracts/ids.ts';
import type { Artifacts } from '../store/artifacts.ts';

/**
 * The folder in which a program keeps what it needs to go on: each file an artifact, and a list of them as the checkpoint.
 *
 * Invariants:
 * 1. A checkpoint names whole files only; a file that is as it was when last kept is not read again.
 * 2. Committing follows committing: one that is asked for meanwhile comes next, and of several the last.
 */
const SavedSchema = z.object({
  format: z.literal('millrace-checkpoint-folder/1'),
  files: z.array(z.object({ path: z.string().min(1), sha256: Sha256Schema })),
});

const MOST_FILES = 10_000;

interface KeptFile {
  /** Another one when the file is written anew. */
  readonly identity: string;
  readonly sha256: string;
}

export interface CheckpointFolder {
  /** Puts the files of an earlier attempt's checkpoint into the folder. */
  readonly restore: (checkpoint: Uint8Array) => Promise<void>;
  /** Keeps what is in the folder; heard to its end by `settled`. */
  readonly commit: (step: number) => void;
  /** Resolves when nothing is being kept any more. @throws what went wrong with any of it */
  readonly settled: () => Promise<void>;
}

export function createCheckpointFolder(folder: string, artifacts: Artifacts, save: (step: number, checkpoint: Uint8Array) => Promise<void>): CheckpointFolder {
  const known = new Map<string, KeptFile>();
  let running: Promise<void> | undefined;
  let wanted: number | undefined;
  let failure: unknown;

  const keepFile = async (file: string, before: KeptFile | undefined): Promise<KeptFile> => {
    const { size, mtimeMs, ino } = await lstat(file);
    const identity = `${String(ino)} ${String(size)} ${String(mtimeMs)}`;
    return before?.identity === identity ? before : { identity, sha256: (await artifacts.putFile(file)).sha256 };
  };
  const keep = async (step: number): Promise<void> => {
    const files: { path: string; sha256: string }[] = [];
    for (const path of await filesOf(folder)) {
      const file = join(folder, ...path.split('/'));
      const before = known.get(path);
      const saved = await keepFile(file, before).catch((error: unknown) => {
        // it was renamed to its own name meanwhile, which is among the others
        if (!existsSync(file)) return undefined;
        throw error;
      });
      if (saved === undefined) continue;
      known.set(path, saved);
      files.push({ path, sha256: saved.sha256 });
    }
    await save(step, Buffer.from(canonicalJson({ format: 'millrace-checkpoint-folder/1', files })));
  };
  const loop = async (): Promise<void> => {
    while (wanted !== undefined) {
      const step = wanted;
      wanted = undefined;
      await keep(step);
    }
  };
  return {
    restore: async (checkpoint) => {
      const { files } = SavedSchema.parse(JSON.parse(Buffer.from(checkpoint).toString('utf8')));
      for (const { path, sha256 } of files) {
        const file = join(folder, ...path.split('/'));
        await mkdir(dirname(file), { recursive: true });
        await copyFile(await artifacts.pathOf(sha256), file);
        await chmod(file, 0o644);
      }
    },
    commit: (step) => {
      wanted = step;
      running ??= loop()
        .catch((error: unknown) => {
          failure ??= error;
        })
        .finally(() => {
          running = undefined;
        });
    },
    settled: async () => {
      for (let now = running; now !== undefined; now = running) await now;
      if (failure !== undefined) throw failure as Error;
    },
  };
}

/** Paths in the folder, with `/`, sorted. Links and the like are left out. */
async function filesOf(folder: string): Promise<readonly string[]> {
  const found: string[] = [];
  const walk = async (at: string): Promise<void> => {
    for (const entry of await readdir(at, { withFileTypes: true })) {
      const path = join(at, entry.name);
      if (entry.isDirectory()) await walk(path);
      else if (entry.isFile()) found.push(relative(folder, path).split(sep).join('/'));
      if (found.length > MOST_FILES)
        throw new MillraceError('TRAINER_FAILED', `The checkpoint folder holds more than ${String(MOST_FILES)} files.`, {
          fix: 'Keep few, larger files there.',
        });
    }
  };
  await walk(folder);
  return found.sort();
}
