import { metricDefinition } from '../contracts/metrics.ts';
import { METRICS } from '../contracts/stages.ts';

/** A cell's text as one line; a long one ends in an ellipsis. */
export function oneLine(text: string, maxLength = 200): string {
  // biome-ignore format: control characters would move the cursor
  const line = text.replaceAll(/\s*[\u0000-\u001f\u007f]+\s*/g, ' ').trim();
  return line.length <= maxLength ? line : `${line.slice(0, Math.max(0, maxLength - 1))}…`;
}

/** Rows under a head line, columns two spaces apart; numbers-only columns stand to the right. */
export function renderTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = rows.map((row) => head.map((_, i) => oneLine(row[i] ?? '')));
  const widths = head.map((name, i) => Math.max(name.length, ...cells.map((row) => row[i]?.length ?? 0)));
  const isNumber = head.map((_, i) => cells.length > 0 && cells.every((row) => /^-?[\d.,]*$/.test(row[i] ?? '')) && cells.some((row) => row[i] !== ''));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, i) => (isNumber[i] === true ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)))
      .join('  ')
      .trimEnd();
  return `${[line(head.map((name) => name.toUpperCase())), ...cells.map(line)].join('\n')}\n`;
}

/** `name: value` lines, the values under one another; empty values are left out. */
export function renderFields(fields: readonly (readonly [string, string | number | null | undefined])[]): string {
  const shown = fields.filter(([, value]) => value !== null && value !== undefined && value !== '');
  const width = Math.max(0, ...shown.map(([name]) => name.length));
  return shown.map(([name, value]) => `${name.padEnd(width)}  ${String(value)}\n`).join('');
}

/** A duration as people read it: `850 ms`, `12.3 s`, `4 min 05 s`, `3 h 20 min`, `2 d 4 h`. */
export function showDuration(ms: number): string {
  if (ms < 1_000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  const s = Math.round(ms / 1_000);
  if (s < 3_600) return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, '0')} s`;
  if (s < 86_400) return `${Math.floor(s / 3_600)} h ${String(Math.floor((s % 3_600) / 60)).padStart(2, '0')} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3_600)} h`;
}

/** The time between two UTC ISO instants; an open end counts to `nowMs`. Empty when it has not begun. */
export function showElapsed(startedAt: string | null | undefined, endedAt: string | null | undefined, nowMs: number): string {
  if (!startedAt) return '';
  return showDuration(Math.max(0, (endedAt ? Date.parse(endedAt) : nowMs) - Date.parse(startedAt)));
}

/** Bytes with a binary unit: `812 B`, `13.5 MiB`. */
export function showBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
  return `${unit === 0 ? String(value) : value.toFixed(1)} ${units[unit] ?? ''}`;
}

/** A figure with at most four decimals. */
export function showFigure(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toFixed(4);
}

/** The chief metrics on one line: `auc 0.7012, logLoss 0.5123`; `--json` has them all. What the contract does not know is shown. */
export function showMetrics(metrics: Readonly<Record<string, number>>): string {
  // Postgres keeps no order of names; the one of the contract is the one that people know.
  const known: readonly string[] = METRICS;
  const place = (name: string): number => (known.includes(name) ? known.indexOf(name) : known.length);
  return Object.entries(metrics)
    .filter(([name]) => metricDefinition(name)?.headline ?? !known.includes(name))
    .sort(([a], [b]) => place(a) - place(b))
    .map(([name, value]) => `${name} ${showFigure(value)}`)
    .join(', ');
}
