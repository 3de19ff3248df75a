import type { LineageGraph, LineageKind, LineageNode, LineageRun } from '../contracts/lineage.ts';
import { type LayoutSizes, layered, type Placed } from './lineage-layout.ts';
import { pageFrame } from './report-frame.ts';
import { PLOT_COLOURS } from './report-plots.ts';
import { count, escaped, figure, timeText } from './report-text.ts';

const SIZES: LayoutSizes = { nodeWidth: 200, nodeHeight: 58, gapX: 22, gapY: 34 };
const MARGIN = 4;
const NAME_CHARACTERS = 22;
const TOLD_CHARACTERS = 31;
/** Nodes beyond these are in the tables only: a picture of more shows nothing. */
const DRAWN_NODES = 250;

const COLOURS: Readonly<Record<LineageKind, string>> = {
  source: PLOT_COLOURS.moss,
  dataset: PLOT_COLOURS.mark,
  stage: PLOT_COLOURS.soft,
  features: PLOT_COLOURS.moss,
  version: PLOT_COLOURS.plum,
  table: PLOT_COLOURS.minus,
  endpoint: PLOT_COLOURS.minus,
  prediction: PLOT_COLOURS.ink,
};

/** A page with the lineage as a picture, and as tables that hold every figure. `title` is text: `prediction 3f2a… of late`. */
export function lineagePage(graph: LineageGraph, title: string): string {
  const drawn = graph.nodes.length <= DRAWN_NODES;
  const body = [
    `<h1>Lineage: ${escaped(title)}</h1>`,
    '<p>From the top down: what was read, what was made of it, and who answers with it. What was asked for has a strong frame.</p>',
    graph.truncated ? '<p class="warn">There is more than was followed: what is shown is the nearest part.</p>' : '',
    drawn ? picture(graph) : `<p class="empty">${count(graph.nodes.length)} things are too many for one picture; they are listed below.</p>`,
    '<h2>What each one is</h2>',
    nodesTable(graph),
    graph.runs.length === 0 ? '' : `<h2>Runs</h2>${runsTable(graph.runs)}`,
  ];
  return pageFrame(`Lineage: ${title}`, body.join('\n'));
}

const short = (text: string, characters: number): string => (text.length <= characters ? text : `${text.slice(0, characters - 1)}…`);
/** Of a path its end says more. */
const shortEnd = (text: string, characters: number): string => (text.length <= characters ? text : `…${text.slice(1 - characters)}`);

function picture({ nodes, edges, subject }: LineageGraph): string {
  const {
    width,
    height,
    nodes: places,
    edges: ways,
  } = layered(
    nodes.map(({ id }) => id),
    edges,
    SIZES,
  );
  const asked = new Set(subject);
  const [w, h] = [Math.ceil(width + 2 * MARGIN), Math.ceil(height + 2 * MARGIN)];
  const lines = ways.map(
    ({ edge, points }) =>
      `<path d="${curve(points)}" fill="none" stroke="${PLOT_COLOURS.soft}" stroke-opacity=".55"><title>${escaped(edge.how)}</title></path>`,
  );
  const boxes = nodes.map((node) => box(node, places.get(node.id) ?? { x: 0, y: 0 }, asked.has(node.id)));
  return `<div class="scroll"><svg viewBox="${-MARGIN} ${-MARGIN} ${w} ${h}" style="width:${w}px;max-width:none" role="img" aria-label="Lineage as a graph of ${count(nodes.length)} nodes; the table below holds the same">${lines.join('')}${boxes.join('')}</svg></div>${legend(nodes)}`;
}

/** Down from box to box: straight out of the one, straight into the other. */
function curve(points: readonly Placed[]): string {
  const half = SIZES.nodeHeight / 2;
  const number = (value: number): string => String(Math.round(value * 10) / 10);
  const parts: string[] = [];
  points.forEach((point, index) => {
    const before = points[index - 1];
    if (before === undefined) {
      parts.push(`M${number(point.x)} ${number(point.y + half)}`);
      return;
    }
    const [top, bottom] = [before.y + half, point.y - half];
    const bend = (bottom - top) * 0.55;
    parts.push(`C${number(before.x)} ${number(top + bend)} ${number(point.x)} ${number(bottom - bend)} ${number(point.x)} ${number(bottom)}`);
    // a layer that is only passed
    if (index < points.length - 1) parts.push(`V${number(point.y + half)}`);
  });
  return parts.join('');
}

function box(node: LineageNode, { x, y }: Placed, isAsked: boolean): string {
  const { nodeWidth, nodeHeight } = SIZES;
  const [left, top] = [Math.round(x - nodeWidth / 2), Math.round(y - nodeHeight / 2)];
  const colour = COLOURS[node.kind];
  const name = node.kind === 'source' ? shortEnd(node.name, NAME_CHARACTERS) : short(node.name, NAME_CHARACTERS);
  const line = (dy: number, size: number, fill: string, text: string, more = ''): string =>
    `<text x="${left + 14}" y="${top + dy}" font-size="${size}" fill="${fill}"${more}>${escaped(text)}</text>`;
  return `<g><title>${escaped(`${node.kind} ${node.name}\n${tellAll(node)}`)}</title><rect x="${left}" y="${top}" width="${nodeWidth}" height="${nodeHeight}" rx="7" fill="${PLOT_COLOURS.card}" stroke="${isAsked ? colour : PLOT_COLOURS.line}" stroke-width="${isAsked ? 2.5 : 1}"/><rect x="${left}" y="${top + 8}" width="4" height="${nodeHeight - 16}" rx="2" fill="${colour}"/>${line(17, 10.5, PLOT_COLOURS.soft, kindText(node))}${line(33, 13, PLOT_COLOURS.ink, name, ' font-weight="600"')}${line(49, 10.5, PLOT_COLOURS.soft, short(told(node), TOLD_CHARACTERS))}</g>`;
}

