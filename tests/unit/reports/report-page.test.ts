import { describe, expect, it } from 'vitest';
import { reportPage, type ReportContent } from '../../../reports/report-page.ts';
import { between, expectations, notNull, type ValidationResult } from '../../../contracts/expectations.ts';
import type { ColumnProfile } from '../../../contracts/profile.ts';

const text = (name: string, value: string): ColumnProfile => ({
  name,
  type: 'string',
  nulls: 1,
  distinct: 2,
  values: { kind: 'string', lengthMin: 1, lengthMean: 2, lengthMax: 3, top: [{ value, count: 9 }] },
});
const number = (name: string): ColumnProfile => ({
  name,
  type: 'number',
  nulls: 0,
  distinct: 10,
  values: {
    kind: 'number',
    min: 0,
    max: 10,
    mean: 5,
    standardDeviation: 3,
    quantiles: [{ q: 0.5, value: 5 }],
    histogram: { edges: [0, 5, 10], counts: [4, 6] },
  },
});
const content = (columns: ColumnProfile[], more: Partial<ReportContent> = {}): ReportContent => ({
  name: 'flights',
  id: 'a'.repeat(64),
  profile: { format: 'millrace-profile/1', rows: 10, columns },
  sensitive: {},
  validation: null,
  personal: [],
  ...more,
});

