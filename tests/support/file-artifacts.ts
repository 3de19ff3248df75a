import { createHash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ArtifactPort } from '../../data/artifact-port.ts';

/** A content-addressed folder: what data/ needs of the store, on a real disk, for tests and benchmarks that have no Postgres. */
export interface FileArtifacts extends ArtifactPort {
  readonly folder: string;
  remove(): Promise<void>;
}

async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

export async function createFileArtifacts(): Promise<FileArtifacts> {
  const folder = await mkdtemp(join(tmpdir(), 'millrace-artifacts-'));
  await mkdir(join(folder, 'temporary'));
  const temporaryFile = (suffix: string): Promise<string> => Promise.resolve(join(folder, 'temporary', `${randomUUID()}${suffix}`));
  const putFile = async (path: string): Promise<{ sha256: string; sizeBytes: number }> => {
    const [sha256, { size }] = await Promise.all([sha256Of(path), stat(path)]);
    await rename(path, join(folder, sha256));
    return { sha256, sizeBytes: size };
  };
  return {
    folder,
    temporaryFile,
    putFile,
    async pathOf(sha256) {
      const path = join(folder, sha256);
      if ((await sha256Of(path)) !== sha256) throw new Error('the file does not have the content that its name promises');
      return path;
    },
    async putJson(value) {
      const path = await temporaryFile('.json');
      await writeFile(path, JSON.stringify(value));
      return putFile(path);
    },
    async getJson(sha256) {
      return JSON.parse(await readFile(join(folder, sha256), 'utf8')) as unknown;
    },
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}
