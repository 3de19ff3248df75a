import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join, relative, sep } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createGzip } from 'node:zlib';
import pg from 'pg';
import { z } from 'zod';
import { MillraceError } from '../contracts/errors.ts';
import type { Artifacts } from './artifacts.ts';
import { copyIn } from './copy-in.ts';
import { copyOut } from './copy-out.ts';
import { fromDriver } from './driver-errors.ts';
import { ROUTES_CHANNEL } from './endpoints.ts';
import { migrate, readMigrations } from './migrate.ts';
import { MIRROR_OFF_SQL } from './mlflow-mirror.ts';

/**
 * A backup: the store as of one moment, every artifact, and what else of the state folder cannot be made again.
 *
 * Invariants:
 * 1. All tables are read in one transaction, so that they fit together. Artifacts are copied after it has begun: what a record
 *    names was written before the record.
 * 2. `backup.json` is written last, with the hash of each file: a folder without it is no backup. Copied artifacts are
 *    hashed on the way, in both directions.
 * 3. Nothing is restored into a store that has runs, datasets, models or endpoints. Tables are filled in one transaction.
 * 4. What was under way counts as terminated: its workflow is not in the backup.
 */
const FORMAT = 'millrace-backup/1';
const object = z.record(z.string(), z.unknown());
/** A schedule of Temporal's, as its client describes it and makes it. */
const ScheduleSchema = z.object({ id: z.string(), spec: object, action: object, policies: object, memo: object, paused: z.boolean() });
const ManifestSchema = z.object({
  format: z.literal(FORMAT),
  /** UTC ISO: the moment of the tables. */
  createdAt: z.string(),
  /** Of the package that made it. */
  millrace: z.string(),
  migrations: z.array(z.string()),
  tables: z.array(
    z.object({
      schema: z.string(),
      name: z.string(),
      columns: z.array(z.object({ name: z.string(), type: z.string() })),
      rows: z.number(),
      file: z.string(),
      sha256: z.string(),
    }),
  ),
  sequences: z.array(z.object({ name: z.string(), value: z.string() })),
  /** Tables of published predictions, as views over sets. */
  views: z.array(z.object({ name: z.string(), definition: z.string() })),
  artifacts: z.object({ count: z.number(), sizeBytes: z.number() }),
  /** Files of the state folder, relative to it. */
  state: z.array(z.object({ path: z.string(), sizeBytes: z.number(), sha256: z.string() })),
  /** Null: Temporal did not answer, or the backup is of a Millrace that did not keep them. */
  schedules: z.array(ScheduleSchema).nullable().default(null),
});
export type BackupManifest = z.infer<typeof ManifestSchema>;
export type KeptSchedule = z.infer<typeof ScheduleSchema>;

/** What a running stack writes by itself, and no backup needs. */
const TRANSIENT = new Set(['servers', 'server_routes', 'millrace_migrations', 'mlflow_mirror', 'mirror_feed']);
/** A store that holds none of these is empty: what else is there a stack writes when it starts. */
const LEARNED = ['runs', 'datasets', 'models', 'endpoints'] as const;
const SETS = 'prediction_sets';
const VIEWS = 'predictions';
/** Heads of the audit log: they go along from before the tables are read, so that none of them is of a later entry. */
const STATE_BEFORE = ['audit'] as const;
/** What else of the state folder goes with the store: the key of hashed columns, and the logs of predictions and feedback. */
const STATE_AFTER = ['hash.key', 'predictions', 'feedback'] as const;
const MANIFEST = 'backup.json';

export interface BackupOptions {
  readonly databaseUrl: string;
  readonly artifacts: Pick<Artifacts, 'list' | 'pathOf'>;
  /** The state folder. */
  readonly home: string;
  readonly folder: string;
  /** Of the package. */
  readonly version: string;
  /** Default: none are known. */
  readonly schedules?: readonly KeptSchedule[] | null;
  readonly onProgress?: (what: string) => void;
}

const quoted = (name: string): string => pg.escapeIdentifier(name);
const named = (schema: string, name: string): string => `${quoted(schema)}.${quoted(name)}`;

async function withClient<T>(databaseUrl: string, operation: string, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
  const pool = new pg.Pool({ connectionString: databaseUrl, max: 1, application_name: `millrace ${operation}`, connectionTimeoutMillis: 5_000 });
  pool.on('error', () => undefined);
  try {
    const client = await pool.connect();
    try {
      return await work(client);
    } finally {
      client.release(true);
    }
  } catch (error) {
    throw error instanceof Error && 'code' in error && typeof error.code === 'string' && /^E(?:NOSPC|DQUOT)$/.test(error.code)
      ? new MillraceError('DISK_FULL', 'The disk was full.')
      : fromDriver(operation, error);
  } finally {
    await pool.end();
  }
}

