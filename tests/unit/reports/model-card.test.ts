import { describe, expect, it } from 'vitest';
import type { ModelCard } from '../../../contracts/model-card.ts';
import { modelCardPage } from '../../../reports/model-card.ts';
import { bareCard } from '../../support/bare-card.ts';

const sha = (digit: string): string => digit.repeat(64);

const evaluation = (more: Partial<NonNullable<ModelCard['evaluation']>> = {}): NonNullable<ModelCard['evaluation']> => ({
  format: 'millrace-evaluation/2',
  predictor: sha('a'),
  on: sha('c'),
  rows: 1_000,
  task: 'binary',
  classes: ['no', 'yes'],
  threshold: 0.25,
  metric: 'auc',
  metrics: { brier: 0.1, matthews: 0.4, auc: 0.8123456 },
  intervals: { auc: { low: 0.79, high: 0.83, method: 'bootstrap' } },
  confidence: 0.95,
  champion: null,
  slices: [],
  curves: {},
  business: {},
  tests: [],
  importance: null,
  explanations: [],
  accepted: true,
  problems: [],
  warnings: [],
  ...more,
});
const binary = (more: Partial<ModelCard> = {}): ModelCard =>
  bareCard({ task: { kind: 'binary', target: 'late', classes: ['no', 'yes'] }, threshold: 0.25, evaluation: evaluation(), ...more });

const headings = (page: string): string[] => [...page.matchAll(/<h2 id="[a-z]+">([^<]*)/g)].map(([, text = '']) => text);
/** What is read: without tags. */
const textOf = (html: string): string =>
  html
    .replace(/<style>.*?<\/style>/s, '')
    .replace(/<[^>]+>/g, ' ')
    .replace(/\s+/g, ' ');
/** Corner points of the lines of a colour, in the pixels of their plot. */
const linesOf = (page: string, colour: string): number[][][] =>
  [...page.matchAll(new RegExp(`<path d="(M[^"]*L[^"]*)"[^>]* stroke="${colour}"`, 'g'))].map(([, d = '']) =>
    d
      .slice(1)
      .split('L')
      .map((at) => at.split(',').map(Number)),
  );
const [MARK, BEST] = ['#2f6f9f', '#b5532d'];

