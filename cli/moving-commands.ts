import { resolve } from 'node:path';
import type { ImportOptions, ImportProgress, ImportReport } from '../store/import-mlflow.ts';
import type { ImportCounts } from '../store/imports.ts';
import type { MlflowSource } from '../store/mlflow-source.ts';
import { type Clients, withClients } from './clients.ts';
import { addCommand, addGroup, type Invocation, invocationOf, print, type Program } from './command.ts';
import { progressBar } from './live-view.ts';
import { renderFields, renderTable, showBytes } from './table.ts';

interface Options {
  readonly json?: boolean;
  readonly experiments?: string;
  readonly models?: string;
}

/** How often a line is drawn anew. */
const DRAW_EVERY_MS = 100;

const NAMES: Readonly<Record<keyof ImportCounts, string>> = {
  experiments: 'experiments',
  runs: 'runs',
  params: 'parameters',
  metrics: 'metric points',
  tags: 'tags of runs',
  datasets: 'datasets of runs',
  loggedModels: 'logged models',
  modelMetrics: 'their metrics',
  models: 'registered models',
  versions: 'versions',
  aliases: 'aliases',
  files: 'artifacts',
  bytes: 'bytes',
};

const names = (text: string | undefined): readonly string[] | undefined =>
  text
    ?.split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');

function selection({ experiments, models }: Options): { readonly experiments?: readonly string[]; readonly models?: readonly string[] } {
  const [some, others] = [names(experiments), names(models)];
  return { ...(some === undefined ? {} : { experiments: some }), ...(others === undefined ? {} : { models: others }) };
}

/** A token of some projects moves what is of them: an experiment goes by its pipeline's name, where it is one's. */
function mayMove(clients: Clients): (kind: 'experiment' | 'model', name: string) => Promise<void> {
  return async (kind, name) => {
    const pipeline = kind === 'model' ? null : ((await (await clients.store()).experiments.findByName(name))?.pipeline ?? null);
    await clients.actor(pipeline ?? name);
  };
}

/** A line that is written over; nothing where no person looks on. */
function line({ terminal, json }: Invocation): { readonly show: (text: string) => void; readonly end: () => void } {
  if (json || !terminal.isInteractive) return { show: () => undefined, end: () => undefined };
  let drawnMs = 0;
  return {
    show(text) {
      if (Date.now() - drawnMs < DRAW_EVERY_MS) return;
      drawnMs = Date.now();
      terminal.writeError(`\r\u001b[K${text.slice(0, terminal.columns - 1)}`);
    },
    end() {
      terminal.writeError('\r\u001b[K');
    },
  };
}

function describeProgress({ phase, done, total, points, files, bytes }: ImportProgress): string {
  if (phase === 'looking') return `looking: ${total.toLocaleString('en')} runs and models`;
  if (phase === 'comparing') return 'comparing the counts';
  const bar = progressBar(total === 0 ? 0 : done / total);
  return `${bar}  ${done.toLocaleString('en')} of ${total.toLocaleString('en')}  ${points.toLocaleString('en')} points  ${files.toLocaleString('en')} files, ${showBytes(bytes)}`;
}

function describeReport({ from, source, target, matches, imported, alreadyThere, checkedFiles, leftOut }: ImportReport): string {
  const rows = (Object.keys(NAMES) as (keyof ImportCounts)[]).map((name) => [
    NAMES[name],
    source[name].toLocaleString('en'),
    target[name].toLocaleString('en'),
    source[name] === target[name] ? '' : 'DIFFERS',
  ]);
  return [
    renderTable(['what', 'there', 'here', ''], rows),
    '\n',
    renderFields([
      ['from', from],
      ['imported', `${imported.toLocaleString('en')} runs, models and versions`],
      ['there already', alreadyThere === 0 ? null : alreadyThere.toLocaleString('en')],
      ['hashes checked', `${checkedFiles.toLocaleString('en')} files`],
      ['counts', matches ? 'the same' : 'DIFFER: what is marked is not as it is there'],
    ]),
    ...leftOut.map((what) => `left out: ${what}\n`),
  ].join('');
}

