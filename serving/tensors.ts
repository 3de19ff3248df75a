/**
 * Tensors of the Open Inference Protocol v2 and of its binary tensor extension
 * (https://github.com/kserve/open-inference-protocol, https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md).
 */
import { z } from 'zod';
import { MillraceError, type Problem } from '../contracts/errors.ts';

export const DATATYPES = ['BOOL', 'UINT8', 'UINT16', 'UINT32', 'UINT64', 'INT8', 'INT16', 'INT32', 'INT64', 'FP16', 'BF16', 'FP32', 'FP64', 'BYTES'] as const;
export type Datatype = (typeof DATATYPES)[number];

export interface InputTensor {
  readonly name: string;
  readonly datatype: Datatype;
  readonly shape: readonly number[];
  /** Row-major. Numbers, booleans, texts or nulls, as JSON or the binary form brought them; 64-bit integers may be bigint. */
  readonly values: readonly unknown[];
}

export interface RequestedOutput {
  readonly name: string;
  readonly binary: boolean;
}

export interface InferRequest {
  readonly id: string | undefined;
  readonly inputs: readonly InputTensor[];
  /** Undefined: all. */
  readonly outputs: readonly RequestedOutput[] | undefined;
  /** Whether outputs that do not say go out as bytes. */
  readonly binaryOutputs: boolean;
}

export interface OutputTensor {
  readonly name: string;
  readonly datatype: 'FP32' | 'BYTES';
  readonly shape: readonly number[];
  readonly values: ArrayLike<number> | readonly string[];
  /** The values as JSON, joined by commas. */
  readonly json: () => string;
}

const ParametersSchema = z.looseObject({
  binary_data_size: z.int().nonnegative().optional(),
  binary_data: z.boolean().optional(),
  binary_data_output: z.boolean().optional(),
});
const InferSchema = z.object({
  id: z.string().optional(),
  parameters: ParametersSchema.optional(),
  inputs: z
    .array(
      z.object({
        name: z.string(),
        datatype: z.enum(DATATYPES),
        shape: z.array(z.int().nonnegative()).min(1).max(8),
        parameters: ParametersSchema.optional(),
        data: z.array(z.unknown()).optional(),
      }),
    )
    .min(1),
  outputs: z.array(z.object({ name: z.string(), parameters: ParametersSchema.optional() })).optional(),
});

const ELEMENT_BYTES: Readonly<Record<Exclude<Datatype, 'BYTES'>, number>> = {
  BOOL: 1,
  UINT8: 1,
  INT8: 1,
  UINT16: 2,
  INT16: 2,
  FP16: 2,
  BF16: 2,
  UINT32: 4,
  INT32: 4,
  FP32: 4,
  UINT64: 8,
  INT64: 8,
  FP64: 8,
};
const MAX_ELEMENTS = 16 * 1024 * 1024;

/** IEEE 754 half precision. */
function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

const READERS: Readonly<Record<Exclude<Datatype, 'BYTES'>, (bytes: Buffer, at: number) => unknown>> = {
  BOOL: (b, at) => b.readUInt8(at) !== 0,
  UINT8: (b, at) => b.readUInt8(at),
  INT8: (b, at) => b.readInt8(at),
  UINT16: (b, at) => b.readUInt16LE(at),
  INT16: (b, at) => b.readInt16LE(at),
  FP16: (b, at) => halfToNumber(b.readUInt16LE(at)),
  BF16: (b, at) => {
    const wide = Buffer.alloc(4);
    wide.writeUInt16LE(b.readUInt16LE(at), 2);
    return wide.readFloatLE(0);
  },
  UINT32: (b, at) => b.readUInt32LE(at),
  INT32: (b, at) => b.readInt32LE(at),
  FP32: (b, at) => b.readFloatLE(at),
  UINT64: (b, at) => b.readBigUInt64LE(at),
  INT64: (b, at) => b.readBigInt64LE(at),
  FP64: (b, at) => b.readDoubleLE(at),
};

/** Reads a tensor's bytes; a text says what is wrong with them. */
export function readBinaryTensor(datatype: Datatype, bytes: Buffer, count: number): unknown[] | string {
  const values: unknown[] = [];
  if (datatype === 'BYTES') {
    let at = 0;
    while (at < bytes.length && values.length < count) {
      if (at + 4 > bytes.length) return 'the bytes end within a length';
      const length = bytes.readUInt32LE(at);
      if (at + 4 + length > bytes.length) return 'the bytes end within an element';
      values.push(bytes.toString('utf8', at + 4, at + 4 + length));
      at += 4 + length;
    }
    return values.length === count && at === bytes.length ? values : `the bytes do not hold exactly the ${count} elements of the shape`;
  }
  const size = ELEMENT_BYTES[datatype];
  if (bytes.length !== size * count) return `${size * count} bytes expected for ${count} elements of ${datatype}`;
  const read = READERS[datatype];
  for (let i = 0; i < count; i += 1) values.push(read(bytes, i * size));
  return values;
}

