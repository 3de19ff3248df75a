/**
 * How text becomes words, in training and in the graph. The graph's `Tokenizer` (com.microsoft) takes the same pattern
 * as RE2; ranges are written out, not named by Unicode property, so that two Unicode versions cannot disagree.
 *
 * A word is two or more of: ASCII letters, digits, `_`, and the letters of the alphabets up to U+1FFF and
 * U+2C00–U+2DFF; scikit-learn's default pattern takes the same words of two characters and more. A Chinese, Japanese or
 * Korean character or an emoji is a word by itself.
 */
const ALPHABETIC: readonly (readonly [number, number])[] = [
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
  [0xc0, 0x1fff],
  [0x2c00, 0x2dff],
];
const SINGLE: readonly (readonly [number, number])[] = [
  [0x2600, 0x27bf],
  [0x3040, 0x30ff],
  [0x3400, 0x9fff],
  [0xac00, 0xd7a3],
  [0xf900, 0xfaff],
  [0x1f300, 0x1faff],
  [0x20000, 0x2ffff],
];

const pattern = (escape: (codePoint: number) => string): string => {
  const ranges = (list: readonly (readonly [number, number])[]): string => list.map(([from, to]) => `${escape(from)}-${escape(to)}`).join('');
  return `[${ranges(ALPHABETIC)}]{2,}|[${ranges(SINGLE)}]`;
};

/** The pattern as RE2 writes it, for the graph. */
export const RE2_WORD_PATTERN = pattern((codePoint) => `\\x{${codePoint.toString(16)}}`);
const WORD = new RegExp(
  pattern((codePoint) => `\\u{${codePoint.toString(16)}}`),
  'gu',
);
const ASCII_CAPITALS = /[A-Z]+/g;
/** The same words of a text in ASCII, found several times faster. */
const ASCII_WORD = /[0-9A-Z_a-z]{2,}/g;
const NOT_ASCII = /[^\0-\x7f]/;

/**
 * Lower-cased words of a text, in their order. Only ASCII letters are lower-cased, as the graph's `StringNormalizer`
 * does under the locale "C", the one that every machine has; a row transform `lower` in front does the rest.
 */
export function tokenize(text: string): string[] {
  const end = text.indexOf('\0');
  const whole = end < 0 ? text : text.slice(0, end);
  if (!NOT_ASCII.test(whole)) return whole.toLowerCase().match(ASCII_WORD) ?? [];
  return whole.replace(ASCII_CAPITALS, (capitals) => capitals.toLowerCase()).match(WORD) ?? [];
}

/** What Python's `\s` takes as white space. */
const WHITE: readonly (readonly [number, number])[] = [
  [0x09, 0x0d],
  [0x1c, 0x20],
  [0x85, 0x85],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
];
const white = (escape: (codePoint: number) => string): string => `[${WHITE.map(([from, to]) => `${escape(from)}-${escape(to)}`).join('')}]{2,}`;
const re2Escape = (codePoint: number): string => `\\x{${codePoint.toString(16)}}`;

/** Several blanks in a row, as RE2 writes them; they are one blank. */
export const RE2_WHITE_PATTERN = white(re2Escape);
/** Characters of a text, or several blanks in a row. The graph fills rows up with U+0001, so that is no character. */
export const RE2_CHARACTER_PATTERN = `${RE2_WHITE_PATTERN}|[^\\x{1}]`;
const CHARACTER = new RegExp(`${white((codePoint) => `\\u{${codePoint.toString(16)}}`)}|[^\\u{1}]`, 'gu');
const SEVERAL_BLANKS = new RegExp(`^${white((codePoint) => `\\u{${codePoint.toString(16)}}`)}$`, 'u');

/** Characters (code points) of a text in their order, ASCII letters lower-cased, two and more blanks as one. */
export function characters(text: string): string[] {
  const end = text.indexOf('\0');
  const whole = (end < 0 ? text : text.slice(0, end)).replace(ASCII_CAPITALS, (capitals) => capitals.toLowerCase());
  return (whole.match(CHARACTER) ?? []).map((character) => (character.length > 1 && SEVERAL_BLANKS.test(character) ? ' ' : character));
}

/** Which n-grams a text step counts. */
export interface NgramRange {
  readonly analyzer?: 'word' | 'char';
  readonly ngrams: number;
  readonly leastNgrams?: number;
}

/** Calls back with each n-gram of a text, shortest first at each place: words joined by one blank, characters by nothing. */
export function forEachNgram(text: string, { analyzer, ngrams, leastNgrams = 1 }: NgramRange, visit: (term: string) => void): void {
  const units = analyzer === 'char' ? characters(text) : tokenize(text);
  const separator = analyzer === 'char' ? '' : ' ';
  for (let start = 0; start < units.length; start++) {
    let term = units[start] ?? '';
    if (leastNgrams === 1) visit(term);
    for (let length = 2; length <= ngrams && start + length <= units.length; length++) {
      term += separator + (units[start + length - 1] ?? '');
      if (length >= leastNgrams) visit(term);
    }
  }
}

/** Words or characters of a term. */
export const unitsOf = (analyzer: 'word' | 'char' | undefined, term: string): string[] => (analyzer === 'char' ? [...term] : term.split(' '));
