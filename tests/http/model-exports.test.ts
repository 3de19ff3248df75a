import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { exportModel } from '../../cli/export-model.ts';
import { packageRoot } from '../../config/package-root.ts';
import { parseReadyLine } from '../../config/ready.ts';
import { predicted } from '../../contracts/decisions.ts';
import type { ServedVersion } from '../../contracts/routes.ts';
import { call, col, hashed, set } from '../../contracts/row-transforms.ts';
import { loadModel } from '../../serving/load-model.ts';
import { writeRouteFile } from '../../serving/route-file.ts';
import { freePort } from '../../stack/ports.ts';
import { readModelFolder } from '../../store/model-folder.ts';
import { expectedProbability, FLIGHT, flightModel, openServingBench, publishVersion, type ServingBench } from '../support/serving-fixture.ts';

const run = promisify(execFile);
const LONE = { ...FLIGHT };
const ROWS = [LONE, { ...FLIGHT, origin: 'ORD', distance: 1.5 }, { ...FLIGHT, origin: null, seats: -2.25 }];

let bench: ServingBench;
let served: Awaited<ReturnType<typeof publishVersion>>;
let predictions: unknown;
let url: string;
beforeAll(async () => {
  bench = await openServingBench();
  served = await publishVersion(bench.artifacts, 3);
  bench.store.routes = [bench.route('flight-delay', 1, served)];
  ({ url } = await bench.serve());
  ({ predictions } = await ask(`${url}/predict/flight-delay`, { rows: ROWS }));
});
afterAll(() => bench.close());

const children: ChildProcess[] = [];
afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null) continue;
    const gone = once(child, 'exit');
    child.kill('SIGTERM');
    await gone;
  }
});

async function ask(address: string, body: unknown): Promise<Record<string, unknown>> {
  const response = await fetch(address, { method: 'POST', body: JSON.stringify(body), headers: { 'content-type': 'application/json' } });
  return (await response.json()) as Record<string, unknown>;
}

/** An export outside of the project, with onnxruntime installed as its package.json says. */
async function exported(form: 'folder' | 'docker' | 'function', name: string, version: ServedVersion = served): Promise<string> {
  const out = join(bench.home, 'exports', name);
  await exportModel(bench.artifacts, version, out, form);
  if (form !== 'folder') {
    await mkdir(join(out, 'node_modules'));
    for (const needed of ['onnxruntime-node', 'onnxruntime-common'])
      await symlink(join(packageRoot, 'node_modules', needed), join(out, 'node_modules', needed));
  }
  return out;
}

