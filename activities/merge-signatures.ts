import { canonicalJson } from '../contracts/canonical-json.ts';
import { MillraceError, type Problem } from '../contracts/errors.ts';
import type { FeatureLookup } from '../contracts/feature-lookup.ts';
import type { RowTransform } from '../contracts/row-transforms.ts';
import type { Predictor, Signature } from '../contracts/signature.ts';
import { compileRowTransforms, pruneTransforms } from '../data/row-transforms.ts';

/** A predictor with the words that errors name it by. */
export interface NamedMember {
  readonly label: string;
  readonly predictor: Pick<Predictor, 'signature' | 'unserved' | 'lookups'>;
}

export type MergedSignature = Pick<Signature, 'columns' | 'transforms' | 'graph'> & {
  readonly task: Exclude<Signature['task'], { readonly kind: 'raw' }>;
} & Pick<Predictor, 'unserved' | 'lookups'>;

const INPUTS = ['numbers', 'dates', 'strings'] as const;

/**
 * One signature under which each member gets the very columns that it gets alone: raw columns, transforms, lookups and
 * marks of all together.
 * @throws INVALID_PARAMETERS with every problem: another target, task or classes; a raw column of another type; transforms
 * of which a column would come out otherwise; a feature view of another definition
 */
export function mergeSignatures(members: readonly NamedMember[]): MergedSignature {
  const [first] = members;
  if (first === undefined) throw new MillraceError('INVALID_PARAMETERS', 'An ensemble needs members.');
  const { task } = first.predictor.signature;
  const problems = members.flatMap((member) => questionProblems(first, member));
  if (problems.length > 0 || task.kind === 'raw') throw refusal('The members of the ensemble do not answer the same question.', problems);

  const columns = new Map<string, { readonly column: Signature['columns'][number]; readonly label: string }>();
  for (const { label, predictor } of members)
    for (const column of predictor.signature.columns) {
      const known = columns.get(column.name);
      if (known === undefined) columns.set(column.name, { column, label });
      else if (known.column.type !== column.type) {
        problems.push({
          path: label,
          column: column.name,
          message: `takes ${column.name} as ${column.type}, and ${known.label} as ${known.column.type}`,
          fix: 'Train both on data of the same ingest.',
        });
      }
    }
  const merged = {
    columns: [...columns.values()].map(({ column }) => column),
    transforms: members.map(({ predictor }) => predictor.signature.transforms).reduce(mergeChains),
    graph: graphOf(members),
  };
  for (const member of members) problems.push(...transformProblems(member, merged));
  const lookups = mergeLookups(members, problems);
  if (problems.length > 0) throw refusal('The members of the ensemble read their columns in ways that do not go together.', problems);
  return { ...merged, task, lookups, unserved: Object.assign({}, ...members.map(({ predictor }) => predictor.unserved)) as Record<string, string> };
}

const refusal = (message: string, problems: readonly Problem[]): MillraceError => new MillraceError('INVALID_PARAMETERS', message, { problems });

function questionProblems(first: NamedMember, { label, predictor }: NamedMember): Problem[] {
  const one = first.predictor.signature.task;
  const other = predictor.signature.task;
  if (other.kind === 'raw') return [{ path: label, message: 'is a bare ONNX file: what its answer means is not known', fix: 'Leave it out.' }];
  if (one.kind === 'raw') return [];
  const unlike = (what: string, found: string, expected: string): Problem => ({
    path: label,
    message: `has another ${what} than ${first.label}, which has ${expected}`,
    found,
  });
  if (other.target !== one.target) return [unlike('target', other.target, one.target)];
  if (other.kind !== one.kind) return [unlike('task', other.kind, one.kind)];
  const [classes, expected] = [other, one].map((task) => (task.kind === 'regression' ? '' : task.classes.slice(0, 20).join(', ')));
  const same = canonicalJson(other.kind === 'regression' ? null : other.classes) === canonicalJson(one.kind === 'regression' ? null : one.classes);
  return same ? [] : [{ ...unlike('set of classes', classes ?? '', expected ?? ''), fix: 'Train both on rows that have every class.' }];
}

