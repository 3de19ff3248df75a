import type { ComparedVersion, Figure, ModelComparison, Verdict } from '../contracts/model-comparison.ts';
import { MillraceError } from '../contracts/errors.ts';
import { withClients } from './clients.ts';
import { addCommand, invocationOf, print, type Program } from './command.ts';
import { renderTable, showBytes, showFigure } from './table.ts';
import { writePage } from './write-page.ts';

/** Slices that are shown; `--json` and the page have them all. */
const SHOWN_SLICES = 15;

/** MODEL (the champion, or the newest), MODEL@3, MODEL/3 or MODEL@ALIAS. A bare number or alias is of the other one's model. */
export function parseVersion(text: string, model?: string): { readonly model: string; readonly name: string | undefined } {
  const [, named, name] = /^([^@/]+)[@/]([^@/]+)$/.exec(text) ?? [];
  if (named !== undefined && name !== undefined) return { model: named, name };
  if (model !== undefined && /^\d+$/.test(text)) return { model, name: text };
  if (text === '' || /[@/]/.test(text)) throw new MillraceError('USAGE', `${text} names no version.`, { fix: 'Write MODEL, MODEL@3 or MODEL@ALIAS.' });
  return { model: text, name: undefined };
}

const label = ({ model, version }: ComparedVersion): string => `${model} ${String(version)}`;
const figureText = (figure: Figure | null): string =>
  figure === null
    ? ''
    : figure.low === null || figure.high === null
      ? showFigure(figure.value)
      : `${showFigure(figure.value)} (${showFigure(figure.low)} to ${showFigure(figure.high)})`;
const differenceText = (value: number | null): string => (value === null ? '' : `${value > 0 ? '+' : ''}${showFigure(value)}`);
const WORDS: Readonly<Record<Verdict, string>> = { better: 'better', worse: 'worse', same: 'not told apart' };
const verdictText = (verdict: Verdict | null): string => (verdict === null ? '' : WORDS[verdict]);
const valueText = (value: unknown): string => (value === null ? '–' : typeof value === 'string' ? value : JSON.stringify(value));

