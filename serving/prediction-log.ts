import type { ServingVersion } from './endpoint-table.ts';
import type { GraphColumn } from './logged-inputs.ts';
import type { Decision } from '../data/row-decisions.ts';
import type { PackedRows } from '../data/request-row.ts';
import type { SegmentLog } from './segment-log.ts';
import { wellFormed } from '../data/row-text.ts';

/** What came in for one row: the row's values by name, or nothing when the request brought packed inputs. */
export interface LoggedRow {
  readonly values: Readonly<Record<string, unknown>> | undefined;
  /** The row as the client wrote it, when that is one line of JSON with exactly the columns of the signature. */
  readonly text: string | undefined;
}

export interface PredictionEntry {
  readonly requestId: string;
  readonly row: number;
  readonly input: LoggedRow;
  readonly packed: PackedRows;
  readonly packedRow: number;
  /** The output's values as JSON, joined by commas. */
  readonly output: string;
  readonly decision?: Decision | undefined;
  /** It was computed beside the champion, and answers nobody. */
  readonly shadow?: boolean | undefined;
  /** Keyed hash of the key by which a test of versions sticks. */
  readonly key?: string | undefined;
  readonly latencyMs: number;
}

export interface PredictionLog {
  /** Takes a prediction's line into memory; a full buffer drops it (counted by the segment log). */
  record(version: ServingVersion, entry: PredictionEntry): void;
}

/** The least int64 stands for a missing date, `\u0000` for a missing text (contracts/signature.ts). */
const NULL_DATE = -(2n ** 63n);
const NULL_TEXT = '\u0000';

function packedValue(column: GraphColumn, version: ServingVersion, packed: PackedRows, row: number): unknown {
  const { graph } = version.predictor.signature;
  const at = row * graph[column.group].length + column.index;
  if (column.group === 'numbers') return packed.numbers[at];
  if (column.group === 'strings') {
    const text = packed.strings[at] ?? NULL_TEXT;
    return text === NULL_TEXT ? null : wellFormed(text);
  }
  const date = packed.dates[at];
  return date === undefined || date === NULL_DATE ? null : new Date(Number(date)).toISOString();
}

function inputsText(version: ServingVersion, entry: PredictionEntry): string {
  const { logged } = version.predictor;
  const { values, text } = entry.input;
  if (text !== undefined && logged.transformed.length === 0 && logged.raw.length === version.predictor.signature.columns.length) return text;
  const inputs: Record<string, unknown> = {};
  if (values !== undefined) {
    for (const name of logged.raw) {
      const value = Object.hasOwn(values, name) ? values[name] : undefined;
      // A lone surrogate is no valid JSON to strict readers of the log.
      inputs[name] = typeof value === 'string' ? wellFormed(value) : value;
    }
  }
  for (const column of values === undefined ? logged.packed : logged.transformed)
    inputs[column.name] = packedValue(column, version, entry.packed, entry.packedRow);
  return JSON.stringify(inputs);
}

/**
 * Whether the bytes from `from` to `to` are one flat JSON object on one line, in ASCII and without escapes, that has
 * `keys` keys (repeated ones counted). They have to be valid JSON. Such a text may be copied into the log as it is.
 */
export function isPlainObject(bytes: Uint8Array, from: number, to: number, keys: number): boolean {
  if (bytes[from] !== 0x7b) return false;
  let inText = false;
  let colons = 0;
  for (let i = from + 1; i < to; i += 1) {
    const byte = bytes[i] ?? 0;
    if (byte === 0x22) inText = !inText;
    else if (byte === 0x5c || byte < 0x20 || byte > 0x7e) return false;
    else if (!inText) {
      if (byte === 0x3a) colons += 1;
      else if (byte === 0x7b || byte === 0x5b) return false;
    }
  }
  return colons === keys;
}

const decisionText = ({ text, propensity, explored, review }: Decision): string =>
  `,"action":${text},"propensity":${propensity},"explored":${explored}${review === undefined ? '' : `,"review":"${review}"`}`;

/** Creates the log of predictions over files of lines. Rows that a rule wants reviewed stand in `reviews` too. */
export function createPredictionLog(segments: SegmentLog, reviews: SegmentLog, now: () => number = Date.now): PredictionLog {
  let lastMs = 0;
  let lastText = '';
  const heads = new WeakMap<ServingVersion, string>();

  function timeText(): string {
    const ms = now();
    if (ms !== lastMs) {
      lastMs = ms;
      lastText = new Date(ms).toISOString();
    }
    return lastText;
  }

  function headOf(version: ServingVersion): string {
    let head = heads.get(version);
    if (head === undefined) {
      head = `","model":${JSON.stringify(version.served.model)},"version":${version.served.version},"challenger":${version.challenger},"inputs":`;
      heads.set(version, head);
    }
    return head;
  }

  return {
    record(version, entry) {
      const latency = Math.round(entry.latencyMs * 1_000) / 1_000;
      const { decision, key, shadow } = entry;
      const more = `${shadow === true ? ',"shadow":true' : ''}${decision === undefined ? '' : decisionText(decision)}${key === undefined ? '' : `,"key":"${key}"`}`;
      const line = `{"requestId":"${entry.requestId}","row":${entry.row},"at":"${timeText()}${headOf(version)}${inputsText(version, entry)},"output":[${entry.output}]${more},"latencyMs":${latency}}\n`;
      segments.append(version.endpoint, line);
      if (decision?.review !== undefined && shadow !== true) reviews.append(version.endpoint, line);
    },
  };
}
