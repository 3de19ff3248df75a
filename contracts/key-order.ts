/**
 * Postgres keeps no order of an object's keys, and the order of features is the order of a model's inputs. What is to be
 * run again with the same bytes is recorded with the order in which it was written.
 */
const KEY = '$keys';

type Path = readonly (string | number)[];
type Order = readonly [path: Path, keys: readonly string[]];

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> => value !== null && typeof value === 'object' && !Array.isArray(value);

/** jsonb's order of keys: short ones first, then by their UTF-8 bytes, which a comparison of strings (by UTF-16 units) is not. */
function byJsonb(a: string, b: string): number {
  const [left, right] = [new TextEncoder().encode(a), new TextEncoder().encode(b)];
  if (left.length !== right.length) return left.length - right.length;
  const at = left.findIndex((byte, index) => byte !== right[index]);
  return at === -1 ? 0 : (left[at] ?? 0) - (right[at] ?? 0);
}

/** The object with a list of its objects' keys in their order, under `$keys`; as it is where Postgres gives that order by itself. */
export function withKeyOrder(value: unknown): unknown {
  if (!isObject(value)) return value;
  const orders: Order[] = [];
  collect(value, [], orders);
  return orders.length === 0 ? value : { ...value, [KEY]: orders };
}

function collect(value: unknown, path: Path, orders: Order[]): void {
  if (Array.isArray(value)) {
    value.forEach((entry, index) => {
      collect(entry, [...path, index], orders);
    });
    return;
  }
  if (!isObject(value)) return;
  const keys = Object.keys(value).filter((key) => value[key] !== undefined);
  const stored = keys.toSorted(byJsonb);
  if (keys.some((key, index) => key !== stored[index])) orders.push([path, keys]);
  for (const key of keys) collect(value[key], [...path, key], orders);
}

/** What was given to `withKeyOrder`, its keys in their order again. */
export function inKeyOrder(recorded: unknown): unknown {
  if (!isObject(recorded) || !Array.isArray(recorded[KEY])) return recorded;
  const { [KEY]: orders, ...value } = recorded;
  const byPath = new Map((orders as Order[]).map(([path, keys]) => [JSON.stringify(path), keys]));
  return ordered(value, [], byPath);
}

function ordered(value: unknown, path: Path, orders: ReadonlyMap<string, readonly string[]>): unknown {
  if (Array.isArray(value)) return value.map((entry, index) => ordered(entry, [...path, index], orders));
  if (!isObject(value)) return value;
  const keys = orders.get(JSON.stringify(path)) ?? Object.keys(value);
  return Object.fromEntries(keys.map((key) => [key, ordered(value[key], [...path, key], orders)]));
}
