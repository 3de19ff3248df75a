import { MillraceError } from '../contracts/errors.ts';
import type { Artifacts } from '../store/artifacts.ts';
import { withClients } from './clients.ts';
import { addCommand, invocationOf, print, type Program } from './command.ts';
import { writePage } from './write-page.ts';

/** The page that was drawn when the version was registered; drawn now where that had failed. */
async function pageOf(artifacts: Artifacts, card: unknown): Promise<string> {
  const [{ ModelCardSchema }, { modelCardPage }] = await Promise.all([import('../contracts/model-card.ts'), import('../reports/model-card.ts')]);
  const facts = ModelCardSchema.parse(card);
  return facts.page === null ? modelCardPage(facts) : (await artifacts.getBytes(facts.page)).toString('utf8');
}

/** `millrace models card`: what is known of a version, as a page. */
export function addCardCommand(program: Program): void {
  const models = program.root.commands.find((command) => command.name() === 'models') ?? program.root;
  addCommand(program, models, 'card <model>', 'the model card of a version, as a page: MODEL (the champion, or the newest), MODEL@3 or MODEL@ALIAS')
    .option('--out <file>', 'where the page is written (default: MODEL-VERSION-card.html)')
    .option('--open', 'open the page')
    .action(async (text: string, options: { json?: boolean; out?: string; open?: boolean }) => {
      const invocation = invocationOf(program, options);
      const [, model = text, name] = /^(.*)@([^@]*)$/.exec(text) ?? [];
      await withClients(async (clients) => {
        const { createArtifacts } = await import('../store/artifacts.ts');
        const { models: records } = await clients.store();
        const version = await records.versionNamed(model, name);
        if (version.card === null)
          throw new MillraceError('NOT_FOUND', `Version ${version.version} of ${model} has no model card.`, {
            fix: 'Versions have one since they are registered with it; a run that registers the model again makes one.',
          });
        const artifacts = createArtifacts({ root: clients.config.artifacts.folder });
        const card = await artifacts.getJson(version.card);
        // with --json the facts are what is asked for; a page is written only where a file is named
        const isWritten = options.json !== true || options.out !== undefined || options.open === true;
        const path = isWritten ? await writePage(await pageOf(artifacts, card), options, `${model}-${version.version}-card.html`) : null;
        print(invocation, { path, card }, () => `${path ?? ''}\n`);
      });
    });
}
