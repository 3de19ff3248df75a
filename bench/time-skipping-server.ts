import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Connection } from '@temporalio/client';
import { InternalConnectionOptionsSymbol } from '@temporalio/client/lib/connection.js';
import { packageRoot } from '../config/package-root.ts';
import { MillraceError } from '../contracts/errors.ts';
import { freePort } from '../stack/ports.ts';
import { cacheFolder } from './python-environment.ts';

/** Versions of `io.temporal:temporal-test-server`, and of Maven's plugin that copies it. */
const VERSION = '1.32.1';
const COPIES = '3.8.1';
const START_TIMEOUT_MS = 60_000;
const KEEPALIVE_MS = 3_600_000;

export type TestService = NonNullable<Connection['testService']>;

export interface TimeSkippingServer {
  readonly address: string;
  readonly stop: () => Promise<void>;
}

/** Whether there is a `java`. Where CI is set there has to be one. */
export function hasJava(): boolean {
  try {
    execFileSync('java', ['-version'], { stdio: 'ignore' });
    return true;
  } catch {
    if (process.env['CI'] === 'true') throw new Error('the simulated days need Java 11 or later on PATH');
    return false;
  }
}

/**
 * Temporal's test server, in which time passes at once while nothing is under way. Its jars (33 MB) are fetched by Maven on the first
 * call and kept in the cache folder.
 *
 * @throws MillraceError PROGRAM_MISSING without `java`, or without `mvn` on the first call; what Maven says where it fails
 */
export async function startTimeSkippingServer(): Promise<TimeSkippingServer> {
  if (!hasJava())
    throw new MillraceError('PROGRAM_MISSING', 'The time-skipping server needs Java 11 or later.', { fix: 'Install a JRE (Debian: default-jre-headless).' });
  const folder = await jars();
  const port = await freePort();
  const child = spawn(
    'java',
    ['-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-cp', join(folder, '*'), 'io.temporal.testserver.TestServer', String(port), '--enable-time-skipping'],
    { stdio: 'ignore' },
  );
  const address = `127.0.0.1:${String(port)}`;
  try {
    await listens(port, child);
    return { address, stop: () => stop(child) };
  } catch (error) {
    await stop(child);
    throw error;
  }
}

async function listens(port: number, child: ChildProcess): Promise<void> {
  for (const untilMs = performance.now() + START_TIMEOUT_MS; ; ) {
    const socket = connect(port, '127.0.0.1');
    const opened = await once(socket, 'connect').then(
      () => true,
      () => false,
    );
    socket.destroy();
    if (opened) return;
    if (child.exitCode !== null || performance.now() > untilMs) throw new MillraceError('INTERNAL', 'The time-skipping server did not start.');
    await sleep(50);
  }
}

/** A connection that can also speak of the server's time. */
export async function connectToTestServer(address: string): Promise<{ readonly connection: Connection; readonly time: TestService }> {
  const options = {
    address,
    // the server closes connections that ping it as often as the SDK does
    channelArgs: { 'grpc.keepalive_time_ms': KEEPALIVE_MS },
    [InternalConnectionOptionsSymbol]: { supportsTestService: true },
  };
  const connection = await Connection.connect(options);
  if (connection.testService === undefined) throw new MillraceError('INTERNAL', 'The SDK does not speak to a test server.');
  return { connection, time: connection.testService };
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = once(child, 'exit');
  child.kill('SIGKILL');
  await closed;
}

/** The folder with all jars. */
async function jars(): Promise<string> {
  const cache = join(cacheFolder(), 'java');
  const folder = join(cache, `temporal-test-server-${VERSION}`);
  if (existsSync(folder)) return folder;
  await mkdir(cache, { recursive: true });
  const draft = await mkdtemp(join(cache, 'fetching-'));
  const pom = join(packageRoot, 'bench', 'time-skipping-server', 'pom.xml');
  const goal = `org.apache.maven.plugins:maven-dependency-plugin:${COPIES}:copy-dependencies`;
  try {
    await promisify(execFile)('mvn', [
      '-B',
      '-q',
      '-f',
      pom,
      goal,
      `-Dserver.version=${VERSION}`,
      `-DoutputDirectory=${draft}`,
      '-DincludeScope=runtime',
    ]).catch((error: unknown) => {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
      throw new MillraceError('PROGRAM_MISSING', 'The time-skipping server is fetched by Maven.', { fix: 'Install Maven (Debian: maven).' });
    });
    // whole or not at all; of two that fetch at once the first is kept
    await rename(draft, folder).catch((error: unknown) => {
      if (!existsSync(folder)) throw error;
    });
    return folder;
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}
