/** What the benchmarks of data ask of the flights. All of it holds. */
import {
  between,
  columnsExist,
  customSql,
  dateBetween,
  distinctBetween,
  type Expectations,
  expectations,
  hasType,
  inSet,
  lengthBetween,
  matches,
  meanBetween,
  notNull,
  nullFractionAtMost,
  quantileBetween,
  rowCount,
  standardDeviationBetween,
  sumBetween,
} from '../contracts/expectations.ts';

export const FLIGHT_COLUMNS = ['date', 'delay', 'distance', 'origin', 'destination'];

/** Thirty expectations of twenty kinds. */
export const thirtyExpectations = (airports: readonly string[]): Expectations =>
  expectations({
    date: [notNull(), hasType('timestamp'), dateBetween('2001-01-01', '2001-07-02')],
    delay: [
      notNull(),
      hasType('integer'),
      between(-1500, 3000),
      meanBetween(0, 20),
      sumBetween(0, 1e11),
      standardDeviationBetween(10, 60),
      quantileBetween(0.5, -10, 10),
      nullFractionAtMost(0),
    ],
    distance: [notNull(), hasType('integer'), between(1, 6000), meanBetween(400, 1200), quantileBetween(0.99, 1500, 3500), distinctBetween(100, 5000)],
    origin: [notNull(), hasType('string'), matches(/^[A-Z]{3}$/), lengthBetween(3, 3), inSet(airports), distinctBetween(100, 400)],
    destination: [notNull(), matches(/^[A-Z]{3}$/), lengthBetween(3, 3), inSet(airports)],
    table: [columnsExist(FLIGHT_COLUMNS), rowCount({ min: 1 }), customSql('positive distance', 'distance > 0')],
  });

/** The ten that Great Expectations is asked too (bench/ingest-validate.ts). */
export const tenExpectations = (airports: readonly string[]): Expectations =>
  expectations({
    date: [notNull(), dateBetween('2001-01-01', '2002-01-01')],
    delay: [notNull(), between(-2000, 2000)],
    distance: [notNull(), between(0, 5000), meanBetween(100, 2000)],
    origin: [inSet(airports)],
    destination: [inSet(airports)],
    table: [rowCount({ min: 1, max: 100_000_000 })],
  });
