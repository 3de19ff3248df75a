import type { EndpointState, ProductionPeriod, Promoted } from '../contracts/endpoint.ts';
import { MillraceError } from '../contracts/errors.ts';
import { WindowFiguresSchema } from '../contracts/monitoring.ts';
import { endpointWorkflowId } from '../contracts/queues.ts';
import type { Route, ServedVersion } from '../contracts/routes.ts';
import type { MonitorWindow } from '../store/monitoring.ts';
import type { RolloutRecord } from '../store/rollouts.ts';
import type { Store } from '../store/store.ts';
import { type Clients, withClients } from './clients.ts';
import { addCommand, addGroup, invocationOf, print, type Program } from './command.ts';
import { parseCount, parseInstant } from './duration.ts';
import { nearestName } from './parameters.ts';
import { renderFields, renderTable, showElapsed, showFigure } from './table.ts';
import { writePage } from './write-page.ts';

interface Common {
  readonly json?: boolean;
}
interface ChangeOptions extends Common {
  readonly reason: string;
  readonly by?: string;
}

/** Figures of serving are shown over the last hour. */
const STATS_MS = 3_600_000;

const served = (version: ServedVersion | null | undefined): string => (version ? `${version.model} ${version.version}` : '');

async function requireEndpoint(store: Store, name: string): Promise<void> {
  if ((await store.endpoints.find(name)) !== null) return;
  const near = nearestName(
    name,
    (await store.endpoints.list({ limit: 1_000 })).map((e) => e.name),
  );
  throw new MillraceError('ENDPOINT_NOT_FOUND', `There is no endpoint ${name}.${near === undefined ? '' : ` Is ${near} meant?`}`);
}

function rolloutRow(rollout: RolloutRecord, nowMs: number): readonly string[] {
  const last = rollout.steps.at(-1);
  return [
    rollout.createdAt,
    `${rollout.model} ${rollout.version}`,
    rollout.status,
    last?.name ?? '',
    showElapsed(rollout.startedAt, rollout.endedAt, nowMs),
    rollout.runId?.slice(0, 12) ?? '',
    rollout.reason ?? '',
  ];
}

async function figures(
  store: Store,
  route: Route | null,
): Promise<readonly { readonly version: string; readonly requests: number; readonly errors: number; readonly latencyMsMean: number }[]> {
  if (route === null) return [];
  const from = new Date(Date.now() - STATS_MS).toISOString();
  const versions = [route.champion, ...(route.challenger ? [route.challenger.version] : [])];
  return Promise.all(
    versions.map(async (v) => {
      const { requests, errors, latencyMsMean } = await store.stats.read({ endpoint: route.endpoint, model: v.model, version: v.version, from });
      return { version: served(v), requests, errors, latencyMsMean };
    }),
  );
}

/** What the endpoint's own workflow says; null when Temporal or its worker does not answer: the records are shown all the same. */
async function stateOf(clients: Clients, endpoint: string): Promise<EndpointState | null> {
  try {
    const client = await clients.temporal();
    return await client.connection.withDeadline(Date.now() + 4_000, () =>
      client.workflow.getHandle(endpointWorkflowId(endpoint)).query<EndpointState>('state'),
    );
  } catch {
    return null;
  }
}

async function change<Result>(
  clients: Clients,
  endpoint: string,
  update: 'rollback' | 'promote' | 'abort',
  { by, ...argument }: { readonly by: string | undefined; readonly reason: string },
): Promise<Result> {
  await requireEndpoint(await clients.store(), endpoint);
  const { who, voucher } = await clients.actor(endpoint, by);
  const workflowId = endpointWorkflowId(endpoint);
  const message = { ...argument, by: who, ...(await voucher(update, workflowId, endpoint)) };
  const client = await clients.temporal();
  return client.workflow.getHandle(workflowId).executeUpdate<Result, [object]>(update, { args: [message] });
}

function rolloutLine({ version, step, waitingSince, until }: NonNullable<EndpointState['rollout']>): string {
  if (waitingSince !== null) return `${served(version)}: ${step}, waits for promote or abort since ${waitingSince}`;
  return `${served(version)}: ${step}${until === null ? '' : `, until ${until}`}`;
}

function renderHistory(history: readonly ProductionPeriod[]): string {
  if (history.length === 0) return 'Nothing has been served yet.\n';
  return renderTable(
    ['from', 'until', 'champion', 'beside it', 'by', 'why'],
    history.map(({ from, until, champion, challenger, standby, by, reason }) => [
      from,
      until ?? 'now',
      served(champion) || 'nothing',
      challenger
        ? `${served(challenger.version)} at ${challenger.percent} %${challenger.mode === 'shadow' ? ' (mirrored)' : ''}`
        : standby.map((v) => `${served(v)} (loaded)`).join(', '),
      by ?? '',
      reason ?? '',
    ]),
  );
}

