/**
 * N-grams of texts, counted into a fixed number of buckets.
 *
 * Invariants:
 * 1. A term falls into the bucket of its hash, the same on every machine: as the text features' terms are made and hashed.
 * 2. Memory does not grow with the texts: named terms are kept up to a limit, those that come first.
 */
import { murmurHashOfText } from '../features/murmur-hash.ts';
import { forEachNgram, type NgramRange } from '../features/tokenize.ts';

export const NGRAM_BUCKETS = 256;
const NAMED_TERMS = 50_000;
/** Of a longer text the beginning counts. */
const TEXT_CHARACTERS = 2_000;

export interface NgramCounts {
  readonly texts: number;
  /** N-grams by bucket. */
  readonly buckets: Float64Array;
  /** Texts that have the term. */
  readonly terms: ReadonlyMap<string, number>;
  /**
   * By how much a bucket's share varies more than it would if each n-gram were drawn by itself, on average: words of one text go
   * together. J. Rao, A. Scott, "The analysis of categorical data from complex sample surveys" (1981), first order.
   */
  readonly designEffect: number;
}

export interface NgramCounter {
  add(text: string): void;
  result(): NgramCounts;
}

export function createNgramCounter(range: NgramRange): NgramCounter {
  const [buckets, squares, products] = [new Float64Array(NGRAM_BUCKETS), new Float64Array(NGRAM_BUCKETS), new Float64Array(NGRAM_BUCKETS)];
  const own = new Float64Array(NGRAM_BUCKETS);
  const terms = new Map<string, number>();
  let [texts, total, totalSquares] = [0, 0, 0];
  return {
    add(text) {
      const seen = new Set<string>();
      const touched = new Set<number>();
      let size = 0;
      forEachNgram(text.slice(0, TEXT_CHARACTERS), range, (term) => {
        const bucket = murmurHashOfText(term) % NGRAM_BUCKETS;
        own[bucket] = (own[bucket] as number) + 1;
        touched.add(bucket);
        seen.add(term);
        size++;
      });
      for (const bucket of touched) {
        const count = own[bucket] as number;
        buckets[bucket] = (buckets[bucket] as number) + count;
        squares[bucket] = (squares[bucket] as number) + count * count;
        products[bucket] = (products[bucket] as number) + count * size;
        own[bucket] = 0;
      }
      for (const term of seen) {
        const known = terms.get(term);
        if (known !== undefined || terms.size < NAMED_TERMS) terms.set(term, (known ?? 0) + 1);
      }
      texts++;
      total += size;
      totalSquares += size * size;
    },
    result() {
      let [effect, degrees] = [0, -1];
      for (let i = 0; i < NGRAM_BUCKETS; i++) {
        const share = (buckets[i] as number) / total;
        if (!(share > 0)) continue;
        degrees++;
        // variance of the share from one text to another, beside that of single draws
        const between = (squares[i] as number) - 2 * share * (products[i] as number) + share * share * totalSquares;
        effect += ((texts / Math.max(1, texts - 1)) * (between / total)) / share;
      }
      return { texts, buckets, terms, designEffect: degrees < 1 ? 1 : Math.max(1, effect / degrees) };
    },
  };
}
