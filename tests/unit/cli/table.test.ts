import { describe, expect, test } from 'vitest';
import { oneLine, renderFields, renderTable, showBytes, showDuration, showElapsed } from '../../../cli/table.ts';

describe('renderTable', () => {
  test('puts columns under one another, with figures to the right', () => {
    expect(
      renderTable(
        ['name', 'rows'],
        [
          ['flights', '3000000'],
          ['mails', '6046'],
        ],
      ),
    ).toBe('NAME        ROWS\nflights  3000000\nmails       6046\n');
  });

  test('keeps a cell on one line, whatever control characters it holds', () => {
    expect(renderTable(['why'], [['a\n\u001b[31mb\tc']])).toBe('WHY\na [31mb c\n');
  });
});

test('a long text is cut with an ellipsis', () => {
  expect(oneLine('abcdef', 4)).toBe('abc…');
});

test('fields without a value are left out', () => {
  expect(
    renderFields([
      ['run', 'x'],
      ['retry of', null],
      ['took', '1 s'],
    ]),
  ).toBe('run   x\ntook  1 s\n');
});

test.each([
  [850, '850 ms'],
  [12_340, '12.3 s'],
  [245_000, '4 min 05 s'],
  [12_000_000, '3 h 20 min'],
  [187_200_000, '2 d 4 h'],
])('%d ms are shown as %s', (ms, shown) => {
  expect(showDuration(ms)).toBe(shown);
});

test('an elapsed time ends at the end, or now while there is none', () => {
  expect(showElapsed('2026-01-01T00:00:00Z', '2026-01-01T00:00:02Z', 0)).toBe('2.0 s');
  expect(showElapsed('2026-01-01T00:00:00Z', null, Date.parse('2026-01-01T00:00:03Z'))).toBe('3.0 s');
  expect(showElapsed(null, null, 0)).toBe('');
});

test('bytes are shown with a binary unit', () => {
  expect(showBytes(812)).toBe('812 B');
  expect(showBytes(13.5 * 1024 * 1024)).toBe('13.5 MiB');
});
