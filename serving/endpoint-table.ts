/**
 * Who answers each endpoint's requests on this server.
 *
 * Invariants:
 * 1. A version gets traffic only after it was loaded, checked and warmed; until then the one before answers.
 * 2. A swap is one assignment between two requests. The old version is freed after its last answer.
 * 3. A route with an older epoch than the last one seen changes nothing.
 * 4. `holding` names an epoch only when all versions of its route are in service here.
 * 5. A challenger answers only before its lease ends; nobody has to take it away.
 * 6. One version is loaded once, however many endpoints and roles use it.
 */
import { type ErrorReport, MillraceError } from '../contracts/errors.ts';
import type { Route, ServedVersion } from '../contracts/routes.ts';
import type { LoadedPredictor } from './loaded-predictor.ts';
import type { Heartbeat, RouteFailure, ServingLog } from './ports.ts';
import { trafficBucket } from './request-id.ts';
import type { ServingFigures, VersionFigures } from './serving-figures.ts';

/** A version as it serves one endpoint. */
export interface ServingVersion {
  readonly endpoint: string;
  readonly served: ServedVersion;
  readonly challenger: boolean;
  readonly predictor: LoadedPredictor;
  readonly figures: VersionFigures;
  /** Whether its predictions are logged. */
  readonly log: boolean;
}

export interface EndpointTable {
  /** Takes the routes as they are now; `complete`: what is not among them is gone. Resolves when each is in service or failed. */
  apply(routes: readonly Route[], complete: boolean): Promise<void>;
  /** @throws MillraceError ENDPOINT_NOT_FOUND, ENDPOINT_NOT_READY, or NOT_FOUND for a version that is not in service. */
  pick(endpoint: string, requestId: string, version?: number): ServingVersion;
  /** Versions in service for an endpoint, the champion first. */
  versionsOf(endpoint: string): readonly ServingVersion[];
  names(): readonly string[];
  isReady(endpoint: string): boolean;
  holding(): Heartbeat['holding'];
  failures(): readonly RouteFailure[];
  /** Routes in service, to be kept for a start without the store. */
  appliedRoutes(): readonly Route[];
  close(): Promise<void>;
}

export interface EndpointTableDeps {
  readonly load: (served: ServedVersion) => Promise<LoadedPredictor>;
  readonly figures: ServingFigures;
  readonly log: ServingLog;
  /** Called after a route came into service, failed or went. */
  readonly onChange: () => void;
  readonly now?: () => number;
}

interface Endpoint {
  readonly name: string;
  wanted: Route;
  applied: Route | undefined;
  champion: ServingVersion | undefined;
  challenger: ServingVersion | undefined;
  /** Of 10,000 requests. */
  challengerShare: number;
  leaseUntilMs: number;
  failure: ErrorReport | undefined;
  failedTimes: number;
  retryAtMs: number;
  work: Promise<void> | undefined;
  gone: boolean;
}

interface Loaded {
  readonly predictor: Promise<LoadedPredictor>;
  uses: number;
}

const FIRST_RETRY_MS = 1_000;
const MAX_RETRY_MS = 30_000;

const sameRoute = (a: Route | undefined, b: Route): boolean => a !== undefined && JSON.stringify(a) === JSON.stringify(b);

/** Asked again after a wait: it may have changed meanwhile. */
const isGone = (endpoint: Endpoint): boolean => endpoint.gone;