describe('loadModel', () => {
  it('answers as the prediction server does, from an exported folder or from what a project has served', async () => {
    const folder = await exported('folder', 'library');
    const model = await loadModel(folder);
    expect([model.model, model.version]).toEqual(['flight-delay', 3]);
    expect(await model.predict(ROWS)).toEqual(predictions);
    const many = await model.predict(Array.from({ length: 2_500 }, (_, i) => ({ ...FLIGHT, distance: i / 1_000 })));
    expect(many.map((one) => ('probabilities' in one ? one.probabilities['late'] : undefined))[2_400]).toBeCloseTo(
      expectedProbability({ ...FLIGHT, distance: 2.4 }, 3),
      6,
    );
    await expect(model.predict([LONE, { distance: 'far' }])).rejects.toMatchObject({
      code: 'INVALID_REQUEST',
      problems: expect.arrayContaining([expect.objectContaining({ row: 1, column: 'distance' })]) as unknown,
    });
    expect(await model.predict([])).toEqual([]);
    await model.close();

    const project = join(bench.home, 'project');
    await mkdir(project);
    await cp(bench.artifacts.root, join(project, '.millrace', 'artifacts'), { recursive: true });
    await writeRouteFile(join(project, '.millrace', 'serving', 'routes.json'), [{ route: bench.route('delays', 1, served) }]);
    const fromProject = await loadModel({ project, endpoint: 'delays' });
    expect(await fromProject.predict(ROWS)).toEqual(predictions);
    await fromProject.close();
    await expect(loadModel({ project, endpoint: 'nothing' })).rejects.toMatchObject({
      code: 'ENDPOINT_NOT_FOUND',
      fix: expect.stringContaining('delays') as string,
    });
  });

  it('refuses a folder that is none, or was changed', async () => {
    await expect(loadModel(join(bench.home, 'nowhere'))).rejects.toMatchObject({ code: 'SOURCE_NOT_FOUND' });
    const folder = await exported('folder', 'changed');
    await writeFile(join(folder, 'model.onnx'), flightModel(4));
    await expect(loadModel(folder)).rejects.toMatchObject({ code: 'ARTIFACT_CORRUPT' });
    await rm(join(folder, 'model.onnx'));
    await expect(loadModel(folder)).rejects.toMatchObject({ code: 'ARTIFACT_MISSING' });
    await writeFile(join(folder, 'manifest.json'), '{}');
    await expect(loadModel(folder)).rejects.toMatchObject({ code: 'MODEL_INVALID' });
  });

  it('hashes columns by the project’s key, which the folder does not hold', async () => {
    const hashing = await publishVersion(bench.artifacts, 5, {
      model: 'hashing',
      transforms: [set('origin', hashed('origin'))],
      sampleRows: [],
      sampleOutput: [],
    });
    const out = join(bench.home, 'exports', 'hashing');
    expect(await exportModel(bench.artifacts, hashing, out, 'folder')).toMatchObject({ needsHashKey: true });
    await expect(loadModel(out)).rejects.toMatchObject({ code: 'INVALID_CONFIG' });
    const model = await loadModel(out, { hashKey: 'a key of the project' });
    const [first] = await model.predict([LONE]);
    expect(first).toMatchObject({ probabilities: { late: expect.closeTo(expectedProbability({ ...FLIGHT, origin: 'hidden' }, 5), 6) as number } });
    await model.close();
  });

  it('reaches neither Postgres nor Temporal, and runs in a plain Node program', async () => {
    const source = join(packageRoot, 'serving', 'load-model.ts');
    const bundled = await build({
      entryPoints: [source],
      bundle: true,
      write: false,
      format: 'esm',
      platform: 'node',
      packages: 'external',
      metafile: true,
      logLevel: 'silent',
    });
    // what is imported while it runs is a store of artifacts on S3, which a folder is not
    const atOnce = Object.values(bundled.metafile.outputs).flatMap((output) => output.imports.filter(({ kind }) => kind === 'import-statement'));
    const packages = new Set(atOnce.map(({ path }) => path));
    expect([...packages].filter((name) => !name.startsWith('node:')).sort()).toEqual(['onnxruntime-node', 'zod']);
    const folder = await exported('folder', 'plain');
    const program = `const { loadModel } = await import(${JSON.stringify(pathToFileURL(source).href)});
      const model = await loadModel(${JSON.stringify(folder)});
      console.log(JSON.stringify(await model.predict(${JSON.stringify(ROWS)})));
      await model.close();`;
    const { stdout } = await run(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], { cwd: packageRoot });
    expect(JSON.parse(stdout)).toEqual(predictions);
  });
});

