import { expect, test } from 'vitest';
import { type Datatype, parseInferRequest, readBinaryTensor, writeInferResponse } from '../../../serving/tensors.ts';

const bytes = (...values: number[]): Buffer => Buffer.from(values);

test.each<[Datatype, Buffer, unknown[]]>([
  ['BOOL', bytes(0, 1), [false, true]],
  ['UINT8', bytes(255), [255]],
  ['INT8', bytes(255), [-1]],
  ['UINT16', bytes(0xff, 0xff), [65_535]],
  ['INT16', bytes(0xfe, 0xff), [-2]],
  ['UINT32', bytes(0xff, 0xff, 0xff, 0xff), [4_294_967_295]],
  ['INT32', bytes(0xff, 0xff, 0xff, 0xff), [-1]],
  ['UINT64', bytes(1, 0, 0, 0, 0, 0, 0, 0x80), [2n ** 63n + 1n]],
  ['INT64', bytes(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), [-1n]],
  // IEEE 754: 0x3c00 is 1, 0xc500 is -5, 0x0001 is 2^-24, 0x7c00 is infinity.
  ['FP16', bytes(0x00, 0x3c, 0x00, 0xc5, 0x01, 0x00, 0x00, 0x7c), [1, -5, 2 ** -24, Number.POSITIVE_INFINITY]],
  // The upper half of a float32: 0x3f80 is 1, 0xc0a0 is -5.
  ['BF16', bytes(0x80, 0x3f, 0xa0, 0xc0), [1, -5]],
  ['FP32', bytes(0, 0, 0x20, 0x40), [2.5]],
  ['FP64', bytes(0, 0, 0, 0, 0, 0, 0x04, 0x40), [2.5]],
  ['BYTES', bytes(1, 0, 0, 0, 0x61, 0, 0, 0, 0, 2, 0, 0, 0, 0xc3, 0xbc), ['a', '', 'ü']],
])('elements of %s are read from little-endian bytes', (datatype, content, expected) => {
  expect(readBinaryTensor(datatype, content, expected.length)).toEqual(expected);
});

test.each<[Datatype, Buffer, number]>([
  ['FP32', bytes(0, 0, 0), 1],
  ['BYTES', bytes(9, 0, 0, 0, 0x61), 1],
  ['BYTES', bytes(1, 0), 1],
  ['BYTES', bytes(1, 0, 0, 0, 0x61, 0x62), 1],
  ['BYTES', bytes(1, 0, 0, 0, 0x61), 2],
])('bytes that do not hold the elements of %s are refused', (datatype, content, count) => {
  expect(readBinaryTensor(datatype, content, count)).toBeTypeOf('string');
});

test('a request may mix JSON and binary tensors, which follow the header in order', () => {
  const header = JSON.stringify({
    inputs: [
      { name: 'a', datatype: 'INT8', shape: [2], parameters: { binary_data_size: 2 } },
      { name: 'b', datatype: 'FP64', shape: [2, 1], data: [[1], [2]] },
      { name: 'c', datatype: 'UINT8', shape: [1], parameters: { binary_data_size: 1 } },
    ],
    outputs: [{ name: 'x', parameters: { binary_data: true } }, { name: 'y' }],
  });
  const request = parseInferRequest(Buffer.concat([Buffer.from(header), bytes(1, 2, 3)]), header.length);
  expect(request.inputs.map((i) => i.values)).toEqual([[1, 2], [1, 2], [3]]);
  expect(request.outputs).toEqual([
    { name: 'x', binary: true },
    { name: 'y', binary: false },
  ]);
});

test.each([
  ['a tensor longer than the body', { inputs: [{ name: 'a', datatype: 'INT8', shape: [2], parameters: { binary_data_size: 2 } }] }, bytes(1)],
  ['bytes that no tensor takes', { inputs: [{ name: 'a', datatype: 'INT8', shape: [1], parameters: { binary_data_size: 1 } }] }, bytes(1, 2)],
  ['a shape that the data does not fill', { inputs: [{ name: 'a', datatype: 'FP32', shape: [3], data: [1] }] }, bytes()],
  ['a shape too large to count', { inputs: [{ name: 'a', datatype: 'FP32', shape: [1e9, 1e9], data: [1] }] }, bytes()],
  ['an unknown datatype', { inputs: [{ name: 'a', datatype: 'FP8', shape: [1], data: [1] }] }, bytes()],
  ['no inputs', { inputs: [] }, bytes()],
])('%s is refused', (_, json, rest) => {
  const header = JSON.stringify(json);
  expect(() => parseInferRequest(Buffer.concat([Buffer.from(header), rest]), header.length)).toThrow(
    expect.objectContaining({ code: 'INVALID_REQUEST' }) as Error,
  );
});

test('outputs are written as JSON or as bytes after the JSON, each as it was asked for', () => {
  const { body, headerBytes } = writeInferResponse('"id":"1"', [
    { tensor: { name: 'p', datatype: 'FP32', shape: [1, 2], values: [0.25, 0.75], json: () => '0.25,0.75' }, binary: true },
    { tensor: { name: 'l', datatype: 'BYTES', shape: [1], values: ['ü'], json: () => '"ü"' }, binary: true },
    { tensor: { name: 'q', datatype: 'FP32', shape: [1], values: [1], json: () => '1' }, binary: false },
  ]);
  const whole = Buffer.from(body);
  expect(JSON.parse(whole.toString('utf8', 0, headerBytes))).toEqual({
    id: '1',
    outputs: [
      { name: 'p', datatype: 'FP32', shape: [1, 2], parameters: { binary_data_size: 8 } },
      { name: 'l', datatype: 'BYTES', shape: [1], parameters: { binary_data_size: 6 } },
      { name: 'q', datatype: 'FP32', shape: [1], data: [1] },
    ],
  });
  expect([...whole.subarray(headerBytes)]).toEqual([0, 0, 0x80, 0x3e, 0, 0, 0x40, 0x3f, 2, 0, 0, 0, 0xc3, 0xbc]);
});
