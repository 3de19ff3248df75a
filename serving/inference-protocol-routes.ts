import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { MillraceError } from '../contracts/errors.ts';
import { answeredClass } from './answer-text.ts';
import type { WriteRow } from './batcher.ts';
import type { ServingVersion } from './endpoint-table.ts';
import { markReply } from './http-errors.ts';
import { COLUMN_DATATYPES, readInferRows } from './infer-inputs.ts';
import { completeRows, failPrediction, keyOf, type PredictionRoutesDeps, whenAwake } from './predict-route.ts';
import { countAnswered, type Prediction } from './prediction.ts';
import { isRequestId } from './request-id.ts';
import { type OutputTensor, parseInferRequest, writeInferResponse } from './tensors.ts';

export interface InferenceProtocolDeps extends PredictionRoutesDeps {
  /** Whether the server takes requests: its routes were read, and it is not about to stop. */
  readonly isReady: () => boolean;
  readonly serverVersion: string;
}

interface ModelParams {
  endpoint: string;
  version?: string;
}

function versionNumber(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new MillraceError('NOT_FOUND', `${JSON.stringify(text)} is not a version number.`);
  return Number(text);
}

function describeModel(endpoint: string, version: ServingVersion, all: readonly ServingVersion[]): Record<string, unknown> {
  const { signature, outputWidth, lookups } = version.predictor;
  const { task } = signature;
  const width = task.kind === 'regression' ? 1 : task.kind === 'raw' ? outputWidth || -1 : task.classes.length;
  return {
    name: endpoint,
    versions: all.map((v) => String(v.served.version)),
    platform: 'millrace',
    inputs: signature.columns.map(({ name, type }) => ({ name, datatype: COLUMN_DATATYPES[type], shape: [-1] })),
    outputs: outputNames(version).map((name) =>
      name === 'output' ? { name, datatype: 'FP32', shape: [-1, width] } : { name, datatype: 'BYTES', shape: [-1] },
    ),
    parameters: {
      model: version.served.model,
      version: version.served.version,
      task: task.kind,
      ...('classes' in task ? { classes: task.classes } : {}),
      ...(lookups.length === 0
        ? {}
        : { lookups: lookups.map(({ view, key, features }) => ({ view, by: key?.columns.map(({ name }) => name) ?? [], columns: Object.keys(features) })) }),
    },
  };
}

const outputNames = ({ predictor: { signature, decider } }: ServingVersion): readonly string[] => [
  'output',
  ...('classes' in signature.task ? ['label'] : []),
  ...(decider === undefined ? [] : ['action']),
];

function outputTensors(version: ServingVersion, prediction: Prediction): readonly OutputTensor[] {
  const { signature } = version.predictor;
  const { output, firstRow, texts, decisions } = prediction;
  const rows = texts.length;
  const values = Array.from({ length: rows * output.width }, (_, i) => output.values[firstRow * output.width + i] ?? Number.NaN);
  const tensors: OutputTensor[] = [
    { name: 'output', datatype: 'FP32', shape: [rows, output.width], values, json: () => texts.map((row) => row.join(',')).join(',') },
  ];
  if ('classes' in signature.task) {
    const { classes } = signature.task;
    const labels = texts.map((_, row) => classes[answeredClass(signature, values, row * output.width, output.width)] ?? '');
    tensors.push({ name: 'label', datatype: 'BYTES', shape: [rows], values: labels, json: () => labels.map((label) => JSON.stringify(label)).join(',') });
  }
  if (decisions !== undefined)
    tensors.push({
      name: 'action',
      datatype: 'BYTES',
      shape: [rows],
      values: decisions.map(({ action }) => action),
      json: () => decisions.map(({ text }) => text).join(','),
    });
  return tensors;
}

