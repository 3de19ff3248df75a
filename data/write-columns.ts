import { open, type FileHandle } from 'node:fs/promises';

/**
 * Columns in memory as a Parquet file, for programs of other languages: plain pages without compression, so that writing
 * is little more than copying. Snapshots are written by DuckDB (dataset.ts).
 */
export type WrittenColumn = { readonly name: string } & (
  | { readonly kind: 'float32'; readonly values: Float32Array }
  | { readonly kind: 'float64'; readonly values: Float64Array }
  | { readonly kind: 'int32'; readonly values: Int32Array | Uint32Array }
  /** Milliseconds since 1970 UTC; NaN is null. */
  | { readonly kind: 'timestamp'; readonly values: Float64Array }
  /** Code -1 is null. */
  | { readonly kind: 'string'; readonly codes: Int32Array; readonly dictionary: readonly string[] }
);

const GROUP_ROWS = 262_144;
const MAGIC = Buffer.from('PAR1');
/** Numbers of the format's enumerations. */
const TYPE = { int32: 1, timestamp: 2, float32: 4, float64: 5, string: 6 } as const;
const CONVERTED = { timestamp: 9, string: 0 } as const;
const PLAIN = 0;
const RLE = 3;
const DATA_PAGE = 0;

const isOptional = ({ kind }: WrittenColumn): boolean => kind === 'timestamp' || kind === 'string';

interface WrittenChunk {
  readonly offset: number;
  readonly sizeBytes: number;
}

/** Writes `rows` rows; every column has as many values. */
export async function writeColumns(path: string, rows: number, columns: readonly WrittenColumn[]): Promise<void> {
  const file = await open(path, 'w');
  try {
    let at = await append(file, [MAGIC]);
    const groups: { readonly rows: number; readonly chunks: readonly WrittenChunk[] }[] = [];
    const encoders = columns.map(columnEncoder);
    for (let from = 0; from < rows; from += GROUP_ROWS) {
      const to = Math.min(rows, from + GROUP_ROWS);
      const chunks: WrittenChunk[] = [];
      for (const encode of encoders) {
        const page = encode(from, to);
        const size = page.reduce((sum, part) => sum + part.length, 0);
        const header = pageHeader(size, to - from);
        chunks.push({ offset: at, sizeBytes: header.length + size });
        at += await append(file, [header, ...page]);
      }
      groups.push({ rows: to - from, chunks });
    }
    const footer = fileFooter(rows, columns, groups);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(footer.length);
    await append(file, [footer, length, MAGIC]);
  } finally {
    await file.close();
  }
}

async function append(file: FileHandle, parts: readonly Uint8Array[]): Promise<number> {
  let written = 0;
  for (const part of parts)
    for (let at = 0; at < part.length; ) {
      const { bytesWritten } = await file.write(part, at);
      at += bytesWritten;
      written += bytesWritten;
    }
  return written;
}

const bytesOf = (values: Float32Array | Float64Array | Int32Array | Uint32Array | BigInt64Array): Uint8Array =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

/** The parts of a page that holds the rows. */
function columnEncoder(column: WrittenColumn): (from: number, to: number) => Uint8Array[] {
  if (column.kind === 'timestamp') {
    return (from, to) => {
      const present = column.values.subarray(from, to).filter((value) => !Number.isNaN(value));
      return [levels(to - from, (row) => !Number.isNaN(column.values[from + row])), bytesOf(BigInt64Array.from(present, (value) => BigInt(Math.trunc(value))))];
    };
  }
  if (column.kind === 'string') {
    const texts = column.dictionary.map((text) => {
      const bytes = Buffer.from(text, 'utf8');
      const whole = Buffer.alloc(4 + bytes.length);
      whole.writeUInt32LE(bytes.length);
      bytes.copy(whole, 4);
      return whole;
    });
    return (from, to) => {
      const present: Buffer[] = [];
      for (let row = from; row < to; row++) {
        const text = texts[column.codes[row] ?? -1];
        if (text !== undefined) present.push(text);
      }
      return [levels(to - from, (row) => (column.codes[from + row] ?? -1) >= 0), Buffer.concat(present)];
    };
  }
  return (from, to) => [bytesOf(column.values.subarray(from, to))];
}

/** Which rows have a value: one bit each, as one bit-packed run behind its length. */
function levels(rows: number, isPresent: (row: number) => boolean): Uint8Array {
  const groups = Math.ceil(rows / 8);
  const header = varint(groups * 2 + 1);
  const bytes = Buffer.alloc(4 + header.length + groups);
  bytes.writeUInt32LE(header.length + groups);
  Buffer.from(header).copy(bytes, 4);
  const start = 4 + header.length;
  for (let row = 0; row < rows; row++) if (isPresent(row)) bytes[start + (row >> 3)] = (bytes[start + (row >> 3)] ?? 0) | (1 << (row & 7));
  return bytes;
}

