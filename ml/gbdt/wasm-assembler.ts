/**
 * Writes the little WebAssembly that the kernels need, straight from TypeScript: no compiler, no binary in the
 * repository. Each function returns the bytes of an instruction after those of its operands, so nested calls read like
 * expressions. Opcodes: WebAssembly Core Specification 2.0, "Binary Format"; threads and SIMD included.
 */

export type Code = readonly number[];

export type ValueType = 'i32' | 'f64' | 'v128';

export interface WasmFunction {
  readonly name: string;
  readonly parameters: readonly ValueType[];
  readonly result?: ValueType;
  /** Locals beyond the parameters; they are numbered after them. */
  readonly locals: readonly ValueType[];
  readonly body: Code;
}

const TYPE_BYTES: Readonly<Record<ValueType, number>> = { i32: 0x7f, f64: 0x7c, v128: 0x7b };

function unsigned(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  do {
    const low = rest % 128;
    rest = Math.floor(rest / 128);
    bytes.push(rest > 0 ? low | 0x80 : low);
  } while (rest > 0);
  return bytes;
}

function signed(value: number): number[] {
  const bytes: number[] = [];
  let rest = value | 0;
  for (;;) {
    const low = rest & 0x7f;
    rest >>= 7;
    const done = (rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0);
    bytes.push(done ? low : low | 0x80);
    if (done) return bytes;
  }
}

const memory = (opcode: Code, alignment: number, offset: number): Code => [...opcode, alignment, ...unsigned(offset)];
const simd = (opcode: number): Code => [0xfd, ...unsigned(opcode)];
const binary =
  (opcode: Code) =>
  (left: Code, right: Code): Code => [...left, ...right, ...opcode];
const unary =
  (opcode: Code) =>
  (operand: Code): Code => [...operand, ...opcode];

export const get = (local: number): Code => [0x20, ...unsigned(local)];
export const set = (local: number, value: Code): Code => [...value, 0x21, ...unsigned(local)];

export const i32 = {
  constant: (value: number): Code => [0x41, ...signed(value)],
  add: binary([0x6a]),
  subtract: binary([0x6b]),
  multiply: binary([0x6c]),
  shiftLeft: binary([0x74]),
  equals: binary([0x46]),
  load: (address: Code): Code => [...address, ...memory([0x28], 2, 0)],
  loadByte: (address: Code, offset = 0): Code => [...address, ...memory([0x2d], 0, offset)],
  store: (address: Code, value: Code): Code => [...address, ...value, ...memory([0x36], 2, 0)],
};

export const f64 = {
  add: binary([0xa0]),
  load: (address: Code): Code => [...address, ...memory([0x2b], 3, 0)],
  store: (address: Code, value: Code): Code => [...address, ...value, ...memory([0x39], 3, 0)],
};

export const v128 = {
  load: (address: Code, offset = 0): Code => [...address, ...memory(simd(0x00), 4, offset)],
  and: binary(simd(0x4e)),
  or: binary(simd(0x50)),
  /** Eight bytes into the low half. */
  loadHalf: (address: Code, offset = 0): Code => [...address, ...memory(simd(0x5d), 3, offset)],
  store: (address: Code, value: Code, offset = 0): Code => [...address, ...value, ...memory(simd(0x0b), 4, offset)],
};

export const f64x2 = {
  add: binary(simd(0xf0)),
  subtract: binary(simd(0xf1)),
  multiply: binary(simd(0xf2)),
  minimum: binary(simd(0xf4)),
  maximum: binary(simd(0xf5)),
  divide: binary(simd(0xf3)),
  absolute: unary(simd(0xec)),
  negate: unary(simd(0xed)),
  /** Two float32 lanes, then two of 0. */
  toFloats: unary(simd(0x5e)),
  /** The two low float32 lanes as float64. */
  fromFloats: unary(simd(0x5f)),
};

export const f32x4 = {
  /** Lanes left 0, right 0, left 1, right 1. */
  interleaveLow: (left: Code, right: Code): Code => [...left, ...right, ...simd(0x0d), 0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23],
};

export const i64x2 = {
  add: binary(simd(0xce)),
  shiftLeft: (operand: Code, bits: number): Code => [...operand, ...i32.constant(bits), ...simd(0xcb)],
  shiftRight: (operand: Code, bits: number): Code => [...operand, ...i32.constant(bits), ...simd(0xcd)],
};

/** Runs `body` until the i32 locals `pointer` and `end` are equal; not at all when they are at the start. */
export const until = (pointer: number, end: number, body: Code): Code => [
  ...[0x02, 0x40], // block
  ...i32.equals(get(pointer), get(end)),
  ...[0x0d, 0x00], // leave the block
  ...[0x03, 0x40], // loop
  ...body,
  ...i32.equals(get(pointer), get(end)),
  ...[0x45, 0x0d, 0x00], // again when not equal
  ...[0x0b, 0x0b],
];

export const bulk = {
  copy: (target: Code, source: Code, sizeBytes: Code): Code => [...target, ...source, ...sizeBytes, 0xfc, 0x0a, 0x00, 0x00],
  fill: (target: Code, byte: Code, sizeBytes: Code): Code => [...target, ...byte, ...sizeBytes, 0xfc, 0x0b, 0x00],
};

/** The bytes of a module that imports the shared memory `host.memory` and exports the functions by name. */
export function assembleModule(functions: readonly WasmFunction[], maximumPages: number): Uint8Array<ArrayBuffer> {
  const text = (value: string): number[] => [...unsigned(value.length), ...new TextEncoder().encode(value)];
  const vector = (items: readonly (readonly number[])[]): number[] => [...unsigned(items.length), ...items.flat()];
  const section = (id: number, content: readonly number[]): number[] => [id, ...unsigned(content.length), ...content];
  const types = functions.map((f) => [
    0x60,
    ...vector(f.parameters.map((p) => [TYPE_BYTES[p]])),
    ...vector(f.result === undefined ? [] : [[TYPE_BYTES[f.result]]]),
  ]);
  const bodies = functions.map((f) => {
    const code = [...vector(f.locals.map((local) => [1, TYPE_BYTES[local]])), ...f.body, 0x0b];
    return [...unsigned(code.length), ...code];
  });
  return new Uint8Array([
    ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
    ...section(1, vector(types)),
    ...section(2, vector([[...text('host'), ...text('memory'), 0x02, 0x03, ...unsigned(1), ...unsigned(maximumPages)]])),
    ...section(3, vector(functions.map((_, index) => unsigned(index)))),
    ...section(7, vector(functions.map((f, index) => [...text(f.name), 0x00, ...unsigned(index)]))),
    ...section(10, vector(bodies)),
  ]);
}
