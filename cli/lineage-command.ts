import { MillraceError } from '../contracts/errors.ts';
import type { LineageDirection, LineageGraph, LineageNode, LineageSubject } from '../contracts/lineage.ts';
import { withClients } from './clients.ts';
import { addCommand, invocationOf, print, type Program } from './command.ts';
import { oneLine, renderFields, renderTable } from './table.ts';
import { writePage } from './write-page.ts';

const SHORT = 12;

/** What was asked for, in words: `prediction 3f2a… of late`. */
export function subjectText(subject: LineageSubject): string {
  switch (subject.kind) {
    case 'version':
      return `${subject.model} ${String(subject.version)}`;
    case 'run':
      return `run ${subject.run.slice(0, SHORT)}`;
    case 'dataset':
      return `dataset ${subject.dataset.slice(0, SHORT)}`;
    case 'endpoint':
      return `endpoint ${subject.endpoint}`;
    case 'source':
      return subject.path;
    case 'prediction':
      return `prediction ${subject.prediction.requestId} of ${subject.prediction.endpoint}`;
  }
}

const text = (value: unknown): string => (typeof value === 'string' ? value : typeof value === 'number' ? value.toLocaleString('en') : '');

/** What matters of a node, on one line. */
function told({ kind, facts, at, run }: LineageNode): string {
  const parts: string[] = [];
  switch (kind) {
    case 'source':
      parts.push(text(facts['format']));
      break;
    case 'dataset':
      parts.push(text(facts['dataset']).slice(0, SHORT), `${text(facts['rows'])} rows`, ...(facts['collectedAt'] === undefined ? [] : ['files collected']));
      break;
    case 'stage':
      parts.push(
        `run ${run?.slice(0, SHORT) ?? ''}`,
        ...(facts['code'] === undefined ? [] : [`code ${text(facts['code']).slice(0, SHORT)}`]),
        ...(facts['content'] === undefined ? [] : [`content ${text(facts['content']).slice(0, SHORT)}`]),
        ...(facts['takenFrom'] === undefined ? [] : [`from cache of ${(facts['takenFrom'] as { runId: string }).runId.slice(0, SHORT)}`]),
        text(facts['summary']),
      );
      break;
    case 'version':
      parts.push(text(facts['status']), ...(facts['aliases'] as readonly string[]), `predictor ${text(facts['predictor']).slice(0, SHORT)}`);
      break;
    case 'table':
      parts.push(`${text(facts['rows'])} rows`, at ?? '');
      break;
    case 'endpoint':
      parts.push(...(facts['epoch'] === undefined ? [] : [`epoch ${text(facts['epoch'])}`]), ...(at === null ? [] : [`since ${at}`]), text(facts['reason']));
      break;
    case 'prediction':
      parts.push(at ?? '', `${text(facts['rows'])} ${facts['rows'] === 1 ? 'row' : 'rows'}`);
      break;
    case 'features':
      parts.push(at ?? '');
  }
  return parts.filter((part) => part !== '').join(', ');
}

/** The graph as a table in the order of the data's way, with the runs below. */
export function describeLineage(graph: LineageGraph): string {
  const names = new Map(graph.nodes.map(({ id, name, kind }) => [id, kind === 'stage' || kind === 'dataset' ? name : `${kind} ${name}`]));
  const asked = new Set(graph.subject);
  const before = (id: string): string => [...new Set(graph.edges.flatMap(({ from, to }) => (to === id ? [names.get(from) ?? from] : [])))].join(', ');
  const out = [
    renderTable(
      ['', 'kind', 'name', 'comes from', 'known of it'],
      graph.nodes.map((node) => [asked.has(node.id) ? '›' : '', node.kind, node.name, oneLine(before(node.id), 60), told(node)]),
    ),
  ];
  for (const run of graph.runs)
    out.push(
      '\n',
      renderFields([
        ['run', run.id],
        ['pipeline', `${run.pipeline}, ${run.status}${run.startedAt === null ? '' : `, started ${run.startedAt}`}`],
        ['commit', run.commit === null ? null : `${run.commit}${run.clean === false ? ' (with changes)' : ''}`],
        ['build', run.build],
        ['parameters', JSON.stringify(run.parameters)],
      ]),
    );
  if (graph.truncated) out.push('\nThere is more than was followed; ask from something nearer.\n');
  return out.join('');
}

/** `millrace lineage`: where something comes from, and what came of it. */
export function addLineageCommand(program: Program): void {
  addCommand(
    program,
    program.root,
    'lineage <id>',
    'where something comes from and what came of it: a request id, model/3, model@champion, a run, a dataset, an endpoint, or the path of a source',
  )
    .option('--up', 'only where it comes from')
    .option('--down', 'only what came of it')
    .option('--html <file>', 'draw it into a page')
    .option('--open', 'open the page')
    .action(async (id: string, options: { json?: boolean; up?: boolean; down?: boolean; html?: string; open?: boolean }) => {
      if (options.up === true && options.down === true)
        throw new MillraceError('USAGE', '--up and --down exclude each other.', { fix: 'Give neither for both directions.' });
      const direction: LineageDirection = options.up === true ? 'up' : options.down === true ? 'down' : 'both';
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const store = await clients.store();
        const [{ findSubject }, { findAnsweredRequest }] = await Promise.all([import('../store/lineage-subject.ts'), import('../data/answered-request.ts')]);
        const subject = await findSubject(store, id, (requestId, endpoint) => findAnsweredRequest(clients.config.home, requestId, endpoint));
        const graph = await store.lineage.of(subject, direction);
        const path = options.html === undefined && options.open !== true ? null : await draw(graph, subjectText(subject), options);
        print(invocation, { ...graph, path }, () => `${describeLineage(graph)}${path === null ? '' : `\n${path}\n`}`);
      });
    });
}

async function draw(graph: LineageGraph, title: string, { html, open }: { readonly html?: string; readonly open?: boolean }): Promise<string> {
  const { lineagePage } = await import('../reports/lineage-page.ts');
  return writePage(
    lineagePage(graph, title),
    { ...(html === undefined ? {} : { out: html }), ...(open === undefined ? {} : { open }) },
    `${title}-lineage.html`,
  );
}
