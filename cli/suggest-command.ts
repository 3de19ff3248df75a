import { writeFile } from 'node:fs/promises';
import { MillraceError } from '../contracts/errors.ts';
import { constantName, expectationsSource } from '../contracts/expectations-source.ts';
import { type Profile, ProfileSchema } from '../contracts/profile.ts';
import { suggestExpectations } from '../contracts/suggest-expectations.ts';
import { refuseReserved } from '../data/reserved.ts';
import type { DatasetRecord } from '../store/datasets.ts';
import { withClients } from './clients.ts';
import { addCommand, invocationOf, print, type Program } from './command.ts';

interface Options {
  readonly json?: boolean;
  readonly out?: string;
  readonly force?: boolean;
}

/** @throws ARTIFACT_MISSING for a dataset whose files were collected. */
function requireThere(dataset: DatasetRecord): void {
  if (dataset.collectedAt !== null)
    throw new MillraceError('ARTIFACT_MISSING', `The files of ${dataset.name} were collected at ${dataset.collectedAt}.`, {
      fix: 'Run its pipeline again: what is gone is made anew.',
    });
}

/** Writes a new file. A file that is there stays unless `force` is given. @throws CONFLICT */
export async function writeSource(path: string, text: string, force: boolean): Promise<void> {
  try {
    await writeFile(path, text, { flag: force ? 'w' : 'wx' });
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'EEXIST') throw new MillraceError('CONFLICT', `${path} is there already.`, { fix: 'Give another name, or --force to write over it.' });
    throw new MillraceError('INVALID_REQUEST', `${path} cannot be written${code === undefined ? '' : ` (${code})`}.`, {
      fix: 'Give a path in a folder that is there.',
    });
  }
}

/** `millrace datasets suggest`: under the commands of datasets, which have to be there. */
export function addSuggestCommand(program: Program): void {
  const datasets = program.root.commands.find((command) => command.name() === 'datasets');
  if (datasets === undefined) throw new MillraceError('INTERNAL', 'The commands of datasets have to be added first.');
  addCommand(program, datasets, 'suggest <dataset>', 'a start of expectations from its profile, as TypeScript')
    .option('--out <file>', 'write it to this file; without it, it is printed')
    .option('--force', 'write over a file that is there')
    .action(async (text: string, options: Options) => {
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const dataset = await (await clients.store()).datasets.find(text);
        requireThere(dataset);
        const { createArtifacts } = await import('../store/artifacts.ts');
        const { datasetFiles, loadManifest } = await import('../data/dataset.ts');
        const { detectPersonalData } = await import('../data/detect-personal-data.ts');
        const artifacts = createArtifacts({ root: clients.config.artifacts.folder });
        const manifest = await loadManifest(artifacts, dataset);
        refuseReserved(manifest, 'Give the training part, or the dataset that was split.');
        let profile: Profile;
        if (manifest.profile === null) {
          const { profileDataset } = await import('../data/profile.ts');
          profile = await profileDataset(await datasetFiles(artifacts, manifest), manifest.columns);
        } else profile = ProfileSchema.parse(await artifacts.getJson(manifest.profile));
        const declared = new Set(Object.keys(manifest.sensitive));
        const undeclared = await detectPersonalData(await datasetFiles(artifacts, manifest), manifest.columns, { declared });
        const expectations = suggestExpectations(profile, { sensitive: new Set([...declared, ...undeclared.map(({ column }) => column)]) });
        const source = expectationsSource(expectations, {
          name: constantName(manifest.name),
          comment: [
            `Suggested by \`millrace datasets suggest\` from ${manifest.name} (${dataset.id.slice(0, 12)}, ${manifest.rows.toLocaleString('en')} rows).`,
            'A start: read it, and sharpen it with what you know.',
          ],
          columns: Object.fromEntries(manifest.columns.map(({ name, type }) => [name, type])),
        });
        if (options.out !== undefined) await writeSource(options.out, source, options.force === true);
        print(invocation, { dataset: dataset.id, expectations, out: options.out ?? null }, () =>
          options.out === undefined ? source : `${options.out} has ${expectations.expectations.length} expectations of ${manifest.name}.\n`,
        );
      });
    });
}
