import type { Column } from './columns.ts';

/**
 * Rows that come from elsewhere, batch by batch. A value is a text that reads back as its column's type (numbers as in
 * JSON, instants and dates in ISO 8601, UTC where no offset stands), or null.
 */
export interface RowStream {
  readonly columns: readonly Column[];
  /** Each batch column by column, all of one length. The next one is made when the last was taken. */
  readonly batches: AsyncIterable<readonly (readonly (string | null)[])[]>;
  /** Lets go of where the rows come from, also when not all were taken. May be called twice. */
  readonly close: () => Promise<void>;
}
