import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { packageVersion } from '../config/package-root.ts';
import type { ModelFolder } from '../contracts/model-folder.ts';
import type { Artifacts } from '../store/artifacts.ts';
import { type ExportedVersion, writeModelFolder } from '../store/model-folder.ts';

/** What an export holds beside the model: nothing, a server with its Dockerfile, or a function. */
export type ExportForm = 'folder' | 'docker' | 'function';

const ONNXRUNTIME = 'onnxruntime-node';

const installedVersion = (): string => (createRequire(import.meta.url)(`${ONNXRUNTIME}/package.json`) as { version: string }).version;

/** The module of the prediction server's folder, built or as source, with all that it needs but onnxruntime in one file. */
async function bundle(entry: string, outfile: string): Promise<void> {
  const here = fileURLToPath(import.meta.url);
  const source = fileURLToPath(new URL(`../serving/${entry}${here.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url));
  await build({
    entryPoints: [source],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    // files lie in the export: what reads artifacts of S3 is never asked for
    external: [ONNXRUNTIME, '@aws-sdk/*'],
    // packages in the older module form ask for Node's own modules by require
    banner: { js: "import { createRequire as createRequireOfBundle } from 'node:module';\nconst require = createRequireOfBundle(import.meta.url);" },
    legalComments: 'eof',
    logLevel: 'silent',
  });
}

/** In onnxruntime's package a script fetches libraries for GPUs; the image and the function run on the CPU. */
const dockerfile = (): string => `FROM node:22-slim
WORKDIR /app
COPY package.json ./
RUN npm install --omit=dev --ignore-scripts --no-audit --no-fund && npm cache clean --force
COPY server.mjs ./
COPY model ./model
USER node
ENV HOST=0.0.0.0 PORT=8080 STATE_FOLDER=/tmp/millrace NODE_ENV=production
EXPOSE 8080
HEALTHCHECK --interval=10s --start-period=30s CMD ["node", "-e", "fetch('http://127.0.0.1:8080/v2/health/ready').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "server.mjs"]
`;

/**
 * Writes a version into a folder: its files; with a server, the Dockerfile and package.json of an image; or with a function's module.
 * What was there of an earlier export is replaced.
 */
export async function exportModel(artifacts: Artifacts, version: ExportedVersion, out: string, form: ExportForm): Promise<ModelFolder> {
  await mkdir(out, { recursive: true });
  const manifest = await writeModelFolder(artifacts, version, form === 'folder' ? out : join(out, 'model'), `millrace ${packageVersion}`);
  if (form === 'folder') return manifest;
  const file = form === 'docker' ? 'server.mjs' : 'index.mjs';
  await bundle(form === 'docker' ? 'folder-server-main' : 'function-main', join(out, file));
  const packageJson = {
    name: `${version.model}-${form === 'docker' ? 'server' : 'function'}`.toLowerCase(),
    version: `${String(version.version)}.0.0`,
    private: true,
    type: 'module',
    main: file,
    engines: { node: '>=20.19' },
    dependencies: { [ONNXRUNTIME]: installedVersion() },
  };
  await writeFile(join(out, 'package.json'), `${JSON.stringify(packageJson, null, 2)}\n`);
  if (form === 'docker') {
    await writeFile(join(out, 'Dockerfile'), dockerfile());
    await writeFile(join(out, '.dockerignore'), 'node_modules\n');
  }
  return manifest;
}

/** Whether a folder may be written to: it is not there, empty, or an earlier export. */
export const isExport = (out: string): boolean => existsSync(join(out, 'manifest.json')) || existsSync(join(out, 'model', 'manifest.json'));
