import { expectations, lengthBetween, matches, notNull, rowCount, unique } from 'millrace';

export const mailExpectations = expectations({
  table: [rowCount({ min: 100 })],
  path: [notNull(), unique()],
  folder: [notNull(), matches(/^(easy-ham|hard-ham|spam)-\d$/)],
  text: [notNull(), lengthBetween(1, 2_000_000)],
});
