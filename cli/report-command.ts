import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { MillraceError } from '../contracts/errors.ts';
import { refuseReserved } from '../data/reserved.ts';
import { withClients } from './clients.ts';
import { addCommand, invocationOf, print, type Program } from './command.ts';

/** Opens a file in the person's browser. Resolves once the opener was started; its path is never read by a shell. */
async function openFile(path: string): Promise<void> {
  const { spawn } = await import('node:child_process');
  const [command, args] = process.platform === 'darwin' ? ['open', [path]] : process.platform === 'win32' ? ['explorer.exe', [path]] : ['xdg-open', [path]];
  await new Promise<void>((started, reject) => {
    const child = spawn(command, args, { detached: true, stdio: 'ignore' });
    child.once('error', () => {
      reject(new MillraceError('INVALID_REQUEST', `There is no ${command} to open ${path} with.`, { fix: 'Open the file by hand.' }));
    });
    child.once('spawn', () => {
      child.unref();
      started();
    });
  });
}

/** `millrace datasets report`: a dataset's profile as a page. */
export function addReportCommand(program: Program): void {
  const datasets = program.root.commands.find((command) => command.name() === 'datasets') ?? program.root;
  addCommand(program, datasets, 'report <dataset>', 'a page that shows what the data is like')
    .option('--out <file>', 'where the page is written (default: NAME-report.html)')
    .option('--open', 'open the page')
    .action(async (text: string, options: { json?: boolean; out?: string; open?: boolean }) => {
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const [{ createArtifacts }, { DatasetManifestSchema }, { ProfileSchema }, { ValidationResultSchema }, { reportPage }] = await Promise.all([
          import('../store/artifacts.ts'),
          import('../contracts/references.ts'),
          import('../contracts/profile.ts'),
          import('../contracts/expectations.ts'),
          import('./report-page.ts'),
        ]);
        const dataset = await (await clients.store()).datasets.find(text);
        const artifacts = createArtifacts({ root: clients.config.artifacts.folder });
        const manifest = DatasetManifestSchema.parse(await artifacts.getJson(dataset.id));
        const fix = 'Give a dataset that `validate` has made.';
        refuseReserved(manifest, fix);
        if (dataset.profile === null) throw new MillraceError('INVALID_REQUEST', `${dataset.name} has no profile.`, { fix });
        const page = await reportPage({
          name: dataset.name,
          id: dataset.id,
          profile: ProfileSchema.parse(await artifacts.getJson(dataset.profile)),
          sensitive: manifest.sensitive,
          validation: dataset.report === null ? null : ValidationResultSchema.parse(await artifacts.getJson(dataset.report)),
        });
        const path = resolve(options.out ?? `${dataset.name}-report.html`);
        await writeFile(path, page);
        if (options.open === true) await openFile(path);
        print(invocation, { path }, () => `${path}\n`);
      });
    });
}
