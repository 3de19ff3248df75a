/**
 * Who answers each endpoint's requests on this server.
 *
 * Invariants:
 * 1. A version gets traffic only after it was loaded, checked and warmed; until then the one before answers.
 * 2. A swap is one assignment between two requests. The old version is freed after its last answer.
 * 3. A route with an older epoch than the last one seen changes nothing; one of the same epoch moves its lease on, and no more.
 * 4. `holding` names an epoch only when all versions of its route were loaded and checked here, and none of them has ended
 *    its process since. Those of an endpoint that nobody asked for a while may have left memory; the next request brings them back.
 * 5. A challenger answers only before its lease ends; nobody has to take it away. Nor does one that is in quarantine.
 * 6. One version with its rules is loaded once, however many endpoints and roles use it.
 * 7. An endpoint whose champion cannot be loaded, or is in quarantine, is answered by the champion before it, where one is known.
 * 8. Endpoints in a rollout stay in memory.
 */
import { type ErrorReport, MillraceError } from '../contracts/errors.ts';
import type { ChallengerBreak, Route, ServedVersion, StickyKey } from '../contracts/routes.ts';
import { type ChallengerBreaker, createChallengerBreaker } from './challenger-breaker.ts';
import { createLoadQueue } from './load-queue.ts';
import type { LoadedPredictor } from './loaded-predictor.ts';
import type { Heartbeat, RouteFailure, ServingLog } from './ports.ts';
import type { Blame } from './process-messages.ts';
import { keyBucket, trafficBucket } from './request-id.ts';
import type { KeptRoute } from './route-file.ts';
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
  readonly load: EndpointLoad;
}

/** What all versions of an endpoint share. */
export interface EndpointLoad {
  /** Requests that the endpoint is answering, whoever does. */
  inFlight: number;
  /** While a challenger has a share of the traffic: takes it back when the challenger's requests fail. */
  breaker: ChallengerBreaker | undefined;
}

/** A note of a breaker, before the server signs it. */
export type Break = Omit<ChallengerBreak, 'server'>;

export interface EndpointTable {
  /**
   * Takes the routes as they are now; `complete`: what is not among them is gone. Resolves when each is in service or failed.
   */
  apply(routes: readonly Route[], complete: boolean): Promise<void>;
  /** Takes the routes that were in service before this process started: they are loaded as far as memory goes, the others when asked for. */
  restore(routes: readonly KeptRoute[]): Promise<void>;
  /** Brings an endpoint's models back into memory: `done` settles when they are there, or could not be; undefined when nothing has to be waited for. */
  wake(endpoint: string): { readonly done: Promise<void>; readonly load: EndpointLoad } | undefined;
  /** `key`: what the client's requests stick by. @throws MillraceError ENDPOINT_NOT_FOUND, ENDPOINT_NOT_READY, or NOT_FOUND for a version that is not in service. */
  pick(endpoint: string, requestId: string, version?: number, key?: string): ServingVersion;
  /** The version that is to see a request which the champion answered; undefined when there is none. */
  shadowOf(version: ServingVersion, requestId: string): ServingVersion | undefined;
  /** Weighs challengers by what was counted of their requests; those that were taken out of traffic, each once. */
  takeBreaks(): readonly Break[];
  /** What a client's requests stick by in a test of versions; undefined when they go by their id. */
  stickyBy(endpoint: string): StickyKey | undefined;
  /** A predictor ended its process or hung: a challenger at once, a champion at the third time, it gets no traffic for a while, and its routes are not held. */
  quarantine(blame: Blame): void;
  /** Versions in service for an endpoint, the champion first. */
  versionsOf(endpoint: string): readonly ServingVersion[];
  /** Who is to answer, in memory or not. */
  championOf(endpoint: string): ServedVersion | undefined;
  names(): readonly string[];
  /** Whether requests are answered, if need be after the model was brought back into memory. */
  isReady(endpoint: string): boolean;
  holding(): Heartbeat['holding'];
  failures(): readonly RouteFailure[];
  /** Routes that were in service, to be kept for a start without the store. */
  kept(): readonly KeptRoute[];
  /** What is loaded: versions, and their bytes as estimated. */
  readonly memory: { readonly models: number; readonly bytes: number };
  close(): Promise<void>;
}

