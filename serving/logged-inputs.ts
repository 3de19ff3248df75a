/**
 * Which of a request's values may stand in the prediction log.
 *
 * Invariants:
 * 1. A raw column that any transform hashes or masks is never logged as it came, whatever it is called in between.
 * 2. In its place stands the hashed column that the graph takes, when nothing but hashes or masks of it went in.
 */
import { maskedValueOf } from '../contracts/personal-data.ts';
import type { Expression } from '../contracts/row-transforms.ts';
import type { Signature } from '../contracts/signature.ts';

export interface GraphColumn {
  readonly name: string;
  readonly group: 'numbers' | 'dates' | 'strings';
  readonly index: number;
}

export interface LoggedInputs {
  /** Raw columns that are logged as they came. */
  readonly raw: readonly string[];
  /** Columns of the graph that are logged instead of hidden ones. */
  readonly transformed: readonly GraphColumn[];
  /** Columns of the graph that are logged when a request brings them packed. */
  readonly packed: readonly GraphColumn[];
}

interface Origin {
  /** Raw columns whose text can be seen in the value. */
  readonly plain: ReadonlySet<string>;
  /** Raw columns that went in through a hash or a mask. */
  readonly hashed: ReadonlySet<string>;
}

const NOTHING: Origin = { plain: new Set(), hashed: new Set() };
const union = (origins: readonly Origin[]): Origin => ({
  plain: new Set(origins.flatMap((o) => [...o.plain])),
  hashed: new Set(origins.flatMap((o) => [...o.hashed])),
});

const hiddenOrigin = ({ plain, hashed }: Origin): Origin => ({ plain: new Set(), hashed: new Set([...plain, ...hashed]) });

function originOf(expression: Expression, columns: ReadonlyMap<string, Origin>): Origin {
  switch (expression.op) {
    case 'column':
      return columns.get(expression.name) ?? NOTHING;
    case 'literal':
      return NOTHING;
    case 'call': {
      const masked = maskedValueOf(expression);
      if (masked !== undefined) return hiddenOrigin(originOf(masked, columns));
      return union(expression.args.map((arg) => originOf(arg, columns)));
    }
    case 'hash':
      return hiddenOrigin(originOf(expression.value, columns));
  }
}

/** Says what is logged of the requests of a signature. */
export function planLoggedInputs(signature: Signature): LoggedInputs {
  const columns = new Map<string, Origin>(signature.columns.map(({ name }) => [name, { plain: new Set([name]), hashed: new Set<string>() }]));
  const hidden = new Set<string>();
  for (const transform of signature.transforms) {
    if (transform.kind === 'set') {
      const origin = originOf(transform.to, columns);
      for (const name of origin.hashed) hidden.add(name);
      columns.set(transform.column, origin);
    } else if (transform.kind === 'rename') {
      const origin = columns.get(transform.from);
      columns.delete(transform.from);
      if (origin !== undefined) columns.set(transform.to, origin);
    } else if (transform.kind === 'drop') {
      for (const name of transform.columns) columns.delete(name);
    }
  }
  const graph: GraphColumn[] = (['numbers', 'dates', 'strings'] as const).flatMap((group) =>
    signature.graph[group].map((name, index) => ({ name, group, index })),
  );
  const touchesHidden = (name: string): boolean => {
    const origin = columns.get(name) ?? NOTHING;
    return [...origin.plain, ...origin.hashed].some((raw) => hidden.has(raw));
  };
  const showsHidden = (name: string): boolean => [...(columns.get(name) ?? NOTHING).plain].some((raw) => hidden.has(raw));
  const raw = signature.columns.map(({ name }) => name).filter((name) => !hidden.has(name));
  return {
    raw,
    transformed: graph.filter(({ name }) => touchesHidden(name) && !showsHidden(name) && !raw.includes(name)),
    packed: graph.filter(({ name }) => !touchesHidden(name)),
  };
}
