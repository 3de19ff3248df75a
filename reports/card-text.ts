import { metricDefinition } from '../contracts/metrics.ts';
import { escaped, figure } from './report-text.ts';

const NAMES: Readonly<Record<string, string>> = {
  auc: 'AUC',
  f1: 'F1',
  macroF1: 'macro F1',
  weightedF1: 'weighted F1',
  rmse: 'RMSE',
  mae: 'MAE',
  r2: 'R²',
  ece: 'ECE',
  ks: 'KS',
  brier: 'Brier score',
  aucOvr: 'AUC, one against the rest',
  aucOvrWeighted: 'AUC, one against the rest, weighted',
  aucOvo: 'AUC, one against one',
  aucOvoWeighted: 'AUC, one against one, weighted',
  medae: 'median absolute error',
  mape: 'MAPE',
  smape: 'SMAPE',
  rmsle: 'RMSLE',
  ndcg: 'NDCG',
  'ndcg@5': 'NDCG@5',
  'ndcg@10': 'NDCG@10',
  map: 'MAP',
  'map@10': 'MAP@10',
  mrr: 'MRR',
  d2Absolute: 'D², absolute',
  d2Poisson: 'D², Poisson',
  pinball10: 'pinball loss, 10 %',
  pinball50: 'pinball loss, 50 %',
  pinball90: 'pinball loss, 90 %',
};

/** A name of code as words: `businessMetric` → `business metric`. */
export const words = (name: string): string =>
  name
    .replace(/([a-z])([A-Z0-9])/g, '$1 $2')
    .replaceAll('_', ' ')
    .toLowerCase();

export const metricName = (name: string): string => (Object.hasOwn(NAMES, name) ? (NAMES[name] ?? name) : words(name));

/** ↑ where more is better, ↓ where less is; nothing of figures that are not ours. */
export function betterMark(name: string): string {
  const better = metricDefinition(name)?.better;
  return better === undefined ? '' : ` <span class="soft" title="${better === 'higher' ? 'more' : 'less'} is better">${better === 'higher' ? '↑' : '↓'}</span>`;
}

/** A metric's value: four decimals below ten, so that a column of them lines up, else five digits. */
export const score = (value: number | null | undefined): string =>
  value === null || value === undefined || !Number.isFinite(value)
    ? '–'
    : Math.abs(value) < 10 && (value === 0 || Math.abs(value) >= 0.0001)
      ? value.toFixed(4).replace('-', '−')
      : figure(Number(value.toPrecision(5)));

/** With its sign. */
export const difference = (value: number): string => `${value < 0 ? '−' : '+'}${score(Math.abs(value))}`;

/** As HTML. */
export const pValue = (value: number): string => (value < 0.001 ? 'p &lt; 0.001' : `p = ${value.toPrecision(2)}`);

/** A value of a document as text: texts as they are, the rest as JSON. */
export const plain = (value: unknown): string => escaped(typeof value === 'string' ? value : value === undefined ? '–' : JSON.stringify(value));

const GROUPED = /\[(-?[\d.e+-]+), (-?[\d.e+-]+)([)\]])/g;

/** A slice's value; ends of ranges of numbers to six digits. */
export const sliceName = (value: string): string =>
  value === ''
    ? '(empty)'
    : value.replace(
        GROUPED,
        (_, from: string, to: string, end: string) => `[${figure(Number(Number(from).toPrecision(6)))}, ${figure(Number(Number(to).toPrecision(6)))}${end}`,
      );

/** A value and its spread, both to the spread's second digit. */
export function withSpread(value: number, spread: number): string {
  const digits = spread > 0 ? Math.max(0, Math.min(6, 1 - Math.floor(Math.log10(spread)))) : 4;
  const told = (of: number): string => of.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return `${value < 0 ? '−' : '+'}${told(Math.abs(value))} ± ${told(spread)}`;
}