function graphOf(members: readonly NamedMember[]): Signature['graph'] {
  const of = (input: (typeof INPUTS)[number]): string[] => [...new Set(members.flatMap(({ predictor }) => predictor.signature.graph[input]))];
  return { numbers: of('numbers'), dates: of('dates'), strings: of('strings') };
}

/** The shortest chain that has both in it, in their order. */
function mergeChains(a: readonly RowTransform[], b: readonly RowTransform[]): RowTransform[] {
  const [keysA, keysB] = [a.map(canonicalJson), b.map(canonicalJson)];
  // common[i][j]: the longest common part of a from i on and b from j on
  const common = Array.from({ length: a.length + 1 }, () => new Array<number>(b.length + 1).fill(0));
  const at = (i: number, j: number): number => common[i]?.[j] ?? 0;
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--) {
      const row = common[i];
      if (row) row[j] = keysA[i] === keysB[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
    }
  const merged: RowTransform[] = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    const [mine, others] = [a[i], b[j]];
    if (mine !== undefined && others !== undefined && keysA[i] === keysB[j]) {
      merged.push(mine);
      i++;
      j++;
    } else if (mine !== undefined && (others === undefined || at(i + 1, j) >= at(i, j + 1))) {
      merged.push(mine);
      i++;
    } else if (others !== undefined) {
      merged.push(others);
      j++;
    }
  }
  return merged;
}

/** The columns that would come to a member otherwise than when it is served alone. */
function transformProblems({ label, predictor }: NamedMember, merged: Pick<Signature, 'columns' | 'transforms' | 'graph'>): Problem[] {
  const { signature } = predictor;
  const needed = [...new Set(INPUTS.flatMap((input) => signature.graph[input]))];
  // a hash is not computed here: any key will do
  const made = new Set(Object.keys(compileRowTransforms(merged.transforms, merged.columns, 'any')({})));
  return needed.flatMap((name) => {
    const alone = canonicalJson(pruneTransforms(signature.transforms, [name], signature.columns));
    const together = made.has(name) ? canonicalJson(pruneTransforms(merged.transforms, [name], merged.columns)) : null;
    if (alone === together || (together !== null && sameColumns(alone, together))) return [];
    return [
      {
        path: label,
        column: name,
        message: `reads ${name} as its own row transforms make it, and another member's make it otherwise`,
        fix: 'Train both on data that went through the same transforms, or give the column another name in one of them.',
      },
    ];
  });
}

/** Raw columns stand in the order of their table, which is another one in the merged table. */
function sameColumns(a: string, b: string): boolean {
  const sorted = (text: string): string => {
    const { transforms, rawColumns } = JSON.parse(text) as { transforms: unknown; rawColumns: { name: string }[] };
    return canonicalJson({ transforms, rawColumns: rawColumns.toSorted((one, other) => (one.name < other.name ? -1 : 1)) });
  };
  return sorted(a) === sorted(b);
}

function mergeLookups(members: readonly NamedMember[], problems: Problem[]): FeatureLookup[] {
  const merged = new Map<string, FeatureLookup>();
  for (const { label, predictor } of members)
    for (const lookup of predictor.lookups) {
      const known = merged.get(lookup.view);
      const { features, ...rest } = lookup;
      if (known !== undefined) {
        const { features: knownFeatures, ...knownRest } = known;
        if (canonicalJson(knownRest) !== canonicalJson(rest)) {
          problems.push({
            path: label,
            message: `looks features of ${lookup.view} up by another definition or key than another member`,
            fix: 'Train both on training sets of the same feature view.',
          });
          continue;
        }
        merged.set(lookup.view, { ...rest, features: { ...knownFeatures, ...features } });
      } else merged.set(lookup.view, lookup);
    }
  return [...merged.values()];
}