const invalid = (problems: readonly Problem[]): MillraceError => new MillraceError('INVALID_REQUEST', undefined, { problems });

/** A tensor's elements as JSON brought them: flat, or nested as the shape is. */
const flatten = (data: readonly unknown[]): readonly unknown[] => (data.some(Array.isArray) ? data.flat(8) : data);

/**
 * Reads an inference request. `headerBytes` is the length of the JSON at its start when tensors follow it as bytes.
 *
 * @throws MillraceError INVALID_REQUEST with each tensor that does not fit.
 */
export function parseInferRequest(body: Buffer, headerBytes: number | undefined): InferRequest {
  if (headerBytes !== undefined && (!Number.isInteger(headerBytes) || headerBytes < 0 || headerBytes > body.length)) {
    throw invalid([
      { path: 'Inference-Header-Content-Length', message: 'must be the length of the JSON at the start of the body', found: String(headerBytes) },
    ]);
  }
  let json: unknown;
  try {
    json = JSON.parse(body.toString('utf8', 0, headerBytes ?? body.length));
  } catch {
    throw invalid([
      {
        path: 'body',
        message: 'is not JSON',
        ...(headerBytes === undefined ? { fix: 'With binary tensors, the header Inference-Header-Content-Length is needed.' } : {}),
      },
    ]);
  }
  const parsed = InferSchema.safeParse(json);
  if (!parsed.success) throw invalid(parsed.error.issues.map((issue) => ({ path: issue.path.join('.'), message: issue.message })));
  const problems: Problem[] = [];
  let at = headerBytes ?? body.length;
  const inputs = parsed.data.inputs.map(({ name, datatype, shape, parameters, data }): InputTensor => {
    const path = `inputs.${name}`;
    const count = shape.reduce((product, size) => product * size, 1);
    let values: readonly unknown[] = [];
    const size = parameters?.binary_data_size;
    if (count > MAX_ELEMENTS) problems.push({ path, message: `has more than ${MAX_ELEMENTS} elements`, found: shape.join(' × ') });
    else if (size !== undefined) {
      const read =
        at + size > body.length ? 'the body ends before the bytes of this tensor do' : readBinaryTensor(datatype, body.subarray(at, at + size), count);
      at += size;
      if (typeof read === 'string') problems.push({ path, message: read, found: `${size} bytes` });
      else values = read;
    } else if (data === undefined) problems.push({ path, message: 'has neither data nor binary_data_size' });
    else {
      values = flatten(data);
      if (values.length !== count) problems.push({ path, message: `${count} elements expected for shape [${shape.join(', ')}]`, found: String(values.length) });
    }
    return { name, datatype, shape, values };
  });
  if (problems.length === 0 && at !== body.length)
    problems.push({ path: 'body', message: 'has bytes that belong to no tensor', found: String(body.length - at) });
  if (problems.length > 0) throw invalid(problems);
  const binaryOutputs = parsed.data.parameters?.binary_data_output ?? false;
  return {
    id: parsed.data.id,
    inputs,
    outputs: parsed.data.outputs?.map((output) => ({ name: output.name, binary: output.parameters?.binary_data ?? binaryOutputs })),
    binaryOutputs,
  };
}

function binaryOf(tensor: OutputTensor): Buffer {
  if (tensor.datatype === 'FP32') {
    const bytes = Buffer.alloc(tensor.values.length * 4);
    for (let i = 0; i < tensor.values.length; i += 1) bytes.writeFloatLE(Number(tensor.values[i]), i * 4);
    return bytes;
  }
  return Buffer.concat(
    Array.from<number | string, Buffer>(tensor.values as ArrayLike<number | string>, (value) => {
      const content = Buffer.from(String(value), 'utf8');
      const head = Buffer.alloc(4);
      head.writeUInt32LE(content.length, 0);
      return Buffer.concat([head, content]);
    }),
  );
}

export interface InferResponse {
  readonly body: string | Buffer;
  /** Length of the JSON at the start; undefined when the body is JSON only. */
  readonly headerBytes: number | undefined;
}

/** Writes an inference response; `head` is the JSON of its other fields, without braces. */
export function writeInferResponse(head: string, outputs: readonly { readonly tensor: OutputTensor; readonly binary: boolean }[]): InferResponse {
  const bytes: Buffer[] = [];
  const texts = outputs.map(({ tensor, binary }) => {
    const common = `"name":${JSON.stringify(tensor.name)},"datatype":"${tensor.datatype}","shape":[${tensor.shape.join(',')}]`;
    if (!binary) return `{${common},"data":[${tensor.json()}]}`;
    const content = binaryOf(tensor);
    bytes.push(content);
    return `{${common},"parameters":{"binary_data_size":${content.length}}}`;
  });
  const json = `{${head},"outputs":[${texts.join(',')}]}`;
  if (bytes.length === 0) return { body: json, headerBytes: undefined };
  const start = Buffer.from(json, 'utf8');
  return { body: Buffer.concat([start, ...bytes]), headerBytes: start.length };
}