/** Passes bytes on and hashes them. */
function hashing(): { readonly through: Transform; readonly done: () => { readonly sha256: string; readonly sizeBytes: number } } {
  const hash = createHash('sha256');
  let sizeBytes = 0;
  const through = new Transform({
    transform(chunk: Buffer, _encoding, next) {
      hash.update(chunk);
      sizeBytes += chunk.length;
      next(null, chunk);
    },
  });
  return { through, done: () => ({ sha256: hash.digest('hex'), sizeBytes }) };
}

/** Copies a file whole or not at all. @returns its hash */
async function copyFile(from: string, to: string): Promise<{ readonly sha256: string; readonly sizeBytes: number }> {
  await mkdir(dirname(to), { recursive: true });
  const { through, done } = hashing();
  const draft = `${to}.part`;
  await pipeline(createReadStream(from), through, createWriteStream(draft, { mode: 0o600 }));
  await rename(draft, to);
  return done();
}

/** Tables that are backed up, those that others refer to first. */
async function tablesOf(
  client: pg.ClientBase,
): Promise<readonly { readonly schema: string; readonly name: string; readonly columns: BackupManifest['tables'][number]['columns'] }[]> {
  const found = await client.query<{ schema: string; name: string; columns: { name: string; type: string }[] }>(
    `select n.nspname as schema, c.relname as name,
       json_agg(json_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod)) order by a.attnum) as columns
     from pg_class c join pg_namespace n on n.oid = c.relnamespace
     join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
     where c.relkind = 'r' and n.nspname in ('public', $1) group by n.nspname, c.relname order by 1, 2`,
    [SETS],
  );
  const refers = await client.query<{ from: string; to: string }>(
    `select c.conrelid::regclass::text as from, c.confrelid::regclass::text as to from pg_constraint c where c.contype = 'f' and c.conrelid <> c.confrelid`,
  );
  const tables = found.rows.filter(({ schema, name }) => schema !== 'public' || !TRANSIENT.has(name));
  const placed: typeof tables = [];
  const left = new Set(tables);
  while (left.size > 0) {
    const free = [...left].filter(
      (table) => !refers.rows.some(({ from, to }) => from === table.name && [...left].some((other) => other !== table && other.name === to)),
    );
    if (free.length === 0) throw new MillraceError('INTERNAL', 'Tables refer to each other in a circle.');
    for (const table of free) {
      placed.push(table);
      left.delete(table);
    }
  }
  return placed;
}

/**
 * Writes a backup into a folder that is empty or not there.
 * @throws MillraceError INVALID_REQUEST for a folder that holds something, DATABASE_UNAVAILABLE, ARTIFACT_CORRUPT, DISK_FULL
 */
export async function backUp(options: BackupOptions): Promise<BackupManifest> {
  const { folder } = options;
  if ((await readdir(folder).catch(() => [])).length > 0)
    throw new MillraceError('INVALID_REQUEST', `${folder} is not empty.`, { fix: 'Give a folder that is empty, or is not there yet.' });
  try {
    return await writeBackup(options);
  } catch (error) {
    // half a backup would only take the room that the next one needs
    for (const entry of await readdir(folder).catch(() => [])) await rm(join(folder, entry), { recursive: true, force: true });
    throw error;
  }
}