const text = (value: unknown): string => (typeof value === 'string' ? value : typeof value === 'number' ? figure(value) : '');

const kindText = ({ kind, facts, name }: LineageNode): string => {
  const of = text(facts['kind']);
  return kind === 'stage' || kind === 'dataset' ? (of === '' || of === name ? kind : kind === 'stage' ? `stage: ${of}` : `dataset of ${of}`) : kind;
};

/** One line on a node. */
function told({ kind, facts, at, run }: LineageNode): string {
  switch (kind) {
    case 'source':
      return text(facts['format']);
    case 'dataset':
      return `${text(facts['rows'])} rows, ${text(facts['dataset']).slice(0, 10)}`;
    case 'stage':
      return facts['takenFrom'] === undefined ? `run ${run?.slice(0, 10) ?? ''}` : `run ${run?.slice(0, 10) ?? ''}, from cache`;
    case 'version':
      return [text(facts['status']), ...aliasesOf(facts)].filter((part) => part !== '').join(', ');
    case 'table':
      return `${text(facts['rows'])} rows`;
    case 'endpoint':
      return facts['epoch'] === undefined ? (at === null ? '' : `since ${timeText(at)}`) : `epoch ${text(facts['epoch'])}, since ${timeText(at)}`;
    case 'prediction':
    case 'features':
      return timeText(at);
  }
}

const aliasesOf = (facts: LineageNode['facts']): readonly string[] => (Array.isArray(facts['aliases']) ? facts['aliases'].map(String) : []);

const legend = (nodes: readonly LineageNode[]): string =>
  `<p class="legend">${(Object.keys(COLOURS) as LineageKind[])
    .filter((kind) => nodes.some((node) => node.kind === kind))
    .map((kind) => `<span><i style="--c:${COLOURS[kind]};--o:1"></i>${kind}</span>`)
    .join('')}</p>`;

const shown = (value: unknown): string => (typeof value === 'string' ? value : typeof value === 'number' ? figure(value) : JSON.stringify(value));

/** Facts in words, one a line. */
const tellAll = ({ facts, run, at }: LineageNode): string =>
  [
    ...(at === null ? [] : [`at ${at}`]),
    ...(run === null ? [] : [`run ${run}`]),
    ...Object.entries(facts)
      .filter(([, value]) => value !== null && !isEmpty(value))
      .map(([key, value]) => `${key} ${shown(value)}`),
  ].join('\n');

const isEmpty = (value: unknown): boolean => typeof value === 'object' && value !== null && Object.keys(value).length === 0;

function nodesTable({ nodes, edges }: LineageGraph): string {
  const names = new Map(nodes.map((node) => [node.id, node]));
  const before = new Map<string, string[]>();
  for (const { from, to, how } of edges) before.set(to, [...(before.get(to) ?? []), `${names.get(from)?.name ?? from} (${how})`]);
  const rows = nodes.map((node) => {
    const facts = tellAll(node)
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => `<div><span class="soft">${escaped(line.replace(/ [^]*/, ''))}</span> <code>${escaped(line.replace(/^\S+ /, ''))}</code></div>`)
      .join('');
    return `<tr><td class="state">${escaped(kindText(node))}</td><td>${escaped(node.name)}</td><td>${escaped([...new Set(before.get(node.id) ?? [])].join(', '))}</td><td>${facts}</td></tr>`;
  });
  return `<div class="scroll"><table class="columns"><thead><tr><th>kind</th><th>name</th><th>comes from</th><th>known of it</th></tr></thead><tbody>${rows.join('')}</tbody></table></div>`;
}

function runsTable(runs: readonly LineageRun[]): string {
  const rows = runs.map(
    ({ id, pipeline, status, parameters, commit, clean, build, startedAt }) =>
      `<tr><td><code>${escaped(id)}</code></td><td>${escaped(pipeline)}</td><td>${escaped(status)}</td><td class="when">${escaped(timeText(startedAt))}</td><td>${commit === null ? '–' : `<code>${escaped(commit.slice(0, 12))}</code>${clean === false ? ' with changes' : ''}`}</td><td>${build === null || build === '' ? '–' : `<code>${escaped(build.slice(0, 12))}</code>`}</td><td><code>${escaped(JSON.stringify(parameters))}</code></td></tr>`,
  );
  return `<div class="scroll"><table class="columns"><thead><tr><th>run</th><th>pipeline</th><th>status</th><th>started</th><th>commit</th><th>build</th><th>parameters</th></tr></thead><tbody>${rows.join('')}</tbody></table></div>`;
}
