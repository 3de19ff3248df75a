import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { cacheFolder } from '../../bench/python-environment.ts';

const execute = promisify(execFile);
/** A server that speaks S3 over a folder, from source: it is on no package registry but Go's. */
const VERSION = '1.0.14';
const BUILD_TIMEOUT_MS = 10 * 60_000;

/** The program, built on the first call and kept in the cache folder. */
async function program(): Promise<string> {
  const folder = join(cacheFolder(), 'go', `versitygw-${VERSION}`);
  const path = join(folder, 'versitygw');
  if (existsSync(path)) return path;
  await mkdir(join(folder, '..'), { recursive: true });
  const draft = await mkdtemp(`${folder}-`);
  try {
    await execute('go', ['install', `github.com/versity/versitygw/cmd/versitygw@v${VERSION}`], {
      env: { ...process.env, GOBIN: draft, GOFLAGS: '-buildvcs=false' },
      timeout: BUILD_TIMEOUT_MS,
    });
    await rename(draft, folder).catch((error: unknown) => {
      if (!existsSync(path)) throw error;
    });
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
  return path;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

export interface S3Server {
  readonly endpoint: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly stop: () => Promise<void>;
}

/** A real S3 server on a folder of its own. @throws where Go is not installed or the program cannot be built */
export async function startS3Server(): Promise<S3Server> {
  const path = await program();
  const folder = await mkdtemp(join(tmpdir(), 'millrace-s3-'));
  const [data, sidecar] = [join(folder, 'data'), join(folder, 'metadata')];
  await mkdir(data);
  await mkdir(sidecar);
  const [accessKeyId, secretAccessKey] = ['millrace-key', 'Secret7-of-the-key'];
  const port = await freePort();
  const endpoint = `http://127.0.0.1:${port}`;
  const server: ChildProcess = spawn(path, ['--port', `127.0.0.1:${port}`, 'posix', '--sidecar', sidecar, data], {
    env: { PATH: process.env['PATH'], ROOT_ACCESS_KEY: accessKeyId, ROOT_SECRET_KEY: secretAccessKey },
    stdio: 'ignore',
  });
  const gone = new Promise<void>((resolve) => server.once('exit', () => resolve()));
  const stop = async (): Promise<void> => {
    server.kill('SIGKILL');
    await gone;
    await rm(folder, { recursive: true, force: true });
  };
  for (let tries = 0; ; tries++) {
    if (
      await fetch(endpoint).then(
        () => true,
        () => false,
      )
    )
      return { endpoint, accessKeyId, secretAccessKey, stop };
    if (tries > 200 || server.exitCode !== null) {
      await stop();
      throw new Error('the S3 server did not start');
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