/** The two beside each other, as text. */
export function describeComparison({ a, b, parameters, data, sameRows, metrics, paired, slices }: ModelComparison): string {
  const columns = [label(a), label(b)];
  const fact = (name: string, of: (version: ComparedVersion) => string | null): string[][] => {
    const [left, right] = [of(a), of(b)];
    return left === null && right === null ? [] : [[name, left ?? '–', right ?? '–']];
  };
  const ms = (value: number | null): string => (value === null ? '–' : `${value.toPrecision(3)} ms`);
  const out = [
    renderTable(
      ['', ...columns],
      [
        ...fact('status', ({ status, aliases }) => [status, ...aliases].join(', ')),
        ...fact('made', ({ createdAt }) => createdAt),
        ...fact('run', ({ run }) => run?.id ?? null),
        ...fact('commit', ({ run }) => (run?.commit == null ? null : `${run.commit.slice(0, 12)}${run.clean === false ? ' (with changes)' : ''}`)),
        ...fact('trainer', ({ card }) => card?.trainer.name ?? null),
        ...fact('training rows', ({ card }) => card?.training?.rows.toLocaleString('en') ?? null),
        ...fact('training time', ({ card }) => (card?.training?.cpuSeconds == null ? null : `${card.training.cpuSeconds.toFixed(1)} s CPU`)),
        ...fact('size', ({ card }) => (card === null ? null : showBytes(card.onnxSizeBytes))),
        ...fact('requests', ({ serving }) =>
          serving === null ? null : `${serving.requests.toLocaleString('en')}, ${serving.errors.toLocaleString('en')} failed`,
        ),
        ...fact('latency', ({ serving }) => (serving === null ? null : `p50 ${ms(serving.p50Ms)}, p99 ${ms(serving.p99Ms)}`)),
      ],
    ),
  ];
  if (sameRows === false) out.push('\nThey were judged on different rows: a difference may come of the rows.\n');
  if (paired !== null)
    out.push(
      `\nOn the same rows: ${label(b)} is ${paired.improvement < 0 ? 'worse' : 'better'} in ${paired.metric} by ${showFigure(Math.abs(paired.improvement))} (${differenceText(paired.low)} to ${differenceText(paired.high)}, p ${paired.pValue.toPrecision(2)}, ${paired.method}).\n`,
    );
  if (metrics.length > 0)
    out.push(
      '\n',
      renderTable(
        ['metric', ...columns, 'difference', `${label(b)} is`],
        metrics.map(({ metric, a: left, b: right, difference, verdict }) => [
          metric,
          figureText(left),
          figureText(right),
          differenceText(difference),
          verdictText(verdict),
        ]),
      ),
    );
  if (slices.length > 0)
    out.push(
      '\n',
      renderTable(
        ['slice', 'metric', ...columns, 'difference', `${label(b)} is`],
        slices
          .slice(0, SHOWN_SLICES)
          .map(({ column, value, metric, a: left, b: right, difference, verdict }) => [
            `${column} ${value}`,
            metric,
            figureText(left),
            figureText(right),
            differenceText(difference),
            verdictText(verdict),
          ]),
      ),
      slices.length > SHOWN_SLICES ? `${String(slices.length - SHOWN_SLICES)} more slices differ less.\n` : '',
    );
  out.push(
    parameters.length === 0
      ? '\nAll recorded parameters are the same.\n'
      : `\n${renderTable(
          ['parameter', ...columns],
          parameters.map(({ name, a: left, b: right }) => [name, valueText(left), valueText(right)]),
        )}`,
  );
  if (data.length > 0)
    out.push(
      '\n',
      renderTable(
        ['data', ...columns, ''],
        data.map(({ role, a: left, b: right, same }) => [
          role,
          ...[left, right].map((part) => (part === null ? '–' : `${part.name} ${part.id.slice(0, 12)}, ${part.rows.toLocaleString('en')} rows`)),
          same ? 'the same' : 'differs',
        ]),
      ),
    );
  return out.join('');
}

/** `millrace models compare`: two versions beside each other. */
export function addCompareCommand(program: Program): void {
  const models = program.root.commands.find((command) => command.name() === 'models') ?? program.root;
  addCommand(
    program,
    models,
    'compare <a> <b>',
    'two versions beside each other: MODEL (the champion, or the newest), MODEL@3 or MODEL@ALIAS; B may be a bare number',
  )
    .option('--html <file>', 'draw it into a page, with plots')
    .option('--open', 'open the page')
    .action(async (first: string, second: string, options: { json?: boolean; html?: string; open?: boolean }) => {
      const invocation = invocationOf(program, options);
      const a = parseVersion(first);
      const b = parseVersion(second, a.model);
      await withClients(async (clients) => {
        const [{ createArtifacts }, { versionFacts }, { compareVersions }] = await Promise.all([
          import('../store/artifacts.ts'),
          import('../store/version-facts.ts'),
          import('../contracts/model-comparison.ts'),
        ]);
        const store = await clients.store();
        const artifacts = createArtifacts({ root: clients.config.artifacts.folder });
        const comparison = compareVersions(await versionFacts(store, artifacts, a.model, a.name), await versionFacts(store, artifacts, b.model, b.name));
        const path = options.html === undefined && options.open !== true ? null : await draw(comparison, options);
        print(invocation, { ...comparison, path }, () => `${describeComparison(comparison)}${path === null ? '' : `\n${path}\n`}`);
      });
    });
}

async function draw(comparison: ModelComparison, { html, open }: { readonly html?: string; readonly open?: boolean }): Promise<string> {
  const { comparisonPage } = await import('../reports/comparison-page.ts');
  const { a, b } = comparison;
  return writePage(
    await comparisonPage(comparison),
    { ...(html === undefined ? {} : { out: html }), ...(open === undefined ? {} : { open }) },
    `${label(a)}-${label(b)}.html`,
  );
}