export function createEndpointTable(deps: EndpointTableDeps): EndpointTable {
  const now = deps.now ?? Date.now;
  const endpoints = new Map<string, Endpoint>();
  const loaded = new Map<string, Loaded>();
  const closing = new Set<Promise<void>>();

  function acquire(served: ServedVersion): Promise<LoadedPredictor> {
    let entry = loaded.get(served.predictor);
    if (entry === undefined) {
      entry = { predictor: deps.load(served), uses: 0 };
      loaded.set(served.predictor, entry);
    }
    entry.uses += 1;
    return entry.predictor;
  }

  function release(served: ServedVersion): void {
    const entry = loaded.get(served.predictor);
    if (entry === undefined) return;
    entry.uses -= 1;
    if (entry.uses > 0) return;
    loaded.delete(served.predictor);
    const closed = entry.predictor.then(
      (predictor) => predictor.close(),
      () => undefined,
    );
    const settled = closed.catch((error: unknown) => {
      deps.log('error', 'a version could not be freed', { model: served.model, version: served.version, error: String(error) });
    });
    closing.add(settled);
    void settled.finally(() => closing.delete(settled));
  }

  async function acquireVersion(route: Route, served: ServedVersion, challenger: boolean): Promise<ServingVersion> {
    try {
      const predictor = await acquire(served);
      return { endpoint: route.endpoint, served, challenger, predictor, figures: deps.figures.of(route.endpoint, served), log: route.log };
    } catch (error) {
      release(served);
      throw error;
    }
  }

  function swap(endpoint: Endpoint, route: Route, champion: ServingVersion, challenger: ServingVersion | undefined): void {
    const old = [endpoint.champion, endpoint.challenger];
    endpoint.champion = champion;
    endpoint.challenger = challenger;
    endpoint.challengerShare = Math.round((route.challenger?.percent ?? 0) * 100);
    endpoint.leaseUntilMs = route.challenger === null ? 0 : Date.parse(route.challenger.leaseUntil);
    for (const version of old) if (version !== undefined) release(version.served);
  }

  function fail(endpoint: Endpoint, route: Route, error: unknown): void {
    const known = error instanceof MillraceError ? error : new MillraceError('INTERNAL', 'The version could not be loaded.', { cause: error });
    endpoint.failure = known.report();
    endpoint.retryAtMs = now() + Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** endpoint.failedTimes);
    endpoint.failedTimes += 1;
    deps.log('error', 'a route could not be brought into service; the one before goes on', {
      endpoint: route.endpoint,
      epoch: route.epoch,
      code: known.code,
      message: known.message,
      problems: known.problems,
      cause: known.cause instanceof Error ? known.cause.message : undefined,
    });
  }

  async function bringIntoService(endpoint: Endpoint): Promise<void> {
    while (!endpoint.gone && !sameRoute(endpoint.applied, endpoint.wanted) && now() >= endpoint.retryAtMs) {
      const route = endpoint.wanted;
      const [champion, challenger] = await Promise.allSettled([
        acquireVersion(route, route.champion, false),
        route.challenger === null ? undefined : acquireVersion(route, route.challenger.version, true),
      ]);
      if (isGone(endpoint)) {
        if (champion.status === 'fulfilled') release(champion.value.served);
        if (challenger.status === 'fulfilled' && challenger.value !== undefined) release(challenger.value.served);
      } else if (champion.status === 'fulfilled' && challenger.status === 'fulfilled') {
        swap(endpoint, route, champion.value, challenger.value);
        endpoint.applied = route;
        endpoint.failure = undefined;
        endpoint.failedTimes = 0;
        deps.log('info', 'route in service', {
          endpoint: route.endpoint,
          epoch: route.epoch,
          version: route.champion.version,
          challenger: route.challenger?.version.version,
        });
      } else {
        const [failed] = [champion, challenger].filter((outcome) => outcome.status === 'rejected');
        // Without anybody to answer, the champion alone is better than nothing; the epoch is not held all the same.
        if (champion.status === 'fulfilled') {
          if (endpoint.champion === undefined) swap(endpoint, { ...route, challenger: null }, champion.value, undefined);
          else release(champion.value.served);
        }
        if (challenger.status === 'fulfilled' && challenger.value !== undefined) release(challenger.value.served);
        // A newer route came meanwhile: it is tried at once, and the old one's failure is nobody's concern.
        if (endpoint.wanted === route) fail(endpoint, route, failed?.reason);
      }
      deps.onChange();
    }
  }

  function want(route: Route): Endpoint {
    let endpoint = endpoints.get(route.endpoint);
    if (endpoint === undefined) {
      endpoint = {
        name: route.endpoint,
        wanted: route,
        applied: undefined,
        champion: undefined,
        challenger: undefined,
        challengerShare: 0,
        leaseUntilMs: 0,
        failure: undefined,
        failedTimes: 0,
        retryAtMs: 0,
        work: undefined,
        gone: false,
      };
      endpoints.set(route.endpoint, endpoint);
    } else if (route.epoch >= endpoint.wanted.epoch && !sameRoute(endpoint.wanted, route)) {
      endpoint.wanted = route;
      endpoint.failedTimes = 0;
      endpoint.retryAtMs = 0;
    }
    return endpoint;
  }

  function remove(endpoint: Endpoint): void {
    endpoint.gone = true;
    endpoints.delete(endpoint.name);
    for (const version of [endpoint.champion, endpoint.challenger]) if (version !== undefined) release(version.served);
    endpoint.champion = undefined;
    endpoint.challenger = undefined;
    deps.log('info', 'endpoint removed', { endpoint: endpoint.name });
    deps.onChange();
  }

  function work(endpoint: Endpoint): Promise<void> {
    endpoint.work ??= bringIntoService(endpoint).finally(() => {
      endpoint.work = undefined;
    });
    return endpoint.work;
  }

  const versionsOf = (name: string): ServingVersion[] => {
    const endpoint = endpoints.get(name);
    return endpoint === undefined ? [] : [endpoint.champion, endpoint.challenger].filter((v) => v !== undefined);
  };

  return {
    async apply(routes, complete) {
      const wanted = routes.map(want);
      if (complete) {
        const names = new Set(routes.map((route) => route.endpoint));
        for (const endpoint of [...endpoints.values()]) if (!names.has(endpoint.name)) remove(endpoint);
      }
      await Promise.all(wanted.map(work));
    },
    pick(name, requestId, version) {
      const endpoint = endpoints.get(name);
      if (endpoint === undefined) throw new MillraceError('ENDPOINT_NOT_FOUND', `There is no endpoint ${JSON.stringify(name)}.`);
      const { champion, challenger } = endpoint;
      if (champion === undefined) throw new MillraceError('ENDPOINT_NOT_READY', `The endpoint ${name} has no model loaded yet.`);
      if (version !== undefined) {
        if (champion.served.version === version) return champion;
        if (challenger?.served.version === version) return challenger;
        throw new MillraceError('NOT_FOUND', `Version ${version} is not in service at the endpoint ${name}.`, {
          fix: `In service: ${versionsOf(name)
            .map((v) => v.served.version)
            .join(', ')}.`,
        });
      }
      if (challenger === undefined || endpoint.challengerShare === 0 || now() >= endpoint.leaseUntilMs) return champion;
      return trafficBucket(requestId) < endpoint.challengerShare ? challenger : champion;
    },
    versionsOf,
    names: () => [...endpoints.keys()],
    isReady: (name) => endpoints.get(name)?.champion !== undefined,
    holding: () => [...endpoints.values()].flatMap((e) => (e.applied === undefined ? [] : [{ endpoint: e.name, epoch: e.applied.epoch }])),
    failures: () => [...endpoints.values()].flatMap((e) => (e.failure === undefined ? [] : [{ endpoint: e.name, epoch: e.wanted.epoch, error: e.failure }])),
    appliedRoutes: () => [...endpoints.values()].flatMap((e) => (e.applied === undefined ? [] : [e.applied])),
    async close() {
      const working = [...endpoints.values()].flatMap((e) => (e.work === undefined ? [] : [e.work]));
      for (const endpoint of [...endpoints.values()]) remove(endpoint);
      await Promise.all(working);
      await Promise.all(closing);
    },
  };
}
