import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import onnxProto from 'onnx-proto';
import type { FeatureLookup } from '../../contracts/feature-lookup.ts';
import type { ChallengerBreak, Route, ServedVersion, ServingStats } from '../../contracts/routes.ts';
import type { RowTransform } from '../../contracts/row-transforms.ts';
import type { Predictor, Signature } from '../../contracts/signature.ts';
import {
  floatTensor,
  int64Tensor,
  ONNX_TYPE,
  stringsAttribute,
  floatsAttribute,
  floatAttribute,
  valueInfo,
  intAttribute,
} from '../../ml/onnx/graph-builder.ts';
import type { Heartbeat, ServingLog } from '../../serving/ports.ts';
import { createPredictionServer, type PredictionServer, type PredictionServerDeps } from '../../serving/server.ts';
import { type Artifacts, createArtifacts } from '../../store/artifacts.ts';

const DAY_MS = 86_400_000;
const CODES: Readonly<Record<string, number>> = { ATL: 0.5, ORD: -0.25 };

export interface FlightRow {
  readonly distance: number | null;
  readonly seats: number | null;
  readonly origin: string | null;
  readonly departed: string;
}

export const FLIGHT: FlightRow = { distance: 0.4, seats: 0.2, origin: 'ATL', departed: '2001-01-02T00:00:00.000Z' };

/** What the test model computes: the probability of class `late`, in closed form. */
export function expectedProbability(row: FlightRow, bias: number): number {
  const days = Date.parse(row.departed) / DAY_MS / 10_000;
  const score = (row.distance ?? Number.NaN) - 2 * (row.seats ?? Number.NaN) + (CODES[row.origin ?? ''] ?? 0) + days + bias;
  return 1 / (1 + Math.exp(-score));
}

/**
 * A graph over two numbers, a date and a text; `bias` tells versions apart. A failing one loads, and looks its date (0 or 1) up in
 * a table of two. `cities`: so many texts more in its table, which makes a large model.
 */
export function flightModel(bias: number, { failing = false, cities = 0 }: { readonly failing?: boolean; readonly cities?: number } = {}): Uint8Array {
  const { onnx } = onnxProto;
  const texts = [...Object.keys(CODES), ...Array.from({ length: cities }, (_, i) => `city ${String(i)}`)];
  const node = (opType: string, input: string[], output: string, attribute: object[] = [], domain = ''): object => ({
    opType,
    input,
    output: [output],
    attribute,
    domain,
    name: output,
  });
  const model = onnx.ModelProto.create({
    irVersion: 8,
    opsetImport: [
      { domain: '', version: 17 },
      { domain: 'ai.onnx.ml', version: 3 },
    ],
    graph: {
      name: 'flights',
      input: [valueInfo('numbers', ONNX_TYPE.float, 2), valueInfo('dates', ONNX_TYPE.int64, 1), valueInfo('strings', ONNX_TYPE.string, 1)],
      output: [valueInfo('output', ONNX_TYPE.float, 2)],
      initializer: [
        floatTensor('weights', [2, 1], [1, -2]),
        floatTensor('bias', [1], [bias]),
        floatTensor('perDay', [1], [DAY_MS * 10_000]),
        floatTensor('one', [1], [1]),
        ...(failing ? [int64Tensor('axis', [1], [2])] : []),
      ],
      node: [
        node('MatMul', ['numbers', 'weights'], 'weighted'),
        node(
          'LabelEncoder',
          ['strings'],
          'coded',
          [
            stringsAttribute('keys_strings', texts),
            floatsAttribute('values_floats', [...Object.values(CODES), ...new Array<number>(cities).fill(0)]),
            floatAttribute('default_float', 0),
          ],
          'ai.onnx.ml',
        ),
        node('Cast', ['dates'], 'milliseconds', [intAttribute('to', ONNX_TYPE.float)]),
        node('Div', ['milliseconds', 'perDay'], 'days'),
        ...(failing ? [node('Gather', ['weights', 'dates'], 'beyond'), node('Squeeze', ['beyond', 'axis'], 'found')] : []),
        node('Sum', ['weighted', 'coded', 'days', 'bias', ...(failing ? ['found'] : [])], 'score'),
        node('Sigmoid', ['score'], 'late'),
        node('Sub', ['one', 'late'], 'onTime'),
        node('Concat', ['onTime', 'late'], 'output', [intAttribute('axis', 1)]),
      ],
    },
  });
  return onnx.ModelProto.encode(model).finish();
}

export const FLIGHT_SIGNATURE: Signature = {
  columns: [
    { name: 'distance', type: 'number' },
    { name: 'seats', type: 'number' },
    { name: 'origin', type: 'string' },
    { name: 'departed', type: 'timestamp' },
  ],
  transforms: [],
  graph: { numbers: ['distance', 'seats'], dates: ['departed'], strings: ['origin'] },
  task: { kind: 'binary', target: 'delayed', classes: ['on time', 'late'] },
  threshold: 0.5,
};