export interface EndpointTableDeps {
  /** Loads a version. `aside`: called, and waited for, before a part that needs this thread no more. */
  readonly load: (served: ServedVersion, aside: () => Promise<void>) => Promise<LoadedPredictor>;
  readonly figures: ServingFigures;
  readonly log: ServingLog;
  /** Called after a route came into service, failed or went. */
  readonly onChange: () => void;
  readonly now?: () => number;
  /** Most bytes of loaded versions; beyond it endpoints leave memory, the one asked longest ago first. Default: no bound. */
  readonly maxModelBytes?: number | undefined;
  /** Most loaded versions. Default: no bound. */
  readonly maxModels?: number | undefined;
}

interface Endpoint {
  readonly name: string;
  readonly load: EndpointLoad;
  wanted: Route;
  /** The route whose versions were all checked here; undefined while another one answers in its place. */
  applied: Route | undefined;
  /** What the next start begins with. */
  kept: Route | undefined;
  /** The champion that answered before the present one. */
  before: ServedVersion | undefined;
  champion: ServingVersion | undefined;
  challenger: ServingVersion | undefined;
  standby: readonly ServingVersion[];
  /** Of 10,000 requests. */
  challengerShare: number;
  challengerMode: 'share' | 'shadow';
  stickyBy: StickyKey | undefined;
  leaseUntilMs: number;
  failure: ErrorReport | undefined;
  failedTimes: number;
  retryAtMs: number;
  work: Promise<void> | undefined;
  /** A request waits for its models. */
  asked: boolean;
  /** It may start out of memory: its route was checked by an earlier process. */
  restored: boolean;
  gone: boolean;
  /** Grows with each request of any endpoint. */
  usedAt: number;
  breakTold: boolean;
  crashToldEpoch: number | undefined;
}

interface Loaded {
  readonly predictor: Promise<LoadedPredictor>;
  uses: number;
  bytes: number;
}

const FIRST_RETRY_MS = 1_000;
const MAX_RETRY_MS = 30_000;
/** Loads at once. A session is built on this thread, so that two at once would not be done earlier; and of one that fails it is known which. */
const LOADS_AT_ONCE = 1;
/** Loads at once on threads of their own: large models, whose files and sessions are in memory together for a moment. */
const THREADED_LOADS_AT_ONCE = 1;
/** A champion that ended its process so often gives way to the one before. A challenger does at once. */
const CHAMPION_CRASHES = 3;

const sameRoute = (a: Route | undefined, b: Route): boolean => a !== undefined && JSON.stringify(a) === JSON.stringify(b);
const withoutLease = (route: Route): Route => (route.challenger === null ? route : { ...route, challenger: { ...route.challenger, leaseUntil: '' } });
const isRenewal = (from: Route, to: Route): boolean => from.epoch === to.epoch && sameRoute(withoutLease(from), withoutLease(to));
const leaseEnd = (route: Route): number => (route.challenger === null ? 0 : Date.parse(route.challenger.leaseUntil));

/** What is loaded once: a predictor, with the rules of decision that it is served with. */
const loadKey = ({ predictor, decisions }: ServedVersion): string => (decisions === undefined ? predictor : `${predictor} ${decisions}`);

/** Asked again after a wait: it may have changed meanwhile. */
const isGone = (endpoint: Endpoint): boolean => endpoint.gone;
const versionsIn = (endpoint: Endpoint): ServingVersion[] => [endpoint.champion, endpoint.challenger, ...endpoint.standby].filter((v) => v !== undefined);