describe('a report page', () => {
  it('shows names and values as text, whatever they hold', async () => {
    const page = await reportPage(content([text('<script>alert(1)</script>', '"><img src=x onerror=alert(2)>'), number('" onload="alert(3)')]));
    expect(page).not.toMatch(/<script|<img|" onload="/);
    expect(page).toContain('&#60;script&#62;alert(1)');
  });

  it('asks for nothing outside itself', async () => {
    const page = await reportPage(content([number('delay'), text('origin', 'SEA')]));
    expect(page).not.toMatch(/https?:|src=|href="(?!#)|url\(|@import|<script|<link/);
    expect(page).toMatch(/<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'[^"]*">/);
  });

  it('draws a bar for each bin, as high as its share of the highest', async () => {
    const page = await reportPage(content([number('delay')]));
    const [low = 0, high = 0] = [...page.matchAll(/<path d="M[^"]*v([\d.]+)h[^"]*" fill="#2f6f9f"/g)].map(([, height]) => Number(height));
    expect(high).toBeGreaterThan(50);
    expect(low / high).toBeCloseTo(4 / 6, 2);
    expect(page).toContain('svg [fill="#2f6f9f"]{fill:var(--mark)}');
    expect(page).toContain('aria-label="Histogram of delay, from 0 to 10"');
  });

  it('shows no value of a column that was hashed or masked', async () => {
    const page = await reportPage(content([text('email', 'marker-of-a-hash')], { sensitive: { email: 'hash' } }));
    expect(page).not.toContain('marker-of-a-hash');
    expect(page).toContain('Personal: hashed.');
  });

  it('draws the bulk, its quantiles as figures, and says how many values lie outside', async () => {
    const column = number('delay');
    if (column.values.kind !== 'number') throw new Error('a number was expected');
    const quantiles = [0.05, 0.25, 0.5, 0.75, 0.95].map((q) => ({ q, value: q * 100 }));
    const values = { ...column.values, min: -900, max: 123_456, quantiles, display: { edges: [0, 50, 100], counts: [4, 3], below: 1, above: 2 } };
    const page = await reportPage(content([{ ...column, values }]));
    expect(page).toContain('Not drawn: 1 below 0 and 2 above 100 (30 % of the values).');
    expect(page).toContain('<dt>median</dt><dd>50</dd>');
    expect(page.match(/fill="#2f6f9f"/g)).toHaveLength(2 + 1); // two bars, and the rule of the style
    const [strip] = /stroke="#5b6875" stroke-width="7"/.exec(page) ?? [];
    expect(strip).toBeDefined();
    expect(page).toContain('from −900 to 123,456');
  });

  it('draws the lengths of texts', async () => {
    const column = text('review', 'fine');
    if (column.values.kind !== 'string') throw new Error('a text was expected');
    const lengths = { quantiles: [{ q: 0.5, value: 2 }], histogram: { edges: [1, 2, 3], counts: [4, 4], below: 0, above: 1 } };
    const page = await reportPage(content([{ ...column, distinct: 400, values: { ...column.values, lengths } }]));
    expect(page).toContain('aria-label="Histogram of the lengths of review, from 1 to 3 characters"');
    expect(page).toContain('Not drawn: 1 above 3');
  });

  it('draws correlations with the target, the strongest first, and says what has none and why', async () => {
    const correlations = {
      target: 'price',
      columns: [
        { column: 'age', measure: 'pearson' as const, value: -0.25, rows: 10 },
        { column: 'kind', measure: 'correlationRatio' as const, value: 0.75, rows: 8 },
      ],
      skipped: [
        { column: '<b>id', reason: 'manyValues' as const },
        { column: 'mail', reason: 'personal' as const },
      ],
    };
    const page = await reportPage({
      ...content([number('price')]),
      profile: { format: 'millrace-profile/1', rows: 10, columns: [number('price')], correlations },
    });
    expect(page).toContain('aria-label="Correlation with price: kind η 0.750, age r −0.250"');
    expect(page).toContain('Without a figure: &#60;b&#62;id (too many different values), mail (personal).');
    expect(page).toContain('kind 8.');
    // The bar of the negative one is a third as long, in another colour.
    const width = (colour: string): number => Math.abs(Number(new RegExp(`d="M[^"]*?h(-?[\\d.]+)v[^"]*" fill="${colour}"`).exec(page)?.[1] ?? 'NaN'));
    expect(width('#b5532d') / width('#2f6f9f')).toBeCloseTo(1 / 3, 1);
  });

  it('puts expectations that fail first, with what fails, as text', async () => {
    const { expectations: rules } = expectations({ delay: [notNull(), between(0, 5), between(0, 9, { severity: 'warn' })] });
    const results = rules.map((expectation, index) => ({
      expectation,
      column: 'delay',
      success: index === 0,
      severity: expectation.severity,
      message: `message ${String(index)} <i>`,
      checked: 10,
      failing: index,
      fraction: index / 10,
      observed: null,
      sample: index === 0 ? [] : [{ row: 1234, value: '<script>9' }],
    }));
    const validation: ValidationResult = { format: 'millrace-validation/1', rows: 10, success: false, results };
    const page = await reportPage(content([number('delay')], { validation }));
    expect([...page.matchAll(/message (\d) &#60;i&#62;/g)].map(([, index]) => index)).toEqual(['1', '2', '0']);
    expect(page).toContain('row 1,234: <code>&#60;script&#62;9</code>');
    expect(page).toContain('<dd>1 of 3</dd>');
    expect(page).toContain('Expectations (2 not held)');
    // Of a column that is personal the rows are named, and what they hold is not.
    for (const more of [{ sensitive: { delay: 'mask' as const } }, { personal: [{ column: 'delay', kind: 'phone' as const, share: 1, contains: false }] }]) {
      const hidden = await reportPage(content([number('delay')], { validation, ...more }));
      expect(hidden).not.toContain('script&#62;9');
      expect(hidden).toContain('row 1,234');
    }
  });

  it('shows no value of a column that looks personal, and says what it looks like', async () => {
    const page = await reportPage(
      content([text('contact', 'ann@example.org')], { personal: [{ column: 'contact', kind: 'email', share: 1, contains: false }] }),
    );
    expect(page).not.toContain('ann@');
    expect(page).toContain('contact looks like e-mail addresses (100 % of the values looked at)');
  });

  it('leads to each part and each column, whatever their names', async () => {
    const page = await reportPage(content([text('a b#"c', 'x'), number('n')], { validation: null }));
    const links = [...page.matchAll(/href="#([^"]*)"/g)].map(([, id = '']) => id);
    expect(new Set(links)).toEqual(new Set(['overview', 'columns', 'c1', 'c2']));
    for (const id of links) expect(page).toContain(` id="${id}"`);
  });

  it('of a profile of an older version says what it says, and how far its numbers of values may be off', async () => {
    const page = await reportPage(content([{ ...number('n'), distinct: 70_000 }]));
    expect(page).toContain('may be off by 10 % and more');
    expect(page).not.toContain('Not drawn');
    const newer = await reportPage(content([{ ...number('n'), distinct: 70_000, distinctError: 0.005 }]));
    expect(newer).toContain('≈ 70,000');
    expect(newer).toContain('a standard error of 0.5 %');
  });

  it('of instants months apart writes at most four months, none over another', async () => {
    const edges = Array.from({ length: 21 }, (_, index) => new Date(Date.UTC(2001, 0, 1) + index * 9 * 86_400_000).toISOString());
    const values = { kind: 'timestamp' as const, min: edges[0] ?? '', max: edges[20] ?? '', histogram: { edges, counts: new Array<number>(20).fill(3) } };
    const page = await reportPage(content([{ name: 'at', type: 'timestamp', nulls: 0, distinct: 10, values }]));
    expect([...page.matchAll(/>(\w{3} 2001)</g)].map(([, month]) => month)).toEqual(['Jan 2001', 'Mar 2001', 'May 2001']);
  });

  it('of 1,000 columns lists all and plots a part', async () => {
    const page = await reportPage(content(Array.from({ length: 1000 }, (_, index) => number(`c${String(index)}`))));
    expect(page.length).toBeLessThan(500_000);
    expect(page.match(/<svg/g)).toHaveLength(100);
    expect(page).toContain('900 more columns');
  });
});