function renderWindows(windows: readonly MonitorWindow[]): string {
  if (windows.length === 0) return 'No window has been looked at yet.\n';
  return renderTable(
    ['from', 'to', 'rows', 'verdict', 'most drifted', 'labelled', 'quality', 'what is the matter'],
    windows.map(({ from, to, figures }) => {
      const read = WindowFiguresSchema.safeParse(figures);
      if (!read.success) return [from, to, '', 'not readable', '', '', '', ''];
      const { rows, verdict, drift, columns, quality, findings, notes } = read.data;
      const worst = drift?.columns[0] ?? columns?.[0];
      const [metric] = Object.entries(quality?.metrics ?? {});
      const matters = (findings ?? []).map(({ what, firing }) => (firing ? what : `(${what})`));
      return [
        from,
        to,
        String(rows),
        verdict ?? '',
        worst === undefined ? '' : `${worst.column}, PSI ${showFigure(worst.psi)}`,
        quality == null ? '' : String(quality.labelled),
        metric === undefined ? '' : `${metric[0]} ${showFigure(metric[1])}`,
        [...matters, ...(notes ?? [])].join('; '),
      ];
    }),
  );
}

export function addEndpointsCommands(program: Program): void {
  const endpoints = addGroup(program, 'endpoints', 'what is served, and its rollouts');

  addCommand(program, endpoints, 'list', 'the endpoints with the version that answers').action(async (options: Common) => {
    const invocation = invocationOf(program, options);
    await withClients(async (clients) => {
      const store = await clients.store();
      const found = await Promise.all(
        (await store.endpoints.list({ limit: 1_000, projects: await clients.projects() })).map(async ({ name }) => ({
          endpoint: name,
          route: await store.endpoints.route(name),
        })),
      );
      print(invocation, found, () =>
        found.length === 0
          ? 'There are no endpoints yet.\n'
          : renderTable(
              ['endpoint', 'champion', 'challenger', 'epoch'],
              found.map(({ endpoint, route }) => [
                endpoint,
                served(route?.champion) || 'nothing is served',
                route?.challenger ? `${served(route.challenger.version)} at ${route.challenger.percent} %` : '',
                String(route?.epoch ?? ''),
              ]),
            ),
      );
    });
  });

  addCommand(program, endpoints, 'windows <endpoint>', 'what the monitor saw, window by window, the newest first; in brackets what is not an alert yet')
    .option('--limit <count>', 'at most so many windows', '24')
    .action(async (name: string, options: Common & { limit: string }) => {
      const limit = parseCount('--limit', options.limit);
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const store = await clients.store();
        await requireEndpoint(store, name);
        const windows = await store.monitoring.listWindows({ endpoint: name, limit });
        print(invocation, { endpoint: name, windows }, () => renderWindows(windows));
      });
    });

  addCommand(program, endpoints, 'show <endpoint>', 'an endpoint: who answers, what is being rolled out, earlier rollouts')
    .option('--limit <count>', 'at most so many rollouts, or periods', '10')
    .option('--history', 'what served from when to when, at what share, why, by whom')
    .action(async (name: string, options: Common & { limit: string; history?: boolean }) => {
      const limit = parseCount('--limit', options.limit);
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const store = await clients.store();
        await requireEndpoint(store, name);
        if (options.history === true) {
          const history = await store.endpoints.productionHistory(name, { limit });
          print(invocation, { endpoint: name, history }, () => renderHistory(history));
          return;
        }
        const [route, rollouts, live] = await Promise.all([
          store.endpoints.route(name),
          store.rollouts.list({ endpoint: name, limit }),
          stateOf(clients, name),
        ]);
        const lastHour = await figures(store, route);
        const nowMs = Date.now();
        print(invocation, { endpoint: name, route, state: live, lastHour, rollouts }, () =>
          [
            renderFields([
              ['endpoint', name],
              ['champion', served(route?.champion) || 'nothing is served'],
              [
                'challenger',
                route?.challenger
                  ? `${served(route.challenger.version)} at ${route.challenger.percent} %${route.challenger.mode === 'shadow' ? ' (mirrored)' : ''}, lease until ${route.challenger.leaseUntil}`
                  : null,
              ],
              ['epoch', route?.epoch],
              ['standby', route?.standby?.map(served).join(', ')],
              ['rollout', live?.rollout ? rolloutLine(live.rollout) : null],
              ['soak', live?.soak ? `late labels can take ${served(live.soak.version)} back until ${live.soak.until}` : null],
              ['kept', live?.kept ? `${served(live.kept.version)} for an instant switch back, until ${live.kept.until}` : null],
              ['queued', live && live.queued.length > 0 ? live.queued.length : null],
              ['before', live?.stack.map(served).join(', ')],
              ...lastHour.map(
                (f) => [`${f.version}, last hour`, `${f.requests} requests, ${f.errors} errors, ${showFigure(f.latencyMsMean)} ms on average`] as const,
              ),
            ]),
            rollouts.length === 0
              ? ''
              : `\n${renderTable(
                  ['asked at', 'version', 'status', 'last step', 'took', 'run', 'why'],
                  rollouts.map((r) => rolloutRow(r, nowMs)),
                )}`,
          ].join(''),
        );
      });
    });

  addCommand(program, endpoints, 'report <endpoint>', 'a page: drift, quality, traffic, latency, alerts and retrainings over time')
    .option('--from <time>', 'its beginning, UTC (default: 30 days before the end, or when the endpoint was first heard of in that time)')
    .option('--to <time>', 'its end, UTC (default: now)')
    .option('--out <file>', 'where the page is written (default: ENDPOINT-report.html)')
    .option('--open', 'open the page')
    .action(async (name: string, options: Common & { from?: string; to?: string; out?: string; open?: boolean }) => {
      const range = {
        ...(options.from === undefined ? {} : { from: parseInstant('--from', options.from).toISOString() }),
        ...(options.to === undefined ? {} : { to: parseInstant('--to', options.to).toISOString() }),
      };
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const store = await clients.store();
        await requireEndpoint(store, name);
        const report = await store.endpointReports.read({ endpoint: name, ...range });
        // with --json the facts are what is asked for; a page is written only where a file is named
        const isWritten = options.json !== true || options.out !== undefined || options.open === true;
        const { endpointReportPage } = await import('../reports/endpoint-report.ts');
        const path = isWritten ? await writePage(await endpointReportPage(report), options, `${name}-report.html`) : null;
        print(invocation, { path, report }, () => `${path ?? ''}\n`);
      });
    });

  addCommand(program, endpoints, 'rollback <endpoint>', 'go back to the version before, or to a stated one')
    .option('--to <version>', 'the version to go back to')
    .requiredOption('--reason <text>', 'why; it stands in the record')
    .option('--by <name>', 'who decides (default: the user of this machine)')
    .action(async (name: string, options: ChangeOptions & { to?: string }) => {
      const to = options.to === undefined ? undefined : parseCount('--to', options.to);
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const request = { by: options.by, reason: options.reason, ...(to === undefined ? {} : { to }) };
        const { champion } = await change<{ champion: ServedVersion | null }>(clients, name, 'rollback', request);
        print(invocation, { endpoint: name, champion }, () =>
          champion === null ? `${name} serves nothing now.\n` : `${served(champion)} answers the requests of ${name} again.\n`,
        );
      });
    });

  addCommand(program, endpoints, 'promote <endpoint>', 'let a rollout that waits go on; one that does not wait gets all traffic now')
    .option('--all', 'all traffic now, also where it waits')
    .requiredOption('--reason <text>', 'why; it stands in the record')
    .option('--by <name>', 'who decides (default: the user of this machine)')
    .action(async (name: string, options: ChangeOptions & { all?: boolean }) => {
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const request = { by: options.by, reason: options.reason, ...(options.all === true ? { all: true } : {}) };
        const { did } = await change<Promoted>(clients, name, 'promote', request);
        print(
          invocation,
          { endpoint: name, requested: 'promote', did },
          () => `The rollout of ${name} ${did === 'resumed' ? 'goes on' : 'takes all traffic'}.\nLook: millrace endpoints show ${name}\n`,
        );
      });
    });

  addCommand(program, endpoints, 'abort <endpoint>', 'take back the rollout that is under way')
    .requiredOption('--reason <text>', 'why; it stands in the record')
    .option('--by <name>', 'who decides (default: the user of this machine)')
    .action(async (name: string, options: ChangeOptions) => {
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        await change(clients, name, 'abort', { by: options.by, reason: options.reason });
        print(invocation, { endpoint: name, requested: 'abort' }, () => `The rollout of ${name} is taken back.\nLook: millrace endpoints show ${name}\n`);
      });
    });
}