export function createEndpointTable(deps: EndpointTableDeps): EndpointTable {
  const now = deps.now ?? Date.now;
  const endpoints = new Map<string, Endpoint>();
  const loaded = new Map<string, Loaded>();
  const closing = new Set<Promise<void>>();
  const quarantined = new Map<string, Blame>();
  const crashed: Break[] = [];
  const loads = createLoadQueue(LOADS_AT_ONCE, THREADED_LOADS_AT_ONCE);
  let bytes = 0;
  let uses = 0;

  /** A load that comes to its turn has to be for somebody: its endpoint may be gone by then, or have another route. */
  function requireWanted(key: string): void {
    for (const { wanted, kept, before } of endpoints.values()) {
      const versions = [wanted.champion, wanted.challenger?.version, ...(wanted.standby ?? []), kept?.champion, before];
      if (versions.some((served) => served !== undefined && loadKey(served) === key)) return;
    }
    throw new MillraceError('CONFLICT', 'Nobody wants the version any more.');
  }

  function acquire(served: ServedVersion): Promise<LoadedPredictor> {
    const key = loadKey(served);
    let entry = loaded.get(key);
    if (entry === undefined) {
      const turn = loads.run(key, async (aside) => {
        requireWanted(key);
        return deps.load(served, async () => {
          await aside();
          requireWanted(key);
        });
      });
      const fresh: Loaded = { predictor: turn, uses: 0, bytes: 0 };
      fresh.predictor.then(
        (predictor) => {
          fresh.bytes = predictor.memoryBytes;
          if (loaded.get(key) === fresh) bytes += fresh.bytes;
        },
        () => undefined,
      );
      loaded.set(key, fresh);
      entry = fresh;
    }
    entry.uses += 1;
    return entry.predictor;
  }

  function release(served: ServedVersion): void {
    const key = loadKey(served);
    const entry = loaded.get(key);
    if (entry === undefined) return;
    entry.uses -= 1;
    if (entry.uses > 0) return;
    loaded.delete(key);
    bytes -= entry.bytes;
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

  /** Why a version gets no traffic here now; undefined when it may. */
  function quarantineOf(served: ServedVersion, champion: boolean): ErrorReport | undefined {
    const entry = quarantined.get(served.predictor);
    if (entry === undefined || (champion && entry.times < CHAMPION_CRASHES)) return undefined;
    if (now() < entry.untilMs) return entry.reason;
    quarantined.delete(served.predictor);
    return undefined;
  }

  /** A challenger that ends processes is a challenger that fails: the rollout is told as of one whose requests fail. */
  function noteCrash(endpoint: Endpoint, { model, version }: ServedVersion, reason: ErrorReport): void {
    if (endpoint.crashToldEpoch === endpoint.wanted.epoch) return;
    endpoint.crashToldEpoch = endpoint.wanted.epoch;
    crashed.push({
      endpoint: endpoint.name,
      model,
      version,
      epoch: endpoint.wanted.epoch,
      at: new Date(now()).toISOString(),
      reason: reason.message,
      figures: {},
    });
  }

  async function acquireVersion(endpoint: Endpoint, route: Route, served: ServedVersion, challenger: boolean): Promise<ServingVersion> {
    const reason = quarantineOf(served, served === route.champion);
    if (reason !== undefined) {
      if (challenger) noteCrash(endpoint, served, reason);
      throw new MillraceError('MODEL_CRASHED', reason.message);
    }
    try {
      const predictor = await acquire(served);
      return {
        endpoint: route.endpoint,
        served,
        challenger,
        predictor,
        figures: deps.figures.of(route.endpoint, served),
        log: route.log,
        load: endpoint.load,
      };
    } catch (error) {
      release(served);
      throw error;
    }
  }

  function swap(endpoint: Endpoint, route: Route, champion: ServingVersion, challenger: ServingVersion | undefined, standby: readonly ServingVersion[]): void {
    const old = versionsIn(endpoint);
    const before = endpoint.challenger;
    endpoint.champion = champion;
    endpoint.challenger = challenger;
    endpoint.standby = standby;
    endpoint.challengerShare = Math.round((route.challenger?.percent ?? 0) * 100);
    endpoint.challengerMode = route.challenger?.mode ?? 'share';
    endpoint.stickyBy = route.challenger?.stickyBy;
    endpoint.leaseUntilMs = leaseEnd(route);
    setBreaker(endpoint, before);
    for (const version of old) release(version.served);
  }

  /** One breaker a rollout: steps of the same challenger's share keep it. */
  function setBreaker(endpoint: Endpoint, before: ServingVersion | undefined): void {
    const { challenger, load } = endpoint;
    if (challenger === undefined || endpoint.challengerMode === 'shadow') load.breaker = undefined;
    else if (load.breaker === undefined || before === undefined || loadKey(before.served) !== loadKey(challenger.served)) {
      load.breaker = createChallengerBreaker(now());
      endpoint.breakTold = false;
    }
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

  const isFull = (): boolean => loaded.size >= (deps.maxModels ?? Number.POSITIVE_INFINITY) || bytes >= (deps.maxModelBytes ?? Number.POSITIVE_INFINITY);
  const isOver = (): boolean => loaded.size > (deps.maxModels ?? Number.POSITIVE_INFINITY) || bytes > (deps.maxModelBytes ?? Number.POSITIVE_INFINITY);

  /** Takes endpoints out of memory until the bound holds: those asked longest ago first, never one in a rollout or at work. */
  function makeRoom(needed: Endpoint): void {
    while (isOver()) {
      let oldest: Endpoint | undefined;
      for (const endpoint of endpoints.values()) {
        const idle =
          endpoint !== needed &&
          endpoint.champion !== undefined &&
          endpoint.applied === endpoint.wanted &&
          endpoint.wanted.challenger === null &&
          endpoint.standby.length === 0 &&
          endpoint.work === undefined;
        if (idle && (oldest === undefined || endpoint.usedAt < oldest.usedAt)) oldest = endpoint;
      }
      if (oldest === undefined) return;
      takeOut(oldest);
    }
  }

  const needsWork = (endpoint: Endpoint): boolean => endpoint.applied !== endpoint.wanted || (endpoint.asked && endpoint.champion === undefined);

  async function settled<T>(promise: Promise<T> | undefined): Promise<PromiseSettledResult<T> | undefined> {
    return promise === undefined ? undefined : (await Promise.allSettled([promise]))[0];
  }

  async function bringIntoService(endpoint: Endpoint): Promise<void> {
    while (!endpoint.gone && needsWork(endpoint) && now() >= endpoint.retryAtMs) {
      const route = endpoint.wanted;
      const changed = endpoint.applied !== route;
      if (endpoint.restored && !endpoint.asked && route.challenger === null && isFull()) {
        endpoint.applied = route;
        endpoint.restored = false;
        break;
      }
      const [champion, challenger, ...standby] = await Promise.all([
        settled(acquireVersion(endpoint, route, route.champion, false)),
        settled(route.challenger === null ? undefined : acquireVersion(endpoint, route, route.challenger.version, true)),
        ...(route.standby ?? []).map((served) => settled(acquireVersion(endpoint, route, served, false))),
      ]);
      const outcomes = [champion, challenger, ...standby].filter((outcome) => outcome !== undefined);
      const ready = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
      const releaseAll = (versions: readonly (ServingVersion | undefined)[]): void => {
        for (const version of versions) if (version !== undefined) release(version.served);
      };
      const first = champion?.status === 'fulfilled' ? champion.value : undefined;
      if (isGone(endpoint)) releaseAll(ready);
      else if (first !== undefined && ready.length === outcomes.length) {
        const second = challenger?.status === 'fulfilled' ? challenger.value : undefined;
        if (endpoint.kept !== undefined && endpoint.kept.champion.predictor !== route.champion.predictor) endpoint.before = endpoint.kept.champion;
        swap(
          endpoint,
          route,
          first,
          second,
          ready.filter((version) => version !== first && version !== second),
        );
        endpoint.applied = route;
        endpoint.kept = route;
        endpoint.restored = false;
        endpoint.failure = undefined;
        endpoint.failedTimes = 0;
        makeRoom(endpoint);
        if (changed)
          deps.log('info', 'route in service', {
            endpoint: route.endpoint,
            epoch: route.epoch,
            version: route.champion.version,
            challenger: route.challenger?.version.version,
          });
      } else {
        const failed = outcomes.find((outcome) => outcome.status === 'rejected');
        // Without anybody to answer, the champion alone is better than nothing; the epoch is not held all the same.
        if (first !== undefined && endpoint.champion === undefined) {
          swap(endpoint, { ...route, challenger: null }, first, undefined, []);
          releaseAll(ready.filter((version) => version !== first));
        } else releaseAll(ready);
        if (endpoint.champion === undefined && endpoint.wanted === route) await fallBack(endpoint, route);
        // A newer route came meanwhile: it is tried at once, and the old one's failure is nobody's concern.
        if (endpoint.wanted === route) fail(endpoint, route, failed?.reason);
      }
      endpoint.asked = false;
      if (changed || endpoint.failure !== undefined) deps.onChange();
    }
  }

  /** Lets the champion before answer, where one is known that can. */
  async function fallBack(endpoint: Endpoint, route: Route): Promise<void> {
    const candidates = [endpoint.kept?.champion, endpoint.before].filter((served) => served !== undefined && served.predictor !== route.champion.predictor);
    for (const served of candidates) {
      if (served === undefined) continue;
      const version = await acquireVersion(endpoint, route, served, false).catch((error: unknown) => {
        deps.log('warn', 'the version before cannot answer either', { endpoint: endpoint.name, version: served.version, error: String(error) });
        return undefined;
      });
      if (version === undefined) continue;
      if (isGone(endpoint)) {
        release(served);
        return;
      }
      swap(endpoint, { ...route, challenger: null }, version, undefined, []);
      deps.log('warn', 'the version before answers', { endpoint: endpoint.name, version: served.version });
      return;
    }
  }

  function want(route: Route): Endpoint {
    let endpoint = endpoints.get(route.endpoint);
    if (endpoint === undefined) {
      endpoint = {
        name: route.endpoint,
        load: { inFlight: 0, breaker: undefined },
        breakTold: false,
        crashToldEpoch: undefined,
        wanted: route,
        applied: undefined,
        kept: undefined,
        before: undefined,
        champion: undefined,
        challenger: undefined,
        standby: [],
        challengerShare: 0,
        challengerMode: 'share',
        stickyBy: undefined,
        leaseUntilMs: 0,
        failure: undefined,
        failedTimes: 0,
        retryAtMs: 0,
        work: undefined,
        asked: false,
        restored: false,
        gone: false,
        usedAt: 0,
      };
      endpoints.set(route.endpoint, endpoint);
    } else if (isRenewal(endpoint.wanted, route)) {
      if (leaseEnd(route) > leaseEnd(endpoint.wanted)) renew(endpoint, route);
    } else if (route.epoch >= endpoint.wanted.epoch) {
      endpoint.wanted = route;
      endpoint.failedTimes = 0;
      endpoint.retryAtMs = 0;
    }
    return endpoint;
  }

  function renew(endpoint: Endpoint, route: Route): void {
    if (endpoint.applied === endpoint.wanted) {
      endpoint.applied = route;
      endpoint.leaseUntilMs = leaseEnd(route);
    }
    if (endpoint.kept === endpoint.wanted) endpoint.kept = route;
    endpoint.wanted = route;
  }

  function takeOut(endpoint: Endpoint): void {
    for (const version of versionsIn(endpoint)) release(version.served);
    endpoint.champion = undefined;
    endpoint.challenger = undefined;
    endpoint.standby = [];
    endpoint.load.breaker = undefined;
  }

  function remove(endpoint: Endpoint): void {
    endpoint.gone = true;
    endpoints.delete(endpoint.name);
    takeOut(endpoint);
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
    return endpoint === undefined ? [] : versionsIn(endpoint);
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
    async restore(routes) {
      const wanted = routes.map(({ route, before }) => {
        const endpoint = want(route);
        endpoint.kept = route;
        endpoint.before = before;
        endpoint.restored = true;
        return endpoint;
      });
      // One after the other: whether there is room for the next is known only then.
      for (const endpoint of wanted) await work(endpoint);
    },
    wake(name) {
      const endpoint = endpoints.get(name);
      if (endpoint === undefined || endpoint.champion !== undefined) return undefined;
      if (endpoint.work === undefined && now() < endpoint.retryAtMs) return undefined;
      endpoint.asked = true;
      const done = work(endpoint);
      loads.hurry(loadKey(endpoint.wanted.champion));
      return { done, load: endpoint.load };
    },
    pick(name, requestId, version, key) {
      const endpoint = endpoints.get(name);
      if (endpoint === undefined) throw new MillraceError('ENDPOINT_NOT_FOUND', `There is no endpoint ${JSON.stringify(name)}.`);
      const { champion, challenger } = endpoint;
      if (champion === undefined)
        throw new MillraceError(
          'ENDPOINT_NOT_READY',
          endpoint.failure === undefined
            ? `The endpoint ${name} has no model loaded yet.`
            : `The endpoint ${name} has no model that can answer: ${endpoint.failure.message}`,
        );
      uses += 1;
      endpoint.usedAt = uses;
      if (version !== undefined) {
        if (champion.served.version === version) return champion;
        const other = versionsIn(endpoint).find((v) => v.served.version === version);
        if (other !== undefined) return other;
        throw new MillraceError('NOT_FOUND', `Version ${version} is not in service at the endpoint ${name}.`, {
          fix: `In service: ${versionsOf(name)
            .map((v) => v.served.version)
            .join(', ')}.`,
        });
      }
      if (challenger === undefined || endpoint.challengerShare === 0 || endpoint.challengerMode === 'shadow' || now() >= endpoint.leaseUntilMs) return champion;
      if (endpoint.load.breaker?.broken !== undefined) return champion;
      const bucket = endpoint.stickyBy === undefined || key === undefined ? trafficBucket(requestId) : keyBucket(name, key);
      return bucket < endpoint.challengerShare ? challenger : champion;
    },
    shadowOf({ endpoint: name, challenger }, requestId) {
      const endpoint = endpoints.get(name);
      if (challenger || endpoint?.challenger === undefined || endpoint.challengerMode !== 'shadow' || now() >= endpoint.leaseUntilMs) return undefined;
      return trafficBucket(requestId) < endpoint.challengerShare ? endpoint.challenger : undefined;
    },
    takeBreaks() {
      const breaks: Break[] = crashed.splice(0);
      for (const endpoint of endpoints.values()) {
        const { challenger, load, wanted } = endpoint;
        if (challenger === undefined || load.breaker?.look(now()) !== true || load.breaker.broken === undefined || endpoint.breakTold) continue;
        endpoint.breakTold = true;
        const { reason, figures } = load.breaker.broken;
        const { model, version } = challenger.served;
        deps.log('warn', 'a challenger gets no more traffic here', { endpoint: endpoint.name, version, reason, ...figures });
        breaks.push({ endpoint: endpoint.name, model, version, epoch: wanted.epoch, at: new Date(now()).toISOString(), reason, figures });
      }
      return breaks;
    },
    stickyBy: (name) => endpoints.get(name)?.stickyBy,
    quarantine(blame) {
      const { predictor, reason } = blame;
      quarantined.set(predictor, blame);
      for (const endpoint of endpoints.values()) {
        const { champion, challenger } = endpoint;
        const rests = versionsIn(endpoint).filter((v) => v.served.predictor === predictor && quarantineOf(v.served, v === champion) !== undefined);
        const [first] = rests;
        if (first === undefined) continue;
        if (champion !== undefined && rests.includes(champion)) takeOut(endpoint);
        else {
          if (challenger !== undefined && rests.includes(challenger)) {
            endpoint.challenger = undefined;
            endpoint.load.breaker = undefined;
            noteCrash(endpoint, challenger.served, reason);
          }
          endpoint.standby = endpoint.standby.filter((v) => !rests.includes(v));
          for (const { served } of rests) release(served);
        }
        endpoint.applied = undefined;
        endpoint.failure = reason;
        deps.log('error', 'a version gets no traffic for a while', { endpoint: endpoint.name, version: first.served.version, message: reason.message });
        deps.onChange();
        void work(endpoint);
      }
    },
    versionsOf,
    championOf: (name) => endpoints.get(name)?.applied?.champion,
    names: () => [...endpoints.keys()],
    isReady(name) {
      const endpoint = endpoints.get(name);
      return endpoint !== undefined && (endpoint.champion !== undefined || (endpoint.applied !== undefined && endpoint.failure === undefined));
    },
    holding: () => [...endpoints.values()].flatMap((e) => (e.applied === undefined ? [] : [{ endpoint: e.name, epoch: e.applied.epoch }])),
    failures: () => [...endpoints.values()].flatMap((e) => (e.failure === undefined ? [] : [{ endpoint: e.name, epoch: e.wanted.epoch, error: e.failure }])),
    kept: () =>
      [...endpoints.values()].flatMap(({ kept, before }) => (kept === undefined ? [] : [{ route: kept, ...(before === undefined ? {} : { before }) }])),
    get memory() {
      return { models: loaded.size, bytes };
    },
    async close() {
      const working = [...endpoints.values()].flatMap((e) => (e.work === undefined ? [] : [e.work]));
      for (const endpoint of [...endpoints.values()]) remove(endpoint);
      await Promise.all(working);
      await Promise.all(closing);
    },
  };
}