function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  bytes.push(rest);
  return bytes;
}

/** Thrift's compact protocol, as far as the format's structures need it. */
type Field = readonly [id: number, type: 'int' | 'long' | 'text' | 'struct' | 'ints' | 'texts' | 'structs', value: unknown];
const WIRE = { int: 5, long: 6, text: 8, list: 9, struct: 12 } as const;

const zigzag = (value: number): number[] => varint(value >= 0 ? value * 2 : -value * 2 - 1);

function struct(fields: readonly Field[]): number[] {
  const bytes: number[] = [];
  let last = 0;
  for (const [id, type, value] of fields) {
    const wire = type === 'ints' || type === 'texts' || type === 'structs' ? WIRE.list : WIRE[type];
    bytes.push(((id - last) << 4) | wire);
    last = id;
    if (type === 'int' || type === 'long') bytes.push(...zigzag(value as number));
    else if (type === 'text') pushAll(bytes, text(value as string));
    else if (type === 'struct') pushAll(bytes, struct(value as readonly Field[]));
    else if (type === 'ints') pushAll(bytes, list(WIRE.int, (value as readonly number[]).map(zigzag)));
    else if (type === 'texts') pushAll(bytes, list(WIRE.text, (value as readonly string[]).map(text)));
    else pushAll(bytes, list(WIRE.struct, (value as readonly (readonly Field[])[]).map(struct)));
  }
  bytes.push(0);
  return bytes;
}

function text(value: string): number[] {
  const bytes = Buffer.from(value, 'utf8');
  return [...varint(bytes.length), ...bytes];
}

function list(wire: number, items: readonly (readonly number[])[]): number[] {
  const bytes = items.length < 15 ? [(items.length << 4) | wire] : [0xf0 | wire, ...varint(items.length)];
  for (const item of items) pushAll(bytes, item);
  return bytes;
}

/** Of any length: an argument list has an end. */
function pushAll(bytes: number[], more: readonly number[]): void {
  for (const byte of more) bytes.push(byte);
}

const pageHeader = (sizeBytes: number, rows: number): Uint8Array =>
  Uint8Array.from(
    struct([
      [1, 'int', DATA_PAGE],
      [2, 'int', sizeBytes],
      [3, 'int', sizeBytes],
      [
        5,
        'struct',
        [
          [1, 'int', rows],
          [2, 'int', PLAIN],
          [3, 'int', RLE],
          [4, 'int', RLE],
        ] satisfies Field[],
      ],
    ]),
  );

function fileFooter(
  rows: number,
  columns: readonly WrittenColumn[],
  groups: readonly { readonly rows: number; readonly chunks: readonly WrittenChunk[] }[],
): Uint8Array {
  const root: Field[] = [
    [4, 'text', 'schema'],
    [5, 'int', columns.length],
  ];
  const schema = columns.map((column): Field[] => [
    [1, 'int', TYPE[column.kind]],
    [3, 'int', isOptional(column) ? 1 : 0],
    [4, 'text', column.name],
    ...(column.kind === 'timestamp' || column.kind === 'string' ? [[6, 'int', CONVERTED[column.kind]] as const satisfies Field] : []),
  ]);
  const rowGroups = groups.map((group): Field[] => [
    [
      1,
      'structs',
      group.chunks.map((chunk, index): Field[] => {
        const column = columns[index];
        return [
          [2, 'long', chunk.offset],
          [
            3,
            'struct',
            [
              [1, 'int', column === undefined ? TYPE.float32 : TYPE[column.kind]],
              [2, 'ints', [PLAIN, RLE]],
              [3, 'texts', [column?.name ?? '']],
              [4, 'int', 0],
              [5, 'long', group.rows],
              [6, 'long', chunk.sizeBytes],
              [7, 'long', chunk.sizeBytes],
              [9, 'long', chunk.offset],
            ] satisfies Field[],
          ],
        ];
      }),
    ],
    [2, 'long', group.chunks.reduce((sum, chunk) => sum + chunk.sizeBytes, 0)],
    [3, 'long', group.rows],
  ]);
  return Uint8Array.from(
    struct([
      [1, 'int', 1],
      [2, 'structs', [root, ...schema]],
      [3, 'long', rows],
      [4, 'structs', rowGroups],
      [6, 'text', 'millrace'],
    ]),
  );
}