export interface PublishOptions {
  readonly model?: string;
  readonly bias?: number;
  readonly signature?: Partial<Signature>;
  readonly transforms?: readonly RowTransform[];
  /** Columns that requests may leave out. */
  readonly lookups?: readonly FeatureLookup[];
  /** Replaces the stored output, to make a version that fails its check. */
  readonly sampleOutput?: readonly (readonly number[])[];
  readonly sampleRows?: readonly Readonly<Record<string, unknown>>[];
  readonly bytes?: Uint8Array;
}

/** Puts a version of the test model into the artifact store. */
export async function publishVersion(artifacts: Artifacts, version: number, options: PublishOptions = {}): Promise<ServedVersion> {
  const bias = options.bias ?? version;
  const onnxFile = await artifacts.putBytes(options.bytes ?? flightModel(bias));
  const p = expectedProbability(FLIGHT, bias);
  const predictor: Predictor = {
    format: 'millrace-predictor/1',
    onnx: onnxFile.sha256,
    onnxSizeBytes: onnxFile.sizeBytes,
    signature: { ...FLIGHT_SIGNATURE, transforms: [...(options.transforms ?? [])], ...options.signature },
    trainer: { name: 'test', parameters: {} },
    trainingProfile: null,
    sample: { rows: [...(options.sampleRows ?? [{ ...FLIGHT }])], output: (options.sampleOutput ?? [[1 - p, p]]).map((row) => [...row]) },
    importance: [],
    unserved: {},
    lookups: [...(options.lookups ?? [])],
  };
  return { model: options.model ?? 'flight-delay', version, predictor: (await artifacts.putJson(predictor)).sha256 };
}

/** The store as a prediction server sees it, in memory; `down` makes every call fail, as a stopped Postgres does. */
export interface TestStore {
  routes: Route[];
  down: boolean;
  /** Tells the server that routes changed. */
  changed: () => void;
  readonly heartbeats: Heartbeat[];
  readonly stats: ServingStats[];
  readonly breaks: ChallengerBreak[];
  readonly left: string[];
}

export interface ServingBench {
  readonly home: string;
  readonly artifacts: Artifacts;
  readonly store: TestStore;
  readonly logLines: { readonly level: string; readonly message: string; readonly details: unknown }[];
  /** Starts a server over the folder; several may be started one after the other. */
  serve(overrides?: Partial<PredictionServerDeps>): Promise<{ readonly server: PredictionServer; readonly url: string }>;
  route(endpoint: string, epoch: number, champion: ServedVersion, more?: Partial<Route>): Route;
  /** Stops what was started and removes the folder. */
  close(): Promise<void>;
}

/** A state folder with an artifact store, and prediction servers over it. */
export async function openServingBench(): Promise<ServingBench> {
  const home = await mkdtemp(join(tmpdir(), 'millrace-serving-'));
  const artifacts = createArtifacts({ root: join(home, 'artifacts') });
  const servers: PredictionServer[] = [];
  const logLines: { level: string; message: string; details: unknown }[] = [];
  const log: ServingLog = (level, message, details) => logLines.push({ level, message, details });
  const listeners = new Set<() => void>();
  const store: TestStore = {
    routes: [],
    down: false,
    changed: () => {
      for (const listener of listeners) listener();
    },
    heartbeats: [],
    stats: [],
    breaks: [],
    left: [],
  };
  const answer = async <T>(value: () => T): Promise<T> => {
    await Promise.resolve();
    if (store.down) throw new Error('the database is down');
    return value();
  };
  let started = 0;
  return {
    home,
    artifacts,
    store,
    logLines,
    async serve(overrides = {}) {
      started += 1;
      const server = createPredictionServer({
        serverId: `test-${started}`,
        host: '127.0.0.1',
        port: 0,
        home,
        serverVersion: '0.0.0',
        routes: {
          listRoutes: () => answer(() => structuredClone(store.routes)),
          listen(onChange) {
            listeners.add(onChange);
            return {
              close() {
                listeners.delete(onChange);
                return Promise.resolve();
              },
            };
          },
        },
        registry: { heartbeat: (heartbeat) => answer(() => void store.heartbeats.push(heartbeat)), leave: (id) => answer(() => void store.left.push(id)) },
        stats: { add: (stats) => answer(() => void store.stats.push(...stats)), addBreak: (broken) => answer(() => void store.breaks.push(broken)) },
        artifacts,
        log,
        pollEveryMs: 100,
        drainMs: 20,
        ...overrides,
      });
      servers.push(server);
      const { url } = await server.start();
      return { server, url };
    },
    route: (endpoint, epoch, champion, more = {}) => ({ endpoint, epoch, champion, challenger: null, log: true, ...more }),
    async close() {
      for (const server of servers) await server.stop();
      await rm(home, { recursive: true, force: true });
    },
  };
}
