import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { MillraceError } from '../../../contracts/errors.ts';
import { type Source, SourceSchema } from '../../../contracts/source.ts';
import { fingerprintSource } from '../../../data/fingerprint-source.ts';
import { type IngestedDataset, ingestSource, type IngestOptions } from '../../../data/ingest.ts';
import { readColumns } from '../../../data/read-columns.ts';
import { createFileArtifacts, type FileArtifacts } from '../../support/file-artifacts.ts';

interface Seen {
  readonly method: string;
  readonly path: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
}
type Answer = (request: IncomingMessage, response: ServerResponse) => void;

let artifacts: FileArtifacts;
let folder: string;
let origin: string;
let otherOrigin: string;
let servers: Server[];
let seen: Seen[] = [];
const answers = new Map<string, Answer>();

async function listen(): Promise<{ server: Server; origin: string }> {
  const server = createServer((request, response) => {
    const path = (request.url ?? '').replace(/\?.*$/, '');
    seen.push({ method: request.method ?? '', path, range: request.headers.range, authorization: request.headers.authorization });
    const answer = answers.get(path);
    if (answer === undefined) response.writeHead(404).end();
    else answer(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { server, origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

beforeAll(async () => {
  artifacts = await createFileArtifacts();
  folder = await mkdtemp(join(tmpdir(), 'millrace-http-'));
  const [one, two] = [await listen(), await listen()];
  servers = [one.server, two.server];
  ({ origin } = one);
  otherOrigin = two.origin;
});
afterAll(async () => {
  for (const server of servers) {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
  await artifacts.remove();
  await rm(folder, { recursive: true, force: true });
});
beforeEach(() => {
  seen = [];
  answers.clear();
});

const ROWS = ['id,name', ...Array.from({ length: 2_000 }, (_, id) => `${id},row ${id}`), ''].join('\n');

/** A file as a server of files gives it: with a tag, and in parts where they are asked for. */
function serveFile(path: string, content: string | Buffer, headers: Readonly<Record<string, string>> = {}, tag: string | null = '"v1"'): void {
  const bytes = Buffer.from(content);
  answers.set(path, (request, response) => {
    const all = { 'accept-ranges': 'bytes', ...(tag === null ? {} : { etag: tag }), ...headers };
    const from = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? Number.NaN);
    if (Number.isNaN(from)) response.writeHead(200, { ...all, 'content-length': String(bytes.length) });
    else
      response.writeHead(206, { ...all, 'content-length': String(bytes.length - from), 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` });
    response.end(request.method === 'HEAD' ? undefined : bytes.subarray(Number.isNaN(from) ? 0 : from));
  });
}

const ingest = (source: Source, more: Partial<IngestOptions> = {}): Promise<IngestedDataset> =>
  ingestSource({ source, name: 'data', artifacts, projectFolder: folder, ...more });
const csv = (path: string | string[], more: object = {}): Source => ({ format: 'csv', path, ...more });
const left = (): Promise<readonly string[]> => readdir(join(artifacts.folder, 'temporary'));

async function refused(work: Promise<unknown>): Promise<MillraceError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(MillraceError);
  return error as MillraceError;
}

describe('a source by http', () => {
  it('gives the snapshot that the same file on disk gives, and leaves nothing behind', async () => {
    serveFile('/rows.csv', ROWS);
    await writeFile(join(folder, 'rows.csv'), ROWS);
    const before = await left();
    const fetched = await ingest(csv(`${origin}/rows.csv?signature=Secret7`));
    expect(fetched.ref).toEqual((await ingest(csv('rows.csv'))).ref);
    expect(await left()).toEqual(before);
  });

  it('is read as what its name or its server says it is packed with', async () => {
    serveFile('/rows.csv.gz', gzipSync(ROWS));
    serveFile('/packed.csv', gzipSync(ROWS), { 'content-encoding': 'gzip' });
    serveFile('/plain.csv', ROWS);
    const [named, packed, plain] = [
      await ingest(csv(`${origin}/rows.csv.gz`)),
      await ingest(csv(`${origin}/packed.csv`)),
      await ingest(csv(`${origin}/plain.csv`)),
    ];
    expect([named.ref.id, packed.ref.id]).toEqual([plain.ref.id, plain.ref.id]);
  });

  it('may be a list, beside local files, in the order of the list', async () => {
    serveFile('/b.csv', 'n\n2\n');
    serveFile('/a.csv', 'n\n3\n');
    await writeFile(join(folder, 'first.csv'), 'n\n1\n');
    const { manifest } = await ingest(csv(['first.csv', `${origin}/b.csv`, `${origin}/a.csv`]));
    const table = await readColumns([await artifacts.pathOf(manifest.files[0]!.sha256)], ['n']);
    expect(table.columns.get('n')).toEqual({ kind: 'number', values: Float64Array.of(1, 2, 3) });
  });

  it('goes on in the middle when the connection breaks', async () => {
    const bytes = Buffer.from(ROWS);
    let broken = 0;
    answers.set('/broken.csv', (request, response) => {
      const from = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
      const head = { etag: '"v1"', 'content-length': String(bytes.length - from), 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` };
      response.writeHead(from > 0 ? 206 : 200, head);
      if (request.method === 'HEAD') response.end();
      else if (broken++ < 2) response.write(bytes.subarray(from, from + 5_000), () => setTimeout(() => response.destroy(), 20));
      else response.end(bytes.subarray(from));
    });
    const { ref } = await ingest(csv(`${origin}/broken.csv`));
    expect(ref.rows).toBe(2_000);
    expect(seen.map(({ range }) => range)).toEqual([undefined, undefined, 'bytes=5000-', 'bytes=10000-']);
  });

  it('is refused when it is another file in the middle', async () => {
    const bytes = Buffer.from(ROWS);
    let asked = 0;
    answers.set('/swapped.csv', (request, response) => {
      const tag = asked === 0 ? '"v1"' : '"v2"';
      response.writeHead(200, { etag: request.method === 'HEAD' ? '"v1"' : tag, 'content-length': String(bytes.length) });
      if (request.method === 'HEAD') response.end();
      else if (asked++ === 0) response.write(bytes.subarray(0, 5_000), () => setTimeout(() => response.destroy(), 20));
      else response.end(bytes);
    });
    const error = await refused(ingest(csv(`${origin}/swapped.csv`)));
    expect(error).toMatchObject({ code: 'SOURCE_MALFORMED', problems: [{ file: `${origin}/swapped.csv` }] });
    expect(error.message).toContain('changed while it was read');
  });

  it('that ends early each time is tried again later', async () => {
    answers.set('/short.csv', (request, response) => {
      response.writeHead(200, { 'content-length': '1000' });
      if (request.method === 'HEAD') response.end();
      else response.write('id,name\n', () => setTimeout(() => response.destroy(), 5));
    });
    const error = await refused(ingest(csv(`${origin}/short.csv`)));
    expect(error).toMatchObject({ code: 'SOURCE_UNAVAILABLE', retryable: true });
    expect(await left()).toEqual([]);
  });

  it.each([
    [404, 'SOURCE_NOT_FOUND', false],
    [403, 'SOURCE_NOT_FOUND', false],
    [429, 'SOURCE_UNAVAILABLE', true],
    [500, 'SOURCE_UNAVAILABLE', true],
  ])('whose server answers %i is %s', async (status, code, retryable) => {
    answers.set('/status.csv', (_request, response) => response.writeHead(status).end());
    const error = await refused(ingest(csv(`${origin}/status.csv?signature=Secret7`)));
    expect(error).toMatchObject({ code, retryable });
    expect(JSON.stringify(error.report())).not.toContain('Secret7');
  });

  it('whose server is not there is tried again, and one that cannot be found is not', async () => {
    const { server, origin: gone } = await listen();
    await new Promise((resolve) => server.close(resolve));
    expect(await refused(ingest(csv(`${gone}/x.csv`)))).toMatchObject({ code: 'SOURCE_UNAVAILABLE' });
    answers.set('/loop.csv', (_request, response) => response.writeHead(302, { location: '/loop.csv' }).end());
    expect((await refused(ingest(csv(`${origin}/loop.csv`)))).message).toContain('redirects more than 5 times');
    answers.set('/away.csv', (_request, response) => response.writeHead(302, { location: 'file:///etc/hostname' }).end());
    expect((await refused(ingest(csv(`${origin}/away.csv`)))).message).toContain('no http address');
  });

  it('sends the header that the environment holds, and not to where it is redirected', async () => {
    const secret = (name: string): string => (name === 'SOURCE_TOKEN' ? 'Bearer Secret7' : '');
    serveFile('/rows.csv', ROWS);
    answers.set('/moved.csv', (_request, response) => response.writeHead(302, { location: `${otherOrigin}/rows.csv` }).end());
    await ingest(csv(`${origin}/moved.csv`, { authorization: 'SOURCE_TOKEN' }), { secret });
    expect(new Set(seen.filter(({ path }) => path === '/moved.csv').map(({ authorization }) => authorization))).toEqual(new Set(['Bearer Secret7']));
    expect(new Set(seen.filter(({ path }) => path === '/rows.csv').map(({ authorization }) => authorization))).toEqual(new Set([undefined]));
  });

  it('may not hold a password, another scheme, or the name of a variable of the project', () => {
    for (const source of [csv('https://user:word@host/x.csv'), csv('ftp://host/x.csv'), csv('x.csv', { authorization: 'MILLRACE_HASH_KEY' })]) {
      expect(SourceSchema.safeParse(source).success).toBe(false);
    }
  });

  it('may have an odd name, and must be an address', async () => {
    serveFile('/100%.csv', 'n\n1\n');
    expect((await ingest(csv(`${origin}/100%.csv`))).ref.rows).toBe(1);
    expect(await refused(ingest(csv('https://?signature=Secret7')))).toMatchObject({
      code: 'SOURCE_NOT_FOUND',
      message: 'The source https:// cannot be read: It is no address.',
    });
  });

  it('larger than the room for fetched files is refused before it is there', async () => {
    serveFile('/rows.csv', ROWS);
    const error = await refused(ingest(csv(`${origin}/rows.csv`), { spoolBytes: 1_000 }));
    expect(error).toMatchObject({ code: 'DISK_FULL' });
    expect(error.fix).toContain('MILLRACE_SPOOL_GIB');
  });

  it('that is silent is tried again; an aborted one leaves nothing behind', async () => {
    answers.set('/silent.csv', (request, response) => {
      response.writeHead(200, { etag: '"v1"', 'content-length': '1000' });
      if (request.method === 'HEAD') response.end();
      else response.write('id\n1\n');
    });
    expect(await refused(ingest(csv(`${origin}/silent.csv`), { silenceMs: 50 }))).toMatchObject({ code: 'SOURCE_UNAVAILABLE' });
    const stop = new AbortController();
    const work = ingest(csv(`${origin}/silent.csv`), { signal: stop.signal }).catch((error: unknown) => error);
    await new Promise((resolve) => setTimeout(resolve, 100));
    stop.abort(new Error('stopped'));
    expect(await work).toMatchObject({ message: 'stopped' });
    expect(await left()).toEqual([]);
  });
});

describe('the fingerprint of a source by http', () => {
  const access = (): { projectFolder: string; home: string } => ({ projectFolder: folder, home: folder });

  it('is the same while the server says that nothing changed, without the file being read', async () => {
    serveFile('/rows.csv', ROWS);
    const first = await fingerprintSource(csv(`${origin}/rows.csv`), access());
    expect(await fingerprintSource(csv(`${origin}/rows.csv`), access())).toEqual(first);
    expect(first.known).toBe(true);
    expect(seen.map(({ method }) => method)).toEqual(['HEAD', 'HEAD']);
    serveFile('/rows.csv', ROWS, {}, '"v2"');
    expect((await fingerprintSource(csv(`${origin}/rows.csv`), access())).sha256).not.toBe(first.sha256);
  });

  it('takes the time of change where there is no tag, unless it is of this moment', async () => {
    serveFile('/old.csv', ROWS, { 'last-modified': 'Mon, 02 Jan 2023 03:04:05 GMT' }, null);
    expect((await fingerprintSource(csv(`${origin}/old.csv`), access())).known).toBe(true);
    serveFile('/new.csv', ROWS, { 'last-modified': new Date().toUTCString() }, null);
    expect((await fingerprintSource(csv(`${origin}/new.csv`), access())).known).toBe(false);
  });

  it('is another one each time where the server does not tell', async () => {
    serveFile('/rows.csv', ROWS, {}, null);
    const [one, two] = [await fingerprintSource(csv(`${origin}/rows.csv`), access()), await fingerprintSource(csv(`${origin}/rows.csv`), access())];
    expect(one.sha256).not.toBe(two.sha256);
    expect(one.known).toBe(false);
  });

  it('asks in another way where a server does not know HEAD', async () => {
    serveFile('/rows.csv', ROWS);
    const plain = answers.get('/rows.csv')!;
    answers.set('/rows.csv', (request, response) => {
      if (request.method === 'HEAD') response.writeHead(405).end();
      else plain(request, response);
    });
    expect((await fingerprintSource(csv(`${origin}/rows.csv`), access())).known).toBe(true);
    expect((await ingest(csv(`${origin}/rows.csv`))).ref.rows).toBe(2_000);
  });
});
