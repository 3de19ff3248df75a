/**
 * The one text of a JSON value: keys in code-unit order, no spaces, numbers as JavaScript writes them (RFC 8785). The same
 * value gives the same bytes, and so the same hash, whoever writes it.
 *
 * Properties that are `undefined` are left out, as JSON does. @throws TypeError for what JSON cannot say: NaN, an infinity,
 * a bigint, a function, `undefined` itself, a Map, a cycle (by the depth it reaches).
 */
export function canonicalJson(value: unknown): string {
  return write(value, '$', 0);
}

const MAX_DEPTH = 1_000;

function write(value: unknown, path: string, depth: number): string {
  if (depth > MAX_DEPTH) throw new TypeError(`${path.slice(0, 100)}…: nested too deep, or a cycle`);
  if (value === null || typeof value === 'boolean') return String(value);
  if (typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) throw new TypeError(`${path}: ${value} cannot be said in JSON`);
    return JSON.stringify(value);
  }
  if (typeof value !== 'object') throw new TypeError(`${path}: a ${typeof value} cannot be said in JSON`);
  if (Array.isArray(value)) return `[${value.map((item: unknown, i) => write(item, `${path}[${i}]`, depth + 1)).join(',')}]`;
  if ('toJSON' in value && typeof value.toJSON === 'function') return write((value.toJSON as () => unknown).call(value), path, depth + 1);
  const prototype: unknown = Object.getPrototypeOf(value);
  // Objects of another realm (a vm's, a test runner's) have another Object.prototype, whose own prototype is null too.
  if (prototype !== null && Object.getPrototypeOf(prototype) !== null) throw new TypeError(`${path}: only plain objects can be said in JSON`);
  const members = Object.entries(value).filter(([, item]) => item !== undefined);
  members.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  return `{${members.map(([key, item]) => `${JSON.stringify(key)}:${write(item, `${path}.${key}`, depth + 1)}`).join(',')}}`;
}
