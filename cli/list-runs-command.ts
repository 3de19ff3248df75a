import type { Command } from 'commander';
import { MillraceError } from '../contracts/errors.ts';
import type { RunStatus } from '../contracts/run.ts';
import { columnName, RUN_FIELDS, RUN_VALUES, type RunColumn, type RunCondition, runColumn, runCondition } from '../contracts/run-search.ts';
import type { FoundRun, SearchRunsInput } from '../store/run-search.ts';
import { withClients } from './clients.ts';
import { addCommand, collect, invocationOf, print, type Program } from './command.ts';
import { parseCount, parseDurationMs, parseInstant } from './duration.ts';
import { renderTable, showDuration, showElapsed, showFigure } from './table.ts';

const RUN_STATUSES = ['waiting', 'running', 'completed', 'failed', 'cancelled', 'terminated'] as const satisfies readonly RunStatus[];
const USUAL = ['run', 'pipeline', 'status', 'started', 'took', 'trigger', 'workflow'] as const;

interface Options {
  readonly json?: boolean;
  readonly pipeline?: string;
  readonly status?: string;
  readonly since?: string;
  readonly until?: string;
  readonly param?: readonly string[];
  readonly metric?: readonly string[];
  readonly tag?: readonly string[];
  readonly filter?: string;
  readonly columns?: string;
  readonly order?: string;
  readonly limit: string;
}

function parseStatuses(text: string): readonly RunStatus[] {
  return text.split(',').map((part) => {
    const status = RUN_STATUSES.find((s) => s === part.trim());
    if (status === undefined)
      throw new MillraceError('USAGE', `--status: there is no status ${part.trim()}.`, { fix: `Use one of ${RUN_STATUSES.join(', ')}.` });
    return status;
  });
}

function parseConditions(options: Options): readonly RunCondition[] {
  return RUN_VALUES.flatMap((of) =>
    (options[of] ?? []).map((text) => {
      const condition = runCondition(of, text);
      if (condition === null)
        throw new MillraceError('USAGE', `--${of}: "${text}" is no comparison.`, {
          fix: `Write --${of} 'NAME>=VALUE', with =, !=, <, <=, >, >= or ~ (holds the text).`,
        });
      if (of === 'metric' && (condition.is === '~' || !Number.isFinite(Number(condition.value)) || condition.value === ''))
        throw new MillraceError('USAGE', `--metric: "${text}" compares with no number.`, { fix: "Write --metric 'auc>=0.8'." });
      return condition;
    }),
  );
}

function parseColumn(option: string, name: string): RunColumn {
  const column = runColumn(name);
  if (column === null)
    throw new MillraceError('USAGE', `${option}: there is no column ${name}.`, { fix: `Use ${RUN_FIELDS.join(', ')}, param.NAME, metric.NAME or tag.NAME.` });
  return column;
}

/** A time, or so long ago. */
function parseWhen(option: string, text: string): string {
  return /^\s*\d+(?:\.\d+)?\s*[a-z]+\s*$/i.test(text)
    ? new Date(Date.now() - parseDurationMs(option, text)).toISOString()
    : parseInstant(option, text).toISOString();
}

/** What is looked for, and which columns are shown: those that are asked for, else the usual ones and those that were spoken of. */
export function parseListing(options: Options): { readonly search: SearchRunsInput; readonly columns: readonly RunColumn[] } {
  const where = parseConditions(options);
  const named = options.order?.trim() ?? '';
  const [, column = '', direction = 'asc'] = /^(.*?)(?:\s+(asc|desc))?$/i.exec(named) ?? [];
  const descending = named.startsWith('-') || direction.toLowerCase() === 'desc';
  const orderBy = named === '' ? undefined : parseColumn('--order', column.replace(/^-/, ''));
  const spoken = [...where.map(({ column }) => column), ...(orderBy === undefined ? [] : [orderBy])];
  const wanted =
    options.columns === undefined
      ? [...USUAL.map((key): RunColumn => ({ of: 'run', key })), ...spoken]
      : options.columns.split(',').map((name) => parseColumn('--columns', name.trim()));
  const columns = wanted.filter((column, i) => wanted.findIndex((other) => columnName(other) === columnName(column)) === i);
  return {
    columns,
    search: {
      limit: parseCount('--limit', options.limit),
      where,
      columns,
      ...(options.filter === undefined ? {} : { filter: options.filter }),
      ...(options.pipeline === undefined ? {} : { pipeline: options.pipeline }),
      ...(options.status === undefined ? {} : { status: parseStatuses(options.status) }),
      ...(options.since === undefined ? {} : { since: parseWhen('--since', options.since) }),
      ...(options.until === undefined ? {} : { until: parseWhen('--until', options.until) }),
      ...(orderBy === undefined ? {} : { order: { column: orderBy, descending } }),
    },
  };
}

function cell({ run, values }: FoundRun, column: RunColumn, nowMs: number): string {
  const value = values[columnName(column)] ?? null;
  if (column.of === 'run' && column.key === 'took') return showElapsed(run.startedAt, run.endedAt, nowMs);
  if (column.of === 'run' && (column.key === 'created' || column.key === 'started' || column.key === 'ended'))
    return (column.key === 'created' ? run.createdAt : column.key === 'started' ? run.startedAt : run.endedAt) ?? '';
  if (column.of === 'run' && column.key === 'cpu') return typeof value === 'number' ? showDuration(value * 1_000) : '';
  if (value === null) return '';
  return typeof value === 'number' ? showFigure(value) : value;
}

/** `millrace runs list`. */
export function addListRunsCommand(program: Program, runs: Command): void {
  addCommand(program, runs, 'list', 'the runs that fit, the newest first')
    .option('--pipeline <name>', 'of this pipeline only')
    .option('--status <status>', `of this status only, or of these: ${RUN_STATUSES.join(', ')}`)
    .option('--since <time>', 'made since then: 2026-01-31, or so long ago: 7 days')
    .option('--until <time>', 'made before then')
    .option('--param <comparison>', "a parameter that they have: 'trees>=200', 'split.by=time', 'source~flights'; may be repeated", collect)
    .option('--metric <comparison>', "a metric that they reached: 'auc>0.7'; may be repeated", collect)
    .option('--tag <comparison>', "a tag: 'team=risk'; may be repeated", collect)
    .option('--filter <text>', "MLflow's filter language: metrics.`evaluate/test.auc` > 0.7 and params.trees = '200'")
    .option('--columns <names>', `what is shown: ${RUN_FIELDS.join(', ')}, param.NAME, metric.NAME, tag.NAME`)
    .option('--order <column>', 'by which they are ordered: "metric.auc desc" or -metric.auc for the greatest first')
    .option('--limit <count>', 'at most so many', '20')
    .action(async (options: Options) => {
      const { search, columns } = parseListing(options);
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const found = await (await clients.store()).runSearch.search({ ...search, projects: await clients.projects() });
        const nowMs = Date.now();
        print(
          invocation,
          found.map(({ run, values }) => ({ ...run, values })),
          () =>
            found.length > 0
              ? renderTable(
                  columns.map(columnName),
                  found.map((run) => columns.map((column) => cell(run, column, nowMs))),
                )
              : isFiltered(options)
                ? 'No run fits.\n'
                : 'There are no runs. Start one with `millrace run PIPELINE`.\n',
        );
      });
    });
}

const isFiltered = ({ pipeline, status, since, until, param, metric, tag, filter }: Options): boolean =>
  [pipeline, status, since, until, param, metric, tag, filter].some((option) => option !== undefined);
