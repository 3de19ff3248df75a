const QUOTE = 0x22;
const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;

export interface QuoteScan {
  readonly take: (chunk: Buffer) => void;
  /** Where the quoted field begins that had no end; undefined where all ended. */
  readonly open: () => number | undefined;
}

/**
 * Follows the quoted fields of CSV from quote to quote; what lies between is skipped, so that text with few quotes costs
 * next to nothing. A quote opens a field only as its first sign; a doubled one is a sign of the field.
 */
export function createQuoteScan(delimiter: string): QuoteScan {
  const separator = Buffer.from(delimiter).at(-1) ?? 0;
  const begins = (before: number): boolean => before === separator || before === LINE_FEED || before === CARRIAGE_RETURN;
  let offset = 0;
  let last = LINE_FEED;
  let openedAt: number | undefined;
  /** A quote inside of a field stood at the end of a chunk: whether it ends the field, the next byte tells. */
  let undecided = false;
  return {
    take(chunk) {
      let at = 0;
      if (undecided && chunk.length > 0) {
        undecided = false;
        if (chunk[0] === QUOTE) at = 1;
        else openedAt = undefined;
      }
      for (let quote = chunk.indexOf(QUOTE, at); quote !== -1; quote = chunk.indexOf(QUOTE, at)) {
        at = quote + 1;
        if (openedAt === undefined) {
          if (begins(quote === 0 ? last : (chunk[quote - 1] ?? 0))) openedAt = offset + quote;
        } else if (at === chunk.length) undecided = true;
        else if (chunk[at] === QUOTE) at++;
        else openedAt = undefined;
      }
      offset += chunk.length;
      last = chunk.at(-1) ?? last;
    },
    open: () => (undecided ? undefined : openedAt),
  };
}