function writeBackup({ databaseUrl, artifacts, home, folder, version, schedules = null, onProgress }: BackupOptions): Promise<BackupManifest> {
  return withClient(databaseUrl, 'backup', async (client) => {
    await mkdir(join(folder, 'tables'), { recursive: true });
    const before = await copyState(home, join(folder, 'state'), STATE_BEFORE);
    await client.query('begin transaction isolation level repeatable read read only');
    await client.query('set local statement_timeout = 0');
    const { rows: moments } = await client.query<{ at: Date }>('select now() as at');
    const applied = await client.query<{ tag: string }>('select tag from millrace_migrations order by index');
    const tables: BackupManifest['tables'] = [];
    for (const { schema, name, columns } of await tablesOf(client)) {
      onProgress?.(`table ${name}`);
      const file = `tables/${schema}.${name}.copy.gz`;
      const { through, done } = hashing();
      const packed = createGzip({ level: 6 });
      const written = pipeline(packed, through, createWriteStream(join(folder, file), { mode: 0o600 }));
      const copied = copyOut(client, `copy ${named(schema, name)} (${columns.map((column) => quoted(column.name)).join(', ')}) to stdout`, packed);
      // a file that cannot be written ends both, and says why itself
      const [, rows] = await Promise.all([written, copied.finally(() => packed.end())]);
      tables.push({ schema, name, columns, rows, file, sha256: done().sha256 });
    }
    const sequences = await client.query<{ name: string; value: string | null }>(
      `select sequencename as name, last_value::text as value from pg_sequences where schemaname = 'public'`,
    );
    const views = await client.query<{ name: string; definition: string }>(`select viewname as name, definition from pg_views where schemaname = $1`, [VIEWS]);
    await client.query('commit');
    const copied = await copyArtifacts(artifacts, folder, onProgress);
    const after = await copyState(home, join(folder, 'state'), STATE_AFTER);
    const manifest: BackupManifest = {
      format: FORMAT,
      createdAt: (moments[0]?.at ?? new Date()).toISOString(),
      millrace: version,
      migrations: applied.rows.map(({ tag }) => tag),
      tables,
      sequences: sequences.rows.flatMap(({ name, value }) => (value === null ? [] : [{ name, value }])),
      views: views.rows,
      artifacts: copied,
      state: [...before, ...after],
      schedules: schedules === null ? null : [...schedules],
    };
    await writeFile(join(folder, `${MANIFEST}.part`), JSON.stringify(manifest, null, 1), { mode: 0o600 });
    const handle = await open(join(folder, `${MANIFEST}.part`), 'r');
    await handle.sync();
    await handle.close();
    await rename(join(folder, `${MANIFEST}.part`), join(folder, MANIFEST));
    return manifest;
  });
}

const artifactPath = (folder: string, sha256: string): string => join(folder, 'artifacts', sha256.slice(0, 2), sha256.slice(2));

async function copyArtifacts(
  artifacts: BackupOptions['artifacts'],
  folder: string,
  onProgress: BackupOptions['onProgress'],
): Promise<BackupManifest['artifacts']> {
  let [count, sizeBytes] = [0, 0];
  for await (const { sha256 } of artifacts.list()) {
    // retention may take one between the listing and now: no record names it then
    const path = await artifacts.pathOf(sha256).catch((error: unknown) => {
      if (error instanceof MillraceError && error.code === 'ARTIFACT_MISSING') return null;
      throw error;
    });
    if (path === null) continue;
    const to = artifactPath(folder, sha256);
    const copy = await copyFile(path, to);
    if (copy.sha256 !== sha256)
      throw new MillraceError('ARTIFACT_CORRUPT', undefined, { problems: [{ path: 'sha256', message: 'has other content', found: sha256 }] });
    count++;
    sizeBytes += copy.sizeBytes;
    if (count % 100 === 0) onProgress?.(`${String(count)} artifacts`);
  }
  return { count, sizeBytes };
}

/** Files below a path, relative to a root, in order; a path that is not there has none. */
async function filesBelow(root: string, path: string): Promise<readonly string[]> {
  const is = await stat(join(root, path)).catch(() => undefined);
  if (is === undefined) return [];
  if (is.isFile()) return [path];
  const found = await readdir(join(root, path), { recursive: true, withFileTypes: true });
  return found
    .filter((entry) => entry.isFile() && !entry.name.startsWith('.'))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)).split(sep).join('/'))
    .sort();
}

async function copyState(home: string, to: string, parts: readonly string[]): Promise<BackupManifest['state']> {
  const copied: BackupManifest['state'] = [];
  for (const part of parts)
    for (const path of await filesBelow(home, part)) {
      const copy = await copyFile(join(home, path), join(to, path)).catch((error: unknown) => {
        // a log that was compacted meanwhile: what stands for it comes with the next backup
        if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
        throw error;
      });
      if (copy !== null) copied.push({ path, ...copy });
    }
  return copied;
}

