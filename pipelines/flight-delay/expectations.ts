import {
  between,
  columnsExist,
  dateBetween,
  expectations,
  hasType,
  lengthBetween,
  matches,
  meanBetween,
  notNull,
  nullFractionAtMost,
  rowCount,
} from 'millrace';

export const flightExpectations = expectations({
  table: [rowCount({ min: 1_000 }), columnsExist(['date', 'delay', 'distance', 'origin', 'destination'])],
  date: [notNull(), hasType(['timestamp', 'date']), dateBetween('2001-01-01', '2001-12-31')],
  delay: [nullFractionAtMost(0), between(-1_500, 3_000, { mostly: 0.999 }), meanBetween(-30, 120)],
  distance: [notNull(), between(1, 6_000, { severity: 'warn' })],
  origin: [notNull(), matches(/^[A-Z]{3}$/)],
  destination: [notNull(), lengthBetween(3, 3)],
});
