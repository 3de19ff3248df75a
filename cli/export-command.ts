import { readdir } from 'node:fs/promises';
import { resolve } from 'node:path';
import { MillraceError } from '../contracts/errors.ts';
import type { Route } from '../contracts/routes.ts';
import { requirePredictor } from '../contracts/required-predictor.ts';
import { withClients } from './clients.ts';
import { addCommand, invocationOf, print, type Program } from './command.ts';
import type { ExportForm } from './export-model.ts';

interface Options {
  readonly json?: boolean;
  readonly out?: string;
  readonly docker?: string;
  readonly function?: string;
  readonly decide?: string;
}

/** The one form that was asked for, and its folder. */
function wanted({ out, docker, function: code }: Options): readonly [ExportForm, string] {
  const given = (
    [
      ['folder', out],
      ['docker', docker],
      ['function', code],
    ] as const
  ).flatMap(([form, folder]) => (folder === undefined ? [] : [[form, folder] as const]));
  const [first] = given;
  if (first === undefined || given.length > 1)
    throw new MillraceError('USAGE', 'Say what to write, and where.', { fix: 'Give one of --out DIR, --docker DIR and --function DIR.' });
  return first;
}

/** The rules that an endpoint decides by for this version. */
function decisionsAt(routes: readonly Route[], endpoint: string, predictor: string): string {
  const route = routes.find((one) => one.endpoint === endpoint);
  if (route === undefined) throw new MillraceError('ENDPOINT_NOT_FOUND', `There is no endpoint ${endpoint}.`);
  const versions = [route.champion, route.challenger?.version, ...(route.standby ?? [])];
  const decisions = versions.find((served) => served?.predictor === predictor)?.decisions;
  if (decisions === undefined)
    throw new MillraceError('NOT_FOUND', `The endpoint ${endpoint} has no rules of decision for this version.`, {
      fix: 'Export the version that it serves, or leave --decide out.',
    });
  return decisions;
}

/** `millrace models export`: a version as files that need no Millrace. */
export function addExportCommand(program: Program): void {
  const models = program.root.commands.find((command) => command.name() === 'models') ?? program.root;
  addCommand(program, models, 'export <model>', 'a version as files: MODEL (the champion, or the newest), MODEL@3 or MODEL@ALIAS')
    .option('--out <dir>', 'the ONNX file, its signature and a manifest with hashes')
    .option('--docker <dir>', 'these with a prediction server, its package.json and a Dockerfile')
    .option('--function <dir>', 'these with a module that has a fetch and a Lambda handler')
    .option('--decide <endpoint>', 'with the rules that this endpoint decides by: answers have their action')
    .action(async (text: string, options: Options) => {
      const invocation = invocationOf(program, options);
      const [form, folder] = wanted(options);
      const out = resolve(folder);
      const [, model = text, name] = /^(.*)@([^@]*)$/.exec(text) ?? [];
      const { exportModel, isExport } = await import('./export-model.ts');
      const there = await readdir(out).catch(() => []);
      if (there.length > 0 && !isExport(out))
        throw new MillraceError('USAGE', `${folder} is not empty, and is no earlier export.`, { fix: 'Give a new or an empty folder.' });
      await withClients(async (clients) => {
        const { createArtifacts } = await import('../store/artifacts.ts');
        const store = await clients.store();
        const version = await store.models.versionNamed(model, name);
        const predictor = requirePredictor(version);
        const decisions = options.decide === undefined ? undefined : decisionsAt(await store.endpoints.listRoutes(), options.decide, predictor);
        const served = { ...version, predictor, decisions };
        const manifest = await exportModel(createArtifacts({ root: clients.config.artifacts.folder }), served, out, form);
        const next = {
          folder: 'In Node: loadModel of millrace/predict. Elsewhere: any ONNX runtime, with signature.json.',
          docker: `Build it: docker build -t ${model.toLowerCase()} ${folder}`,
          function: `npm install in ${folder}, then deploy index.mjs: export default { fetch }, and handler for Lambda.`,
        };
        const key = manifest.needsHashKey ? `\nIt hashes columns: MILLRACE_HASH_KEY has to be set where it runs (hash.key in the state folder).` : '';
        print(invocation, { folder: out, ...manifest }, () => `${model} version ${version.version}: ${out}\n${next[form]}${key}\n`);
      });
    });
}