/** The manifest of a backup. @throws INVALID_REQUEST where the folder holds none */
export async function readBackup(folder: string): Promise<BackupManifest> {
  const text = await readFile(join(folder, MANIFEST), 'utf8').catch(() => {
    throw new MillraceError('INVALID_REQUEST', `${folder} holds no backup.`, {
      fix: `Give a folder that \`millrace backup\` has finished: it has a ${MANIFEST}.`,
    });
  });
  const parsed = ManifestSchema.safeParse(jsonOf(text));
  if (!parsed.success) throw new MillraceError('INVALID_REQUEST', `The ${MANIFEST} of ${folder} is not one of this Millrace's.`);
  return parsed.data;
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

export interface RestoreOptions {
  readonly databaseUrl: string;
  readonly artifacts: Pick<Artifacts, 'putFile' | 'has'>;
  readonly home: string;
  readonly folder: string;
  readonly onProgress?: (what: string) => void;
}

export interface Restored {
  /** UTC ISO: the moment of the backup. */
  readonly createdAt: string;
  readonly tables: number;
  readonly rows: number;
  readonly artifacts: number;
  readonly files: number;
  /** Runs that were under way: they count as terminated now. */
  readonly terminated: number;
  readonly endpoints: readonly string[];
  /** Of the backup; null: it knows of none. */
  readonly schedules: readonly KeptSchedule[] | null;
}

/**
 * Fills an empty store from a backup, after every file of it was checked.
 * @throws MillraceError CONFLICT for a store that is not empty, SCHEMA_TOO_NEW, ARTIFACT_CORRUPT for a file that has changed
 */
export async function restore({ databaseUrl, artifacts, home, folder, onProgress }: RestoreOptions): Promise<Restored> {
  const manifest = await readBackup(folder);
  const known = readMigrations();
  const unknown = manifest.migrations.filter((tag) => !known.some((migration) => migration.tag === tag));
  if (unknown.length > 0)
    throw new MillraceError('SCHEMA_TOO_NEW', `The backup was made by a newer Millrace (${manifest.millrace}).`, {
      problems: unknown.map((tag) => ({ path: MANIFEST, message: 'is a migration that this Millrace does not know', found: tag })),
    });
  await checkFiles(manifest, folder, onProgress);
  await withClient(databaseUrl, 'restore', (client) => refuseLearned(client));
  const stored = await restoreArtifacts(manifest, artifacts, folder, onProgress);
  for (const { path } of manifest.state) await copyFile(join(folder, 'state', path), join(home, path));
  const isOlder = manifest.migrations.length < known.length;
  if (isOlder) await startOver(databaseUrl, manifest.migrations);
  const filled = await withClient(databaseUrl, 'restore', (client) => fill(client, manifest, folder, onProgress));
  if (isOlder) await migrate(databaseUrl);
  // all triggers of the tables are on now: these are only for a stack that mirrors, which turns them on by itself
  await withClient(databaseUrl, 'restore', (client) => client.query(MIRROR_OFF_SQL));
  const rows = manifest.tables.reduce((sum, table) => sum + table.rows, 0);
  const { createdAt, tables, state, schedules } = manifest;
  return { createdAt, tables: tables.length, rows, artifacts: stored, files: state.length, schedules, ...filled };
}

async function checkFiles(manifest: BackupManifest, folder: string, onProgress: RestoreOptions['onProgress']): Promise<void> {
  onProgress?.('checking the files');
  const files = [
    ...manifest.tables.map(({ file, sha256 }) => ({ file, sha256 })),
    ...manifest.state.map(({ path, sha256 }) => ({ file: `state/${path}`, sha256 })),
  ];
  const damaged: string[] = [];
  for (const { file, sha256 } of files) {
    const hash = createHash('sha256');
    try {
      for await (const chunk of createReadStream(join(folder, file)) as AsyncIterable<Buffer>) hash.update(chunk);
    } catch {
      damaged.push(file);
      continue;
    }
    if (hash.digest('hex') !== sha256) damaged.push(file);
  }
  if (damaged.length > 0)
    throw new MillraceError('ARTIFACT_CORRUPT', 'Files of the backup are missing or have changed. Nothing was restored.', {
      problems: damaged.map((file) => ({ path: file, message: 'is not what was backed up' })),
    });
}

async function refuseLearned(client: pg.ClientBase): Promise<void> {
  const counts = await client.query<Record<string, boolean>>(`select ${LEARNED.map((table) => `exists (select 1 from ${table}) as ${table}`).join(', ')}`);
  const held = Object.entries(counts.rows[0] ?? {}).flatMap(([table, found]) => (found ? [table] : []));
  if (held.length > 0)
    throw new MillraceError('CONFLICT', 'The store is not empty: nothing was restored.', {
      problems: held.map((table) => ({ path: table, message: 'holds records already' })),
      fix: 'Restore into a new stack: another MILLRACE_HOME, or an empty database in DATABASE_URL.',
    });
}

async function restoreArtifacts(
  manifest: BackupManifest,
  artifacts: RestoreOptions['artifacts'],
  folder: string,
  onProgress: RestoreOptions['onProgress'],
): Promise<number> {
  let count = 0;
  for (const path of await filesBelow(join(folder, 'artifacts'), '.')) {
    const sha256 = path.replaceAll(/[^0-9a-f]/g, '');
    if (!/^[0-9a-f]{64}$/.test(sha256)) continue;
    const put = (await artifacts.has(sha256)) ? { sha256 } : await artifacts.putFile(artifactPath(folder, sha256));
    if (put.sha256 !== sha256)
      throw new MillraceError('ARTIFACT_CORRUPT', 'An artifact of the backup has other content than its name says.', {
        problems: [{ path, message: 'is not what was backed up' }],
      });
    count++;
    if (count % 100 === 0) onProgress?.(`${String(count)} artifacts`);
  }
  if (count < manifest.artifacts.count)
    throw new MillraceError('ARTIFACT_MISSING', `The backup lacks ${String(manifest.artifacts.count - count)} of its artifacts.`, {
      problems: [{ path: 'artifacts', message: 'has fewer files than were backed up' }],
    });
  return count;
}

/** An empty store at the state of an earlier Millrace. */
async function startOver(databaseUrl: string, tags: readonly string[]): Promise<void> {
  await withClient(databaseUrl, 'restore', async (client) => {
    await refuseLearned(client);
    await client.query(`drop schema public cascade; create schema public; drop schema if exists ${VIEWS} cascade; drop schema if exists ${SETS} cascade`);
  });
  const known = readMigrations();
  await migrate(
    databaseUrl,
    known.filter(({ tag }) => tags.includes(tag)),
  );
}

async function fill(
  client: pg.PoolClient,
  manifest: BackupManifest,
  folder: string,
  onProgress: RestoreOptions['onProgress'],
): Promise<{ readonly terminated: number; readonly endpoints: readonly string[] }> {
  const drafts: string[] = [];
  try {
    await client.query('begin');
    await client.query('set local statement_timeout = 0');
    await refuseLearned(client);
    const ours = manifest.tables.filter(({ schema }) => schema === 'public');
    const names = ours.map(({ schema, name }) => named(schema, name)).join(', ');
    // what a stack that has just started wrote by itself goes; nobody writes while the tables are filled
    await client.query(`lock table ${names} in access exclusive mode`);
    await refuseLearned(client);
    // an append-only table is filled like any other
    for (const { name } of ours) await client.query(`alter table ${named('public', name)} disable trigger user`);
    await client.query(`truncate ${names} cascade`);
    await client.query(`create schema if not exists ${SETS}; create schema if not exists ${VIEWS}`);
    for (const table of manifest.tables) {
      onProgress?.(`table ${table.name}`);
      if (table.schema === SETS)
        await client.query(`create table ${named(SETS, table.name)} (${table.columns.map(({ name, type }) => `${quoted(name)} ${type}`).join(', ')})`);
      const plain = join(folder, `.${table.name}.${String(process.pid)}.copy`);
      drafts.push(plain);
      await pipeline(createReadStream(join(folder, table.file)), createGunzip(), createWriteStream(plain, { mode: 0o600 }));
      const rows = await copyIn(
        client,
        `copy ${named(table.schema, table.name)} (${table.columns.map(({ name }) => quoted(name)).join(', ')}) from stdin`,
        plain,
      );
      await rm(plain, { force: true });
      if (rows !== table.rows)
        throw new MillraceError('ARTIFACT_CORRUPT', `Of the table ${table.name} ${String(rows)} of ${String(table.rows)} rows came back.`);
    }
    for (const { name } of ours) await client.query(`alter table ${named('public', name)} enable trigger user`);
    for (const { name, value } of manifest.sequences) await client.query('select setval($1::regclass, $2)', [named('public', name), value]);
    for (const { name, definition } of manifest.views) await client.query(`create view ${named(VIEWS, name)} as ${definition}`);
    const over = await client.query(
      `select millrace_end_run(jsonb_build_object('runId', id, 'status', 'terminated', 'ifOpen', true, 'error',
         jsonb_build_object('code', 'CONFLICT', 'message', 'The run was under way when the backup was made.', 'fix', 'Start it again: millrace runs retry.', 'problems', '[]'::jsonb)))
       from runs where status in ('waiting', 'running')`,
    );
    const why = 'It was under way when the backup was made.';
    await client.query(`update rollouts set status = 'failed', reason = $1, ended_at = now() where status in ('queued', 'running')`, [why]);
    await client.query(`update approvals set status = 'expired', settled_at = now() where status = 'pending'`);
    await client.query(`update label_requests set status = 'cancelled', closed_at = now() where status = 'open'`);
    const endpoints = await client.query<{ name: string }>('select name from endpoints order by name');
    for (const { name } of endpoints.rows) await client.query('select pg_notify($1, $2)', [ROUTES_CHANNEL, name]);
    await client.query('commit');
    return { terminated: over.rowCount ?? 0, endpoints: endpoints.rows.map(({ name }) => name) };
  } finally {
    for (const draft of drafts) await rm(draft, { force: true });
  }
}
