/** One person's label of one item. */
export interface GivenLabel {
  readonly item: string;
  readonly by: string;
  readonly label: string;
}

export interface Agreement {
  /** Items that at least two people labelled. */
  readonly shared: number;
  /** Share of pairs of labels of one item that are the same; null where nothing is shared. */
  readonly observed: number | null;
  /** Cohen's kappa of each two people over the items that both labelled. */
  readonly pairs: readonly { readonly a: string; readonly b: string; readonly items: number; readonly kappa: number | null }[];
  /** Fleiss' kappa; null unless each shared item has as many labels as the others. */
  readonly fleiss: number | null;
  /** Krippendorff's alpha for categories: any number of people, each of whom may have left items out. */
  readonly alpha: number | null;
}

/**
 * How far people agree, beyond what chance alone would give (1: always, 0: as by chance). Null where it is not defined:
 * nothing is shared, or only one class was ever given.
 */
export function agreementOf(labels: readonly GivenLabel[]): Agreement {
  const items = new Map<string, Map<string, string>>();
  for (const { item, by, label } of labels) {
    const of = items.get(item) ?? new Map<string, string>();
    of.set(by, label);
    items.set(item, of);
  }
  const shared = [...items.values()].filter((of) => of.size > 1);
  const people = [...new Set(shared.flatMap((of) => [...of.keys()]))].sort();
  const pairs = people.flatMap((a, i) =>
    people.slice(i + 1).flatMap((b) => {
      const both = shared.flatMap((of): (readonly [string, string])[] => {
        const [first, second] = [of.get(a), of.get(b)];
        return first === undefined || second === undefined ? [] : [[first, second]];
      });
      return both.length === 0 ? [] : [{ a, b, items: both.length, kappa: cohen(both) }];
    }),
  );
  const counts = shared.map((of) => countsOf(of.values()));
  const sizes = shared.map((of) => of.size);
  return { shared: shared.length, observed: observedAgreement(counts, sizes), pairs, fleiss: fleiss(counts, sizes), alpha: krippendorff(counts, sizes) };
}

/** Cohen's kappa (J. Cohen, 1960): two people on the same items. Null where chance alone would agree always. */
export function cohen(pairs: readonly (readonly [string, string])[]): number | null {
  const n = pairs.length;
  if (n === 0) return null;
  const first = countsOf(pairs.map(([a]) => a));
  const second = countsOf(pairs.map(([, b]) => b));
  const same = pairs.filter(([a, b]) => a === b).length / n;
  let chance = 0;
  for (const [label, count] of first) chance += (count / n) * ((second.get(label) ?? 0) / n);
  return chance === 1 ? null : (same - chance) / (1 - chance);
}

type Counts = ReadonlyMap<string, number>;

function countsOf(labels: Iterable<string>): Counts {
  const counts = new Map<string, number>();
  for (const label of labels) counts.set(label, (counts.get(label) ?? 0) + 1);
  return counts;
}

function totalsOf(items: readonly Counts[]): Counts {
  const totals = new Map<string, number>();
  for (const counts of items) for (const [label, count] of counts) totals.set(label, (totals.get(label) ?? 0) + count);
  return totals;
}

/** Pairs of the same label among an item's ordered pairs. */
const samePairs = (counts: Counts): number => [...counts.values()].reduce((sum, count) => sum + count * (count - 1), 0);

function observedAgreement(items: readonly Counts[], sizes: readonly number[]): number | null {
  const all = sizes.reduce((sum, size) => sum + size * (size - 1), 0);
  return all === 0 ? null : items.reduce((sum, counts) => sum + samePairs(counts), 0) / all;
}

/** Fleiss' kappa (J. L. Fleiss, 1971): the same number of labels for each item. */
function fleiss(items: readonly Counts[], sizes: readonly number[]): number | null {
  const [n] = sizes;
  if (n === undefined || sizes.some((size) => size !== n)) return null;
  const mean = items.reduce((sum, counts) => sum + samePairs(counts) / (n * (n - 1)), 0) / items.length;
  const chance = [...totalsOf(items).values()].reduce((sum, count) => sum + (count / (n * items.length)) ** 2, 0);
  return chance === 1 ? null : (mean - chance) / (1 - chance);
}

/** Krippendorff's alpha for nominal data (K. Krippendorff, "Content Analysis", 2004, §11.3): 1 − observed / expected disagreement. */
function krippendorff(items: readonly Counts[], sizes: readonly number[]): number | null {
  const total = sizes.reduce((sum, size) => sum + size, 0);
  if (total === 0) return null;
  const disagreed = items.reduce((sum, counts, at) => {
    const m = sizes[at] ?? 0;
    return sum + (m * (m - 1) - samePairs(counts)) / (m - 1);
  }, 0);
  const expected = total * (total - 1) - samePairs(totalsOf(items));
  return expected === 0 ? null : 1 - ((total - 1) * disagreed) / expected;
}