async function runImport(program: Program, options: Options, open: (clients: Clients, invocation: Invocation) => Promise<MlflowSource>): Promise<void> {
  const invocation = invocationOf(program, options);
  await withClients(async (clients) => {
    const [{ importMlflow }, { openArtifacts }] = await Promise.all([import('../store/import-mlflow.ts'), import('../store/artifacts.ts')]);
    const store = await clients.store();
    const source = await open(clients, invocation);
    const drawn = line(invocation);
    const wanted: ImportOptions = {
      store,
      artifacts: await openArtifacts(clients.config.artifacts.folder),
      source,
      ...selection(options),
      requireMay: mayMove(clients),
      onProgress: (progress) => {
        drawn.show(describeProgress(progress));
      },
    };
    const report = await importMlflow(wanted).finally(() => {
      drawn.end();
    });
    if (!report.matches) invocation.exit(1);
    print(invocation, report, () => describeReport(report));
  });
}

/** `millrace import mlflow`, `millrace import folder` and `millrace export`. */
export function addMovingCommands(program: Program): void {
  const group = addGroup(program, 'import', 'take in experiments, runs, models and files from elsewhere');
  const chosen = (command: ReturnType<typeof addCommand>) =>
    command
      .option('--experiments <names>', 'only these, separated by commas')
      .option('--models <names>', 'only these registered models, with the runs that their versions were made by');

  chosen(
    addCommand(program, group, 'mlflow', 'from an MLflow server; what is there already is left alone, so that it can be gone on with').requiredOption(
      '--from <uri>',
      'its address; credentials come from MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and _PASSWORD',
    ),
  ).action(async (options: Options & { readonly from: string }) => {
    const [{ createMlflowClient }, { createServerSource }] = await Promise.all([
      import('../store/mlflow-client.ts'),
      import('../store/mlflow-server-source.ts'),
    ]);
    const source = createServerSource(createMlflowClient({ address: options.from, env: process.env, tries: 5 }));
    await runImport(program, options, () => Promise.resolve(source));
  });

  chosen(addCommand(program, group, 'folder <folder>', 'from what `millrace export` wrote; all hashes are looked at before anything is taken')).action(
    async (folder: string, options: Options) => {
      await runImport(program, options, async (_clients, invocation) => {
        const { openExportFolder } = await import('../store/export-folder.ts');
        const drawn = line(invocation);
        return openExportFolder(resolve(folder), (checked) => {
          drawn.show(`checking: ${checked.toLocaleString('en')} artifacts`);
        }).finally(() => {
          drawn.end();
        });
      });
    },
  );

  chosen(
    addCommand(
      program,
      program.root,
      'export <folder>',
      'write experiments, runs, models and files into a folder for `millrace import folder`; broken off, it goes on',
    ),
  ).action(async (folder: string, options: Options) => {
    const invocation = invocationOf(program, options);
    await withClients(async (clients) => {
      const [{ exportToFolder }, { createStoreSource }, { createArtifacts }, { packageVersion }] = await Promise.all([
        import('../store/export-folder.ts'),
        import('../store/store-source.ts'),
        import('../store/artifacts.ts'),
        import('../config/package-root.ts'),
      ]);
      const store = await clients.store();
      const { who } = await clients.actor(undefined);
      const drawn = line(invocation);
      const made = await exportToFolder({
        source: createStoreSource({ store, artifacts: createArtifacts({ root: clients.config.artifacts.folder }) }),
        folder: resolve(folder),
        version: packageVersion,
        ...selection(options),
        requireMay: mayMove(clients),
        onProgress: ({ runs, metrics, files, bytes }) => {
          drawn.show(`${runs.toLocaleString('en')} runs  ${metrics.toLocaleString('en')} points  ${files.toLocaleString('en')} files, ${showBytes(bytes)}`);
        },
      }).finally(() => {
        drawn.end();
      });
      await store.audit.write({ action: 'store.export', subject: 'store', who, details: { runs: made.counts.runs, models: made.counts.models } });
      const { counts } = made;
      print(invocation, { folder: resolve(folder), ...made }, () =>
        renderFields([
          ['export', resolve(folder)],
          ['experiments', counts.experiments.toLocaleString('en')],
          ['runs', `${counts.runs.toLocaleString('en')}, ${counts.metrics.toLocaleString('en')} metric points`],
          [
            'models',
            `${counts.models.toLocaleString('en')}, ${counts.versions.toLocaleString('en')} versions; ${counts.loggedModels.toLocaleString('en')} logged models`,
          ],
          ['files', `${counts.files.toLocaleString('en')}, ${showBytes(counts.bytes)}`],
          ['there already', made.kept === 0 ? null : `${made.kept.toLocaleString('en')} files`],
        ]),
      );
    });
  });
}
