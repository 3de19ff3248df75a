import { createReadStream } from 'node:fs';
import { basename, extname } from 'node:path';
import type { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { Artifacts } from '../../store/artifacts.ts';
import type { ArtifactEntry } from '../../store/artifact-files.ts';
import { folderOf, inRegistry, isWritable, safePath } from '../../store/artifact-paths.ts';
import { MlflowError } from './errors.ts';
import { type MlflowContext, type MlflowDeps, type Operation, operation, optional, text } from './operation.ts';
import { versionFile, versionFiles } from '../../store/version-files.ts';

/**
 * Files of MLflow's clients, through this server.
 *
 * Invariants:
 * 1. A file is streamed both ways: no more of it than a piece is in memory, whatever its size.
 * 2. An upload that breaks off leaves neither a path nor a file; an earlier file of the path stays as it was.
 * 3. What is handed out was held against its hash; a browser is told to save it, never to show it.
 */
const ROOT = '/mlflow-artifacts/artifacts';
const TYPES: Readonly<Record<string, string>> = {
  '.json': 'application/json',
  '.txt': 'text/plain; charset=utf-8',
  '.yaml': 'text/plain; charset=utf-8',
  '.yml': 'text/plain; charset=utf-8',
  '.csv': 'text/csv; charset=utf-8',
  '.png': 'image/png',
  '.jpg': 'image/jpeg',
  '.pdf': 'application/pdf',
};

const shown = ({ name, isFolder, sizeBytes }: ArtifactEntry, folder = '') => ({
  path: folder === '' ? name : `${folder}/${name}`,
  is_dir: isFolder,
  ...(isFolder ? {} : { file_size: sizeBytes }),
});

function requireArtifacts(artifacts: Artifacts | undefined): Artifacts {
  if (artifacts === undefined) throw new MlflowError('NOT_IMPLEMENTED', 'This server was started without an artifact store.');
  return artifacts;
}

async function entriesOf({ store, artifacts }: MlflowDeps, folder: string): Promise<readonly ArtifactEntry[]> {
  const version = inRegistry(folder);
  if (version === null) return store.artifactFiles.list(folder);
  return version.rest === '' ? versionFiles({ store, artifacts: requireArtifacts(artifacts) }, version) : [];
}

const notImplemented = (path: string, method: Operation['method'], message: string): Operation =>
  operation({
    method,
    path,
    access: 'read',
    schema: z.unknown(),
    handle: () => Promise.reject(new MlflowError('NOT_IMPLEMENTED', message)),
  });

/** The folder of a run's artifacts. @throws NOT_FOUND */
async function runFolder({ store }: MlflowContext, runId: string): Promise<{ readonly uri: string; readonly folder: string | null }> {
  const place = await store.registry.runPlace(runId);
  if (place === null) throw new MlflowError('RESOURCE_DOES_NOT_EXIST', `Run with id=${runId} not found`);
  return { uri: place.uri, folder: folderOf(place.uri) };
}

export const ARTIFACT_OPERATIONS: readonly Operation[] = [
  operation({
    method: 'get',
    path: ROOT,
    access: 'read',
    schema: z.object({ path: optional(text) }),
    handle: async (context, { path }) => ({ files: (await entriesOf(context, safePath(path ?? ''))).map((entry) => shown(entry)) }),
  }),
  operation({
    method: 'get',
    path: '/mlflow/artifacts/list',
    access: 'read',
    schema: z.object({ run_id: optional(text), run_uuid: optional(text), path: optional(text) }),
    handle: async (context, { run_id, run_uuid, path }) => {
      const { uri, folder } = await runFolder(context, run_id ?? run_uuid ?? '');
      const inside = safePath(path ?? '');
      const below = [folder, inside].filter((part) => part !== '').join('/');
      return { root_uri: uri, files: folder === null ? [] : (await entriesOf(context, below)).map((entry) => shown(entry, inside)) };
    },
  }),
  ...(['create', 'complete', 'abort'] as const).map((step) =>
    notImplemented(
      `/mlflow-artifacts/mpu/${step}/*`,
      'post',
      'Multipart upload is not supported for the current artifact repository: send the file by one PUT.',
    ),
  ),
  notImplemented(
    '/mlflow-artifacts/presigned/*',
    'get',
    'Presigned downloads are not supported for the current artifact repository: get the file through this server.',
  ),
];

const pathOf = (request: FastifyRequest): string => safePath((request.params as { readonly '*'?: string })['*'] ?? '');

async function upload({ store, artifacts }: MlflowDeps, request: FastifyRequest): Promise<unknown> {
  const path = pathOf(request);
  if (!isWritable(path)) throw new MlflowError('PERMISSION_DENIED', 'Nothing can be written there.');
  // before gigabytes are read for nothing
  await store.artifactFiles.requireFree(path);
  const body = (request.body as Readable | undefined) ?? request.raw;
  const stored = await requireArtifacts(artifacts)
    .putStream(body)
    .catch((error: unknown) => {
      if (!request.raw.complete) throw new MlflowError('BAD_REQUEST', 'The upload ended before it was whole: nothing was kept of it.');
      throw error;
    });
  if (!request.raw.complete) throw new MlflowError('BAD_REQUEST', 'The upload ended before it was whole: nothing was kept of it.');
  await store.artifactFiles.put({ path, sha256: stored.sha256, sizeBytes: stored.sizeBytes });
  return {};
}

function sendHeaders(reply: FastifyReply, path: string, sizeBytes: number): FastifyReply {
  return reply
    .header('content-length', sizeBytes)
    .header('content-disposition', `attachment; filename*=UTF-8''${encodeURIComponent(basename(path)).replaceAll("'", '%27')}`)
    .header('x-content-type-options', 'nosniff')
    .type(TYPES[extname(path).toLowerCase()] ?? 'application/octet-stream');
}

async function download({ store, artifacts }: MlflowDeps, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const path = pathOf(request);
  const version = inRegistry(path);
  const place = requireArtifacts(artifacts);
  if (version !== null) {
    const file = await versionFile({ store, artifacts: place }, version);
    if (file === null) throw new MlflowError('RESOURCE_DOES_NOT_EXIST', `No such artifact: '${path}'`);
    if ('bytes' in file) return sendHeaders(reply, path, file.bytes.length).send(file.bytes);
    return sendHeaders(reply, path, file.sizeBytes).send(createReadStream(await place.pathOf(file.sha256)));
  }
  const file = await store.artifactFiles.find(path);
  if (file === null) throw new MlflowError('RESOURCE_DOES_NOT_EXIST', `No such artifact: '${path}'`);
  return sendHeaders(reply, path, file.sizeBytes).send(createReadStream(await place.pathOf(file.sha256)));
}

async function remove({ store }: MlflowDeps, request: FastifyRequest): Promise<unknown> {
  const path = pathOf(request);
  if (!isWritable(path)) throw new MlflowError('PERMISSION_DENIED', 'Nothing can be deleted there.');
  if ((await store.artifactFiles.remove(path)) === 0) throw new MlflowError('RESOURCE_DOES_NOT_EXIST', `No such artifact: '${path}'`);
  return {};
}

/** Registers the routes whose bodies are files, whatever type their senders say they have. */
export function registerArtifactFiles(app: FastifyInstance, prefixes: readonly string[], deps: MlflowDeps): void {
  void app.register((files, _options, done) => {
    files.removeAllContentTypeParsers();
    files.addContentTypeParser('*', (_request, payload, parsed) => {
      parsed(null, payload);
    });
    for (const prefix of prefixes) {
      const url = `${prefix}${ROOT}/*`;
      files.route({ method: 'put', url, bodyLimit: Number.MAX_SAFE_INTEGER, config: { access: 'write' }, handler: (request) => upload(deps, request) });
      files.route({ method: 'get', url, config: { access: 'read' }, handler: (request, reply) => download(deps, request, reply) });
      files.route({ method: 'delete', url, config: { access: 'write' }, handler: (request) => remove(deps, request) });
    }
    done();
  });
}