describe('a model card', () => {
  it('leaves out whatever is not known', async () => {
    const page = await modelCardPage(bareCard());
    expect(headings(page)).toEqual(['How it was made']);
    expect(page).not.toMatch(/undefined|null|NaN|<svg/);
    expect(page).toContain('late <span class="version">version 3</span>');
    expect(page).toContain('Registered 2026-03-01 10:20 UTC by flightDelay');
  });

  it('asks for nothing outside itself, and says so', async () => {
    const page = await modelCardPage(binary({ importance: [{ feature: 'distance', share: 1 }] }));
    expect(page).not.toMatch(/https?:|src=|href="(?!#)|url\(|@import|<script|<link/);
    expect(page).toMatch(/<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'[^"]*">/);
  });

  it('shows all that was written by people and found in data as text', async () => {
    const evil = '<img src=x onerror=alert(1)>"\'';
    const page = await modelCardPage(
      binary({
        description: evil,
        owner: evil,
        purpose: { task: evil, [evil]: { nested: evil } },
        task: { kind: 'binary', target: evil, classes: [evil, evil] },
        trainer: { name: evil, parameters: { [evil]: evil } },
        training: { seed: 1, rows: 2, ofRows: 2, device: evil, cpuSeconds: 1, peakMib: 1, from: null, features: [{ name: evil, kind: evil, columns: [evil] }] },
        data: [{ role: 'training', id: sha('d'), name: evil, rows: 2 }],
        columns: [{ name: evil, type: 'string', personal: null, unserved: evil, view: evil, training: null }],
        importance: [{ feature: evil, share: 1 }],
        selection: {
          metric: evil,
          scores: [
            { trainer: evil, value: 1, chosen: true, metrics: { [evil]: 1, [`${evil}2`]: 2 } },
            { trainer: 'b', value: 0, chosen: false },
          ],
        },
        hiddenSlices: [evil],
        rules: [{ rule: evil, found: evil, state: 'holds' }],
        environment: { [evil]: evil },
        evaluation: evaluation({
          business: { [evil]: 1 },
          slices: [{ column: evil, metric: 'auc', values: [{ value: evil, rows: 5, metric: 0.5, metrics: {} }], tooSmall: 0, withoutValue: 0 }],
          tests: [{ test: 0, kind: 'invariance', what: evil, tried: 1, failed: 0, worst: null, passed: true, severity: 'fail', examples: [] }],
          importance: [{ column: evil, loss: 0.1, deviation: 0.01 }],
          curves: {
            calibration: [{ from: 0, to: 1, rows: 1, meanProbability: 0.5, frequency: 0.5, low: 0.4, high: 0.6 }],
            confusion: {
              classes: [evil, evil],
              counts: [
                [1, 2],
                [3, 4],
              ],
            },
          },
        }),
        tuning: {
          metric: evil,
          direction: 'maximize',
          seed: 1,
          search: evil,
          best: 2,
          parameters: [{ name: evil, kind: 'categorical', options: [evil, 'b'] }],
          trials: [1, 2].map((trial) => ({ trial, state: 'completed', values: { [evil]: trial === 1 ? evil : 'b' }, value: trial, seconds: 1 })),
        },
      }),
    );
    expect(page).not.toContain('<img');
    expect(page.match(/&#60;img src=x/g)?.length).toBeGreaterThan(20);
  });

  it('gives the main metric first with its interval, the chief ones next, and folds the others away', async () => {
    const page = await modelCardPage(binary());
    expect(page).toContain('<dt>AUC</dt><dd>0.8123<small>0.7900 to 0.8300</small></dd>');
    const [shown = '', folded = ''] = page.slice(page.indexOf('id="metrics"')).split('<details>');
    expect(textOf(shown)).toMatch(/AUC ↑ 0\.8123 0\.7900 to 0\.8300 Brier score ↓ 0\.1000/);
    expect(shown).not.toContain('matthews');
    expect(textOf(folded)).toContain('1 more metrics metric value matthews ↑ 0.4000');
  });

  it('says how it compares with the champion, by which test', async () => {
    const comparison = {
      metric: 'auc',
      method: 'delong',
      improvement: 0.0112,
      low: -0.002,
      high: 0.0204,
      confidence: 0.95,
      pValue: 0.00002,
      atLeast: 0,
      pNoBetter: 0.1,
    } as const;
    const page = textOf(
      await modelCardPage(binary({ evaluation: evaluation({ champion: { model: 'late', version: 2, metrics: { auc: 0.8011 }, comparison } }) })),
    );
    expect(page).toContain('champion (2)');
    expect(page).toContain('0.8011');
    expect(page).toContain('By AUC this one is better by 0.0112 (95 % interval −0.0020 to +0.0204; DeLong’s test, p &lt; 0.001).');
  });

  it('draws the ROC curve through its points, and the threshold where the confusion puts it', async () => {
    const roc = [
      { threshold: 1, falsePositiveRate: 0, truePositiveRate: 0 },
      { threshold: 0.5, falsePositiveRate: 0.25, truePositiveRate: 0.75 },
      { threshold: 0, falsePositiveRate: 1, truePositiveRate: 1 },
    ];
    // 2 of 10 negatives and 9 of 10 positives are answered as positive
    const confusion = {
      classes: ['no', 'yes'],
      counts: [
        [8, 2],
        [1, 9],
      ],
    };
    const page = await modelCardPage(binary({ evaluation: evaluation({ curves: { roc, confusion } }) }));
    const curve = linesOf(page, MARK)[0] ?? [];
    const [[left = 0, bottom = 0] = [], middle = [], [right = 0, top = 0] = []] = curve;
    expect(curve).toHaveLength(3);
    const share = ([x = 0, y = 0]: readonly number[]): number[] => [(x - left) / (right - left), (bottom - y) / (bottom - top)];
    expect(share(middle)[0]).toBeCloseTo(0.25, 2);
    expect(share(middle)[1]).toBeCloseTo(0.75, 2);
    const [, x = '', y = ''] = new RegExp(`translate\\(([\\d.]+),([\\d.]+)\\)"[^>]* fill="${BEST}"`).exec(page) ?? [];
    expect(share([Number(x), Number(y)])[0]).toBeCloseTo(0.2, 2);
    expect(share([Number(x), Number(y)])[1]).toBeCloseTo(0.9, 2);
  });

  it('tells the confusion in rows and in shares of the class that they are, small classes together', async () => {
    const classes = Array.from({ length: 15 }, (_, i) => `c${String(i)}`);
    const counts = classes.map((_, row) => classes.map((__, column) => (row === column ? 10 : column === 0 ? 5 : 0)));
    const page = await modelCardPage(binary({ evaluation: evaluation({ curves: { confusion: { classes, counts } } }) }));
    const table = /<table class="confusion">.*?<\/table>/s.exec(page)?.[0] ?? '';
    const lines = [...table.matchAll(/<tr><th scope="row">([^<]*)<\/th>(.*?)<\/tr>/gs)].map(([, name = '', cells = '']) => [
      name,
      ...[...cells.matchAll(/>(\d+)<small>([^<]*)</g)].map(([, n = '', part = '']) => `${n} ${part}`),
    ]);
    expect(lines).toHaveLength(13);
    expect(lines[1]?.slice(0, 4)).toEqual(['c1', '5 33.3 %', '10 66.7 %', '0 0.0 %']);
    expect(lines[12]?.[0]).toBe('3 more');
    expect([lines[12]?.[1], lines[12]?.[13]]).toEqual(['15 33.3 %', '30 66.7 %']);
  });

  it('lists slices as they come, the worst first, folds many away and marks each interval', async () => {
    const values = Array.from({ length: 11 }, (_, i) => ({
      value: i === 0 ? '[0.30000000000000004, 12.5)' : `v${String(i)}`,
      rows: 100,
      metric: 0.5 + i / 100,
      low: 0.4,
      high: 0.9,
      metrics: {},
    }));
    const page = await modelCardPage(
      binary({ hiddenSlices: ['mail'], evaluation: evaluation({ slices: [{ column: 'origin', metric: 'auc', values, tooSmall: 4, withoutValue: 0 }] }) }),
    );
    const part = page.slice(page.indexOf('id="slices"'));
    expect(textOf(part)).toContain('[0.3, 12.5) 100 0.5000 v1 100 0.5100');
    expect(textOf(part)).toContain('3 better ones');
    expect(textOf(part)).toContain('Not listed: 4 with too few rows.');
    expect(textOf(part)).toContain('because their values are personal: mail.');
    // 0.4 to 0.9 is the whole width, the first value a fifth of the way along it
    expect(part).toContain('<path d="M6.0,8H114.0"');
    expect(part).toContain('<circle cx="27.6"');
  });

  it('shows residuals of a regression as points and as a histogram', async () => {
    const residuals = {
      points: [
        { answer: 10, residual: -2 },
        { answer: 20, residual: 3 },
        { answer: 30, residual: 0 },
      ],
      histogram: [
        { from: -2, to: 0, rows: 5 },
        { from: 0, to: 2, rows: 10 },
      ],
      quantiles: { '1%': -2, '5%': -1.5, '25%': -1, '50%': 0.1234, '75%': 1, '95%': 1.5, '99%': 2 },
    };
    const page = await modelCardPage(
      bareCard({
        task: { kind: 'regression', target: 'price' },
        evaluation: evaluation({
          task: 'regression',
          classes: [],
          threshold: null,
          metric: 'rmse',
          metrics: { rmse: 54_523.4 },
          intervals: {},
          curves: { residuals },
        }),
      }),
    );
    expect(page.match(new RegExp(`<path[^>]*translate[^>]* fill="${MARK}" fill-opacity="0.5"`, 'g'))).toHaveLength(3);
    expect(page).toContain('aria-label="Histogram of residuals, from −2 to 2"');
    expect(textOf(page)).toContain('median 0.123');
    expect(page).toContain('<dt>RMSE</dt><dd>54,523</dd>');
  });

  it('compares all candidates in one table, by what they were chosen and by the other chief metrics', async () => {
    const scores = [
      { trainer: 'ensemble', value: 0.81, chosen: true, metrics: { auc: 0.81, logLoss: 0.4 } },
      { trainer: 'gbdt', value: 0.79, chosen: false, metrics: { auc: 0.79, logLoss: 0.5 } },
      { trainer: 'linear', value: 0.7, chosen: false },
    ];
    const page = await modelCardPage(bareCard({ selection: { metric: 'auc', scores } }));
    const table = /<h2 id="candidates">[\s\S]*?<\/table>/.exec(page)?.[0] ?? '';
    const rows = [...table.matchAll(/<tr>(.*?)<\/tr>/g)].map(([, row = '']) =>
      [...row.matchAll(/<t[hd][^>]*>(.*?)<\/t[hd]>/g)].map(([, cell = '']) => textOf(cell).trim()),
    );
    expect(rows).toEqual([
      ['trainer', 'AUC', 'log loss', ''],
      ['ensemble', '0.8100', '0.4000', 'chosen'],
      ['gbdt', '0.7900', '0.5000', ''],
      ['linear', '0.7000', '', ''],
    ]);
  });

  it('draws every trial of a tuning, the best so far, and a line a trial through its parameters', async () => {
    const values = [0.6, 0.8, 0.7, 0.9];
    const tuning: NonNullable<ModelCard['tuning']> = {
      metric: 'auc',
      direction: 'maximize',
      seed: 5,
      search: 'tpe',
      best: 4,
      parameters: [
        { name: 'leaves', kind: 'int', low: 4, high: 64, log: true },
        { name: 'kind', kind: 'categorical', options: ['a', 'b'] },
        { name: 'fixed', kind: 'categorical', options: ['only'] },
      ],
      trials: [
        ...values.map((value, i) => ({
          trial: i + 1,
          state: 'completed' as const,
          values: { leaves: i === 3 ? 16 : 4, ...(i === 0 ? {} : { kind: 'b' }) },
          value,
          seconds: 1,
        })),
        { trial: 5, state: 'failed', values: { leaves: 8 }, value: null, seconds: 1 },
      ],
    };
    const page = await modelCardPage(binary({ tuning }));
    expect(textOf(page)).toContain('5 trials (4 completed, 1 failed), search by tpe, seed 5.');
    expect(textOf(page)).toContain('The best: trial 4 AUC 0.9000 leaves 16');
    const part = page.slice(page.indexOf('id="tuning"'));
    expect(part.match(new RegExp(`<path[^>]*translate[^>]* fill="${MARK}"`, 'g'))).toHaveLength(4);
    const parallel = part.slice(part.indexOf('Trials by their parameters'));
    // 16 is half of the way from 4 to 64 on a logarithmic axis; the choice is at its top, the best value near its own
    const [[, leaves = 0] = [], [, kind = 0] = [], [, value = 0] = []] = linesOf(parallel, BEST)[0] ?? [];
    expect(kind).toBe(0);
    expect(leaves / 242).toBeCloseTo(0.5, 2);
    expect(value).toBeLessThan(20);
    // the worst trial has no `kind`: nothing is drawn over the gap
    expect(linesOf(parallel, MARK).map((line) => line.length)).toEqual([3, 3]);
    expect(linesOf(parallel, '#5b6875')).toEqual([]);
    expect(parallel).not.toContain('fixed');
  });

  it('says of columns what the training rows were like, and nothing of the values of personal ones', async () => {
    const page = textOf(
      await modelCardPage(
        binary({
          columns: [
            {
              name: 'distance',
              type: 'number',
              personal: null,
              unserved: null,
              view: null,
              training: { rows: 200, nulls: 5, distinct: 80, range: [0.123456, 400, 1_200] },
            },
            {
              name: 'at',
              type: 'timestamp',
              personal: null,
              unserved: null,
              view: null,
              training: { rows: 200, nulls: 0, distinct: 9, range: ['2001-01-01T00:00:00.000Z', null, '2001-02-01T06:30:00.000Z'] },
            },
            { name: 'mail', type: 'string', personal: 'hash', unserved: null, view: null, training: { rows: 200, nulls: 0, distinct: 200, range: null } },
            { name: 'spent', type: 'number', personal: null, unserved: 'the step add', view: 'customer', training: null },
          ],
        }),
      ),
    );
    expect(page).toContain('distance number 2.5 % 80 0.12346 400 1,200');
    expect(page).toContain('at timestamp 0 % 9 2001-01-01 2001-02-01 06:30 UTC');
    expect(page).toContain('mail personal: hashed string 0 % 200');
    expect(page).toContain('spent from customer made by the step add: send it ready number');
  });

  it('tells rules and tests with what was found', async () => {
    const page = textOf(
      await modelCardPage(
        binary({
          rules: [
            { rule: 'auc at least 0.8', found: '0.8123', state: 'holds' },
            { rule: 'recall at least 0.9', found: '0.4', state: 'warns' },
          ],
          evaluation: evaluation({
            tests: [{ test: 0, kind: 'direction', what: 'more is more', tried: 300, failed: 12, worst: 1, passed: true, severity: 'fail', examples: [] }],
          }),
        }),
      ),
    );
    expect(page).toContain('Rules that hold 1 of 2');
    expect(page).toContain('holds auc at least 0.8 0.8123 warning recall at least 0.9 0.4');
    expect(page).toContain('holds more is more direction 12 of 300 fail');
  });
});