/** The endpoints of the Open Inference Protocol v2. */
export function addInferenceProtocolRoutes(app: FastifyInstance, deps: InferenceProtocolDeps): void {
  const answer = (request: FastifyRequest, reply: FastifyReply, code: number, body: Record<string, unknown>, version?: ServingVersion): void => {
    markReply(reply, request.id, version);
    void reply.code(code).send(body);
  };

  app.get('/v2', (request, reply) => {
    answer(request, reply, 200, { name: 'millrace', version: deps.serverVersion, extensions: ['binary_tensor_data'] });
  });
  app.get('/v2/health/live', (request, reply) => {
    answer(request, reply, 200, { live: true });
  });
  app.get('/v2/health/ready', (request, reply) => {
    const ready = deps.isReady();
    answer(request, reply, ready ? 200 : 503, { ready });
  });
  app.get('/v2/models', (request, reply) => {
    answer(request, reply, 200, {
      models: deps.table
        .names()
        .map((name) => ({ name, ready: deps.table.isReady(name), versions: deps.table.versionsOf(name).map((v) => String(v.served.version)) })),
    });
  });

  const describe = (request: FastifyRequest<{ Params: ModelParams }>, reply: FastifyReply): void => {
    const { endpoint } = request.params;
    whenAwake(deps, endpoint, request, reply, performance.now(), () => {
      const version = deps.table.pick(endpoint, '', versionNumber(request.params.version));
      answer(request, reply, 200, describeModel(endpoint, version, deps.table.versionsOf(endpoint)), version);
    });
  };
  app.get('/v2/models/:endpoint', describe);
  app.get('/v2/models/:endpoint/versions/:version', describe);

  const ready = (request: FastifyRequest<{ Params: ModelParams }>, reply: FastifyReply): void => {
    const { endpoint } = request.params;
    if (!deps.table.names().includes(endpoint)) throw new MillraceError('ENDPOINT_NOT_FOUND', `There is no endpoint ${JSON.stringify(endpoint)}.`);
    const wanted = versionNumber(request.params.version);
    const version = deps.table.versionsOf(endpoint).find((v) => wanted === undefined || v.served.version === wanted);
    // One that left memory is loaded when it is asked.
    const isReady = version !== undefined || (deps.table.isReady(endpoint) && (wanted === undefined || deps.table.championOf(endpoint)?.version === wanted));
    answer(request, reply, isReady ? 200 : 503, { name: endpoint, ready: isReady }, version);
  };
  app.get('/v2/models/:endpoint/ready', ready);
  app.get('/v2/models/:endpoint/versions/:version/ready', ready);

  const infer = (request: FastifyRequest<{ Params: ModelParams }>, reply: FastifyReply): void => {
    const startedMs = performance.now();
    whenAwake(deps, request.params.endpoint, request, reply, startedMs, () => {
      inferAwake(request, reply, startedMs);
    });
  };
  function inferAwake(request: FastifyRequest<{ Params: ModelParams }>, reply: FastifyReply, startedMs: number): void {
    let version: ServingVersion | undefined;
    let count = 0;
    try {
      const { endpoint } = request.params;
      const header = request.headers['inference-header-content-length'];
      if (!Buffer.isBuffer(request.body)) throw new MillraceError('INVALID_REQUEST', undefined, { problems: [{ path: 'body', message: 'is missing' }] });
      const wanted = versionNumber(request.params.version);
      // The endpoint is looked up before the body is read: an unknown one is the first thing to be told.
      version = deps.table.pick(endpoint, request.id, wanted);
      const inference = parseInferRequest(request.body, header === undefined ? undefined : Number(header));
      if (inference.id !== undefined && inference.id !== '' && !isRequestId(inference.id)) {
        throw new MillraceError('INVALID_REQUEST', undefined, {
          problems: [{ path: 'id', message: 'must have at most 128 letters, digits, or any of . _ : -' }],
        });
      }
      const requestId = inference.id === undefined || inference.id === '' ? request.id : inference.id;
      const by = wanted === undefined ? deps.table.stickyBy(endpoint) : undefined;
      const key = by === undefined ? undefined : keyOf(by, request, (column) => inference.inputs.find(({ name }) => name === column)?.values[0]);
      const chosen = requestId === request.id && key === undefined ? version : deps.table.pick(endpoint, requestId, wanted, key);
      version = chosen;
      const known = outputNames(chosen);
      const unknown = inference.outputs?.filter(({ name }) => !known.includes(name)) ?? [];
      if (unknown.length > 0)
        throw new MillraceError('INVALID_REQUEST', undefined, {
          problems: unknown.map(({ name }) => ({ path: `outputs.${name}`, message: `there is no such output; there is ${known.join(', ')}` })),
        });
      const given = readInferRows(inference.inputs, chosen.predictor);
      const { rows } = given;
      count = rows;
      const predict = (write: WriteRow, valuesOf: (row: number) => Readonly<Record<string, unknown>> | undefined): void => {
        deps.predictor.predict(
          { requestId, version: chosen, rows, write, startedMs, key, logged: (row) => ({ values: valuesOf(row), text: undefined }) },
          (error, prediction) => {
            if (error !== undefined || prediction === undefined) {
              failPrediction(deps, request, reply, error, chosen, count, startedMs);
              return;
            }
            const tensors = outputTensors(chosen, prediction);
            const wantedOutputs = inference.outputs ?? tensors.map(({ name }) => ({ name, binary: inference.binaryOutputs }));
            const outputs = wantedOutputs.flatMap(({ name, binary }) => {
              const tensor = tensors.find((t) => t.name === name);
              return tensor === undefined ? [] : [{ tensor, binary }];
            });
            const head = `"model_name":${JSON.stringify(endpoint)},"model_version":"${chosen.served.version}","id":"${requestId}","parameters":{"model":${JSON.stringify(chosen.served.model)}}`;
            const { body, headerBytes } = writeInferResponse(head, outputs);
            markReply(reply, requestId, chosen);
            if (headerBytes === undefined) void reply.header('content-type', 'application/json; charset=utf-8');
            else void reply.header('content-type', 'application/octet-stream').header('inference-header-content-length', String(headerBytes));
            void reply.send(body);
            countAnswered(chosen, 200, count, startedMs);
            const shadow = given.packed || wanted !== undefined ? undefined : deps.table.shadowOf(chosen, requestId);
            if (shadow === undefined) return;
            const mirrored = Array.from({ length: rows }, (_, row) => given.valuesOf(row));
            deps.shadow.mirror({ requestId, champion: chosen, shadow, rows: mirrored, prediction });
          },
        );
      };
      // Rows by name cost an object each: only where something may have to be filled in.
      const completable = deps.online !== undefined && chosen.predictor.completer !== undefined && !given.packed;
      const named = completable ? Array.from({ length: rows }, (_, row) => given.valuesOf(row)) : [];
      completeRows(
        deps,
        chosen,
        named,
        startedMs,
        (complete) => {
          if (complete === named) predict(given.write, given.valuesOf);
          else
            predict(
              (row, packed, at) => chosen.predictor.row.read(complete[row], row, packed, at),
              (row) => complete[row] as Readonly<Record<string, unknown>>,
            );
        },
        (error) => {
          failPrediction(deps, request, reply, error, chosen, count, startedMs);
        },
      );
    } catch (error) {
      failPrediction(deps, request, reply, error, version, count, startedMs);
    }
  }
  app.post('/v2/models/:endpoint/infer', infer);
  app.post('/v2/models/:endpoint/versions/:version/infer', infer);
}