describe('models export', () => {
  it('writes the file, its signature, and a manifest with hashes; the same again', async () => {
    const folder = await exported('folder', 'whole');
    expect((await readdir(folder)).sort()).toEqual(['manifest.json', 'model.onnx', 'predictor.json', 'signature.json']);
    const manifest = await readModelFolder(folder);
    expect(manifest).toMatchObject({ format: 'millrace-model/1', model: 'flight-delay', version: 3, predictor: served.predictor, needsHashKey: false });
    for (const file of manifest.files) expect((await stat(join(folder, file.path))).size).toBe(file.sizeBytes);
    expect(JSON.parse(await readFile(join(folder, 'signature.json'), 'utf8'))).toMatchObject({ graph: { strings: ['origin'] }, threshold: 0.5 });
    const before = await readFile(join(folder, 'manifest.json'), 'utf8');
    await exportModel(bench.artifacts, served, folder, 'folder');
    expect(await readFile(join(folder, 'manifest.json'), 'utf8')).toBe(before);
  });

  it('--docker writes a server that answers as the prediction server does, without Docker too', async () => {
    const out = await exported('docker', 'image');
    expect((await readdir(out)).sort()).toEqual(['.dockerignore', 'Dockerfile', 'model', 'node_modules', 'package.json', 'server.mjs']);
    expect(JSON.parse(await readFile(join(out, 'package.json'), 'utf8'))).toMatchObject({
      dependencies: { 'onnxruntime-node': expect.stringMatching(/^\d/) as string },
    });
    const child = spawn(process.execPath, ['server.mjs'], { cwd: out, env: { PATH: process.env['PATH'], PORT: '0' }, stdio: ['ignore', 'pipe', 'inherit'] });
    children.push(child);
    const lines = createInterface({ input: child.stdout });
    const [line] = (await once(lines, 'line')) as [string];
    const base = String(parseReadyLine(line)?.['url']);
    expect((await fetch(`${base}/v2/health/ready`)).status).toBe(200);
    expect(await ask(`${base}/predict/flight-delay`, { rows: ROWS })).toMatchObject({ model: 'flight-delay', version: 3, predictions });
    const infer = {
      inputs: Object.keys(FLIGHT).map((name) => ({
        name,
        shape: [ROWS.length],
        datatype: name === 'origin' || name === 'departed' ? 'BYTES' : 'FP32',
        data: ROWS.map((row) => row[name as keyof typeof FLIGHT]),
      })),
    };
    const path = '/v2/models/flight-delay/infer';
    const [there, here] = [await ask(`${url}${path}`, infer), await ask(`${base}${path}`, infer)];
    expect(here['outputs']).toEqual(there['outputs']);
    expect(here['outputs']).toHaveLength(2);
    expect((await fetch(`${base}/predict/flight-delay`, { method: 'POST', body: '{"rows": [{}]}' })).status).toBe(400);
    const open = spawn(process.execPath, ['server.mjs'], {
      cwd: out,
      env: { PATH: process.env['PATH'], PORT: '0', HOST: '0.0.0.0' },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let said = '';
    open.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
    const [code] = (await once(open, 'close')) as [number];
    expect(code).toBe(1);
    expect(said).toContain('SERVER_TOKEN');
  });

  it('--docker writes a Dockerfile whose files are there and whose commands run, as far as that shows without Docker', async () => {
    const out = await exported('docker', 'checked');
    const lines = (await readFile(join(out, 'Dockerfile'), 'utf8')).trimEnd().split('\n');
    const instructions = lines.map((line) => {
      const [, name = line, text = ''] = /^([A-Z]+) (.+)$/.exec(line) ?? [];
      return [name, text] as const;
    });
    const of = (name: string): readonly string[] => instructions.filter(([known]) => known === name).map(([, text]) => text);
    expect(instructions.map(([name]) => name)).toEqual(['FROM', 'WORKDIR', 'COPY', 'RUN', 'COPY', 'COPY', 'USER', 'ENV', 'EXPOSE', 'HEALTHCHECK', 'CMD']);
    const ignored = (await readFile(join(out, '.dockerignore'), 'utf8')).trim().split('\n');
    const copied = of('COPY').map((text) => text.split(' ')[0] ?? '');
    for (const path of copied) {
      expect((await stat(join(out, path))).size).toBeGreaterThan(0);
      expect(ignored).not.toContain(path);
    }
    // nothing of the export is left out of the image
    expect((await readdir(out)).filter((name) => !copied.includes(name) && !name.startsWith('.') && !ignored.includes(name))).toEqual(['Dockerfile']);
    const { engines, dependencies } = JSON.parse(await readFile(join(out, 'package.json'), 'utf8')) as {
      engines: { node: string };
      dependencies: Record<string, string>;
    };
    expect(Number(/^node:(\d+)-slim$/.exec(of('FROM')[0] ?? '')?.[1])).toBeGreaterThanOrEqual(Number(/\d+/.exec(engines.node)?.[0]));
    expect(of('RUN')[0]).toMatch(/^npm install --omit=dev --ignore-scripts /);
    expect(Object.keys(dependencies)).toEqual(['onnxruntime-node']);

    // an image as it would be: the copied files, the environment, and the commands as they stand there
    const image = join(bench.home, 'image');
    for (const path of [...copied, 'node_modules']) await cp(join(out, path), join(image, path), { recursive: true, verbatimSymlinks: true });
    const port = await freePort();
    const env = {
      ...Object.fromEntries((of('ENV')[0] ?? '').split(' ').map((pair) => pair.split('=') as [string, string])),
      PATH: process.env['PATH'],
      PORT: String(port),
    };
    expect(env).toMatchObject({ HOST: '0.0.0.0', NODE_ENV: 'production' });
    const [program = '', ...args] = JSON.parse(of('CMD')[0] ?? '[]') as string[];
    const child = spawn(program, args, { cwd: image, env: { ...env, SERVER_TOKEN: 'secret' }, stdio: ['ignore', 'pipe', 'inherit'] });
    children.push(child);
    await once(createInterface({ input: child.stdout }), 'line');
    const health = JSON.parse(
      / CMD (\[.*\])$/.exec(of('HEALTHCHECK')[0] ?? '')?.[1]?.replace(`:${of('EXPOSE')[0] ?? ''}/`, `:${String(port)}/`) ?? '[]',
    ) as string[];
    const healthy = (): Promise<unknown> => run(health[0] ?? '', health.slice(1));
    await healthy();
    const asked = (token: string): Promise<Response> =>
      fetch(`http://127.0.0.1:${String(port)}/predict/flight-delay`, {
        method: 'POST',
        body: JSON.stringify({ rows: ROWS }),
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      });
    expect((await asked('wrong')).status).toBe(401);
    expect(await (await asked('secret')).json()).toMatchObject({ predictions });
    child.kill('SIGTERM');
    const [code] = (await once(child, 'exit')) as [number];
    expect(code).toBe(0);
    await expect(healthy()).rejects.toMatchObject({ code: 1 });
  });

  it('with the rules that an endpoint decides by, every form answers their action; nothing is drawn at random', async () => {
    const { sha256 } = await bench.artifacts.putJson({
      rules: [
        {
          when: call('and', call('greater', predicted.probabilityOf('late'), 0.5), call('equal', col('origin'), 'ATL')),
          action: 'warn',
          review: 'late-flights',
        },
      ],
      otherwise: 'nothing',
      explore: { share: 1, actions: ['random', 'nothing'], seed: 1 },
    });
    const deciding = { ...(await publishVersion(bench.artifacts, 4, { bias: 0, model: 'deciding' })), decisions: sha256 };
    const rows = [
      { ...FLIGHT, distance: 3 },
      { ...FLIGHT, distance: 3, origin: 'ORD' },
      { ...FLIGHT, distance: -3 },
    ];
    const expected = [{ action: 'warn' }, { action: 'nothing' }, { action: 'nothing' }];
    const out = await exported('docker', 'deciding', deciding);
    expect(JSON.parse(await readFile(join(out, 'model', 'decisions.json'), 'utf8'))).toEqual({
      rules: [expect.objectContaining({ action: 'warn' })],
      otherwise: 'nothing',
    });
    const model = await loadModel(join(out, 'model'));
    expect(await model.predict(rows)).toMatchObject(expected);
    await model.close();

    const project = join(bench.home, 'deciding-project');
    await cp(bench.artifacts.root, join(project, '.millrace', 'artifacts'), { recursive: true });
    await writeRouteFile(join(project, '.millrace', 'serving', 'routes.json'), [{ route: bench.route('deciding', 1, deciding) }]);
    const fromProject = await loadModel({ project, endpoint: 'deciding' });
    expect(await fromProject.predict(rows)).toMatchObject(expected);
    await fromProject.close();

    const child = spawn(process.execPath, ['server.mjs'], { cwd: out, env: { PATH: process.env['PATH'], PORT: '0' }, stdio: ['ignore', 'pipe', 'inherit'] });
    children.push(child);
    const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
    expect(await ask(`${String(parseReadyLine(line)?.['url'])}/predict/deciding`, { rows })).toMatchObject({ predictions: expected });

    // an export without them takes those of an earlier one away
    await exportModel(bench.artifacts, { ...deciding, decisions: undefined }, join(out, 'model'), 'folder');
    const without = await loadModel(join(out, 'model'));
    expect((await without.predict(rows)).map((one) => one.action)).toEqual([undefined, undefined, undefined]);
    await without.close();
  });

  it('--function writes a handler for fetch and for Lambda', async () => {
    const out = await exported('function', 'function');
    const program = `const { default: worker, handler } = await import(${JSON.stringify(pathToFileURL(join(out, 'index.mjs')).href)});
      const body = ${JSON.stringify(JSON.stringify({ rows: ROWS }))};
      const fetched = await worker.fetch(new Request('https://model.example/predict', { method: 'POST', body }));
      const lost = await worker.fetch(new Request('https://model.example/elsewhere', { method: 'POST', body }));
      const ready = await worker.fetch(new Request('https://model.example/'));
      const byUrl = await handler({ rawPath: '/predict/flight-delay', requestContext: { http: { method: 'POST' } }, body: Buffer.from(body).toString('base64'), isBase64Encoded: true });
      const byRest = await handler({ path: '/predict', httpMethod: 'POST', body: '{"rows": [{"distance": "far"}]}' });
      console.log(JSON.stringify({ fetched: await fetched.json(), lost: lost.status, ready: await ready.json(), byUrl, byRest }));`;
    const { stdout } = await run(process.execPath, ['--input-type=module', '-e', program], { cwd: out });
    const said = JSON.parse(stdout) as Record<string, unknown> & { readonly byUrl: { readonly body: string }; readonly byRest: { readonly body: string } };
    expect(said['fetched']).toMatchObject({ model: 'flight-delay', version: 3, predictions });
    expect(said['lost']).toBe(404);
    expect(said['ready']).toEqual({ ready: true, model: 'flight-delay', version: 3 });
    expect(said.byUrl).toMatchObject({ statusCode: 200 });
    expect(JSON.parse(said.byUrl.body)).toMatchObject({ predictions });
    expect(said.byRest).toMatchObject({ statusCode: 400 });
    expect(JSON.parse(said.byRest.body)).toMatchObject({
      code: 'INVALID_REQUEST',
      problems: expect.arrayContaining([expect.objectContaining({ column: 'distance' })]) as unknown,
    });
  });
});
