import type { Dossier } from '../contracts/dossier.ts';
import { factsList, pageFrame } from './report-frame.ts';
import { escaped } from './report-text.ts';

const text = (value: unknown): string => escaped(value === null || value === undefined ? '' : typeof value === 'string' ? value : JSON.stringify(value));
const table = (heads: readonly string[], rows: readonly (readonly unknown[])[]): string =>
  rows.length === 0
    ? '<p class="empty">None.</p>'
    : `<table><thead><tr>${heads.map((head) => `<th>${escaped(head)}</th>`).join('')}</tr></thead><tbody>${rows
        .map((row) => `<tr>${row.map((cell) => `<td>${text(cell)}</td>`).join('')}</tr>`)
        .join('')}</tbody></table>`;
const field = (value: unknown, name: string): unknown => (value as Readonly<Record<string, unknown>> | null)?.[name];
const facts = (value: unknown): string => `<pre>${escaped(JSON.stringify(value, null, 2))}</pre>`;

/** A dossier as a page; dossier.json has everything that it says, and more. */
export function dossierPage({ model, version, madeAt, record, run, lineage, approvals, comments, aliases, production, proof }: Dossier): string {
  const { entries, head, whole } = proof;
  const decisions = approvals.flatMap((gate) =>
    ((field(gate, 'decisions') ?? []) as readonly unknown[]).map((d) => [
      field(gate, 'gate'),
      field(d, 'at'),
      field(d, 'who'),
      field(d, 'decision'),
      field(d, 'reason'),
      field(d, 'voidReason'),
    ]),
  );
  const nodes = (field(lineage, 'nodes') ?? []) as readonly unknown[];
  const body = [
    `<h1>${escaped(model)} ${String(version)}</h1>`,
    factsList([
      ['made', text(madeAt)],
      ['status', text(field(record, 'status'))],
      ['run', text(field(run, 'id'))],
      ['audit', whole ? `whole, ${String(head.seq)} entries` : 'not whole'],
    ]),
    `<h2>Version</h2>${facts(record)}`,
    `<h2>Where it comes from</h2>${table(
      ['kind', 'name', 'at', 'id'],
      nodes.map((n) => [field(n, 'kind'), field(n, 'name'), field(n, 'at'), field(n, 'id')]),
    )}`,
    `<h2>Approvals</h2>${table(['gate', 'at', 'who', 'decision', 'reason', 'void because'], decisions)}`,
    `<h2>Comments</h2>${table(
      ['at', 'who', 'what'],
      comments.map((c) => [field(c, 'at'), field(c, 'who'), field(c, 'text')]),
    )}`,
    `<h2>Aliases</h2>${table(
      ['alias', 'from', 'until', 'by', 'why'],
      aliases.map((a) => [field(a, 'alias'), field(a, 'from'), field(a, 'until'), field(a, 'by'), field(a, 'reason')]),
    )}`,
    `<h2>In production</h2>${table(
      ['endpoint', 'as', 'from', 'until', 'percent', 'by', 'why'],
      production.map((p) => [p.endpoint, p.as, p.from, p.until, p.percent, p.by, p.reason]),
    )}`,
    `<h2>Audit</h2><p>${whole ? 'The log is whole.' : 'The log is not whole.'} Head: ${String(head.seq)}:<code>${head.hash}</code></p>${table(
      ['entry', 'at', 'who', 'action', 'of', 'details', 'hash'],
      entries.map((e) => [e.seq, e.at, e.who, e.action, e.subject, e.details, e.hash.slice(0, 16)]),
    )}`,
  ];
  return pageFrame(`${model} ${String(version)}: dossier`, body.join('\n'));
}
