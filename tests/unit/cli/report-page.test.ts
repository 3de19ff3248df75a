import { describe, expect, it } from 'vitest';
import { reportPage, type ReportContent } from '../../../cli/report-page.ts';
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
    expect(page).not.toMatch(/https?:|src=|href=|url\(|@import/);
    expect(page).toContain("default-src 'none'");
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

  it('of 1,000 columns lists all and plots a part', async () => {
    const page = await reportPage(content(Array.from({ length: 1000 }, (_, index) => number(`c${String(index)}`))));
    expect(page.length).toBeLessThan(500_000);
    expect(page.match(/<svg/g)).toHaveLength(100);
    expect(page).toContain('900 more columns');
  });
});
