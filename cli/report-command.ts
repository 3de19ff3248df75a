import { MillraceError } from '../contracts/errors.ts';
import { refuseReserved } from '../data/reserved.ts';
import type { Store } from '../store/store.ts';
import { withClients } from './clients.ts';
import { addCommand, invocationOf, print, type Program } from './command.ts';
import { requireThere } from './datasets-commands.ts';
import { writePage } from './write-page.ts';

/** The validation of the nearest dataset that this one was made from: what looked personal there looks so here. */
async function inheritedReport(records: Store['datasets'], id: string): Promise<string | null> {
  for (const ancestor of (await records.lineage(id)).ancestors) {
    if (ancestor.kind !== 'validate') continue;
    return (await records.get(ancestor.id)).report;
  }
  return null;
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
          import('../reports/report-page.ts'),
        ]);
        const { datasets: records } = await clients.store();
        const dataset = await records.find(text);
        requireThere(dataset);
        const artifacts = createArtifacts({ root: clients.config.artifacts.folder });
        const manifest = DatasetManifestSchema.parse(await artifacts.getJson(dataset.id));
        const fix = 'Give a dataset that `validate` has made.';
        refuseReserved(manifest, fix);
        if (dataset.profile === null) throw new MillraceError('INVALID_REQUEST', `${dataset.name} has no profile.`, { fix });
        const readReport = async (report: string | null) => (report === null ? null : ValidationResultSchema.parse(await artifacts.getJson(report)));
        const validation = await readReport(dataset.report);
        const page = await reportPage({
          name: dataset.name,
          id: dataset.id,
          createdAt: dataset.createdAt,
          profile: ProfileSchema.parse(await artifacts.getJson(dataset.profile)),
          sensitive: manifest.sensitive,
          validation,
          personal: (validation ?? (await readReport(await inheritedReport(records, dataset.id))))?.personal ?? [],
        });
        const path = await writePage(page, options, `${dataset.name}-report.html`);
        print(invocation, { path }, () => `${path}\n`);
      });
    });
}
