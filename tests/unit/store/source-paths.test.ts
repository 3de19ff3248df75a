import { describe, expect, it } from 'vitest';
import { fitsSource, shownPaths } from '../../../store/source-paths.ts';

describe('a source', () => {
  it.each([
    ['data/flights.csv', 'data/flights.csv', true],
    ['./data/flights.csv', 'data/flights.csv', true],
    ['data/2001', 'data/2001/january.csv', true],
    ['data/2001/', 'data/2001', true],
    ['data/2001', 'data/2001-more.csv', false],
    ['data/*.csv', 'data/flights.csv', true],
    ['data/*.csv', 'data/old/flights.csv', false],
    ['data/**/*.csv', 'data/old/older/flights.csv', true],
    ['data/**/*.csv', 'data/flights.csv', true],
    ['data/{jan,feb}-?.csv', 'data/feb-1.csv', true],
    ['data/{jan,feb}-?.csv', 'data/mar-1.csv', false],
    ['data/[!a]*.csv', 'data/bees.csv', true],
    ['data/[!a]*.csv', 'data/ants.csv', false],
    ['data/a.b+c(1)/*', 'data/a.b+c(1)/x', true],
    ['data/a.b+c(1)/*', 'data/axb+c(1)/x', false],
    ['data/{open,*.csv', 'data/open', false],
    ['s3://bucket/flights/*.parquet', 's3://bucket/flights/1.parquet', true],
  ])('that was read as %s is, or holds, %s: %s', (recorded, asked, fits) => {
    expect(fitsSource(recorded, asked)).toBe(fits);
  });

  it('has the paths that its record names, and none where it lies in no files', () => {
    expect(shownPaths({ format: 'csv', path: 'a.csv' })).toEqual(['a.csv']);
    expect(shownPaths({ format: 'csv', path: ['a.csv', 'b.csv'] })).toEqual(['a.csv', 'b.csv']);
    expect(shownPaths({ format: 'postgres', query: 'select 1' })).toEqual([]);
  });
});
