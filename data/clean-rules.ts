/** Rules that look at one row, as row transforms. */
import type { Column } from '../contracts/columns.ts';
import type { CleanRule } from '../contracts/clean-rules.ts';
import { MillraceError } from '../contracts/errors.ts';
import { call, col, type Expression, type RowTransform, set } from '../contracts/row-transforms.ts';
import { columnsMissing } from './dataset.ts';

/** Figures that a rule took from training rows, by column. */
export type Fitted = ReadonlyMap<string, FittedColumn>;
export interface FittedColumn {
  /** For impute: the value; with groups, that of all rows. For clip: unused. */
  readonly value?: string | number | boolean | null;
  /** Value of the group's column → value. */
  readonly groups?: readonly { readonly group: string | number | boolean; readonly value: string | number | boolean }[];
  readonly min?: number | null;
  readonly max?: number | null;
}

/** The columns that a rule is about. @throws MillraceError COLUMN_MISSING, COLUMN_TYPE */
export function ruleColumns(rule: CleanRule, columns: readonly Column[]): readonly Column[] {
  const wanted = 'columns' in rule ? rule.columns : rule.rule === 'extract' ? [rule.from, rule.into] : (rule.by ?? []);
  if (wanted === 'text') return columns.filter(({ type }) => type === 'string');
  const extra = 'by' in rule && rule.by !== undefined ? [rule.by].flat() : [];
  const sources = rule.rule === 'fillFromMajority' && rule.source !== undefined ? [rule.source] : [];
  const latest = rule.rule === 'deduplicate' && typeof rule.keep === 'object' ? [rule.keep.latest] : [];
  const missing = [...wanted, ...extra, ...sources, ...latest].filter((name) => !columns.some((column) => column.name === name));
  if (missing.length > 0) throw columnsMissing(columns, [...new Set(missing)]);
  const found = wanted.flatMap((name) => columns.filter((column) => column.name === name));
  const wrong = found.filter(({ type }) => !TYPES[rule.rule].includes(type));
  if (wrong.length > 0) {
    throw new MillraceError('COLUMN_TYPE', `The rule ${rule.rule} is for columns of type ${TYPES[rule.rule].join(', ')}.`, {
      problems: wrong.map(({ name, type }) => ({ path: rule.rule, column: name, message: `${name} is of type ${type}.`, found: type })),
    });
  }
  return found;
}

const ANY: readonly Column['type'][] = ['number', 'integer', 'boolean', 'string', 'timestamp', 'date'];
const TEXT: readonly Column['type'][] = ['string'];
const NUMERIC: readonly Column['type'][] = ['number', 'integer'];
const TYPES: Readonly<Record<CleanRule['rule'], readonly Column['type'][]>> = {
  trim: TEXT,
  lowerCase: TEXT,
  upperCase: TEXT,
  normalizeUnicode: TEXT,
  nullIf: TEXT,
  replaceText: TEXT,
  parseNumber: TEXT,
  parseDate: TEXT,
  mapValues: TEXT,
  extract: TEXT,
  impute: ['number', 'integer', 'boolean', 'string'],
  clip: NUMERIC,
  dropOutliers: NUMERIC,
  deduplicate: ANY,
  fillFromMajority: ANY,
};

/** The row transforms of a rule that looks at one row; none for one that looks at many. */
export function ruleTransforms(rule: CleanRule, columns: readonly Column[], fitted: Fitted): readonly RowTransform[] {
  const each = (to: (column: Expression, name: Column) => Expression): readonly RowTransform[] =>
    ruleColumns(rule, columns).map((column) => set(column.name, to(col(column.name), column)));
  switch (rule.rule) {
    case 'trim':
      return each((value) => call('trim', value));
    case 'lowerCase':
      return each((value) => call('lower', value));
    case 'upperCase':
      return each((value) => call('upper', value));
    case 'normalizeUnicode':
      return each((value) => call('normalizeUnicode', value));
    case 'nullIf':
      return each((value) => call('if', call('in', value, ...rule.values), null, value));
    case 'replaceText':
      return each((value) => call('regexReplace', value, rule.pattern, rule.with));
    case 'parseNumber':
      return each((value) => numberOf(value, rule));
    case 'parseDate':
      return each((value) => call('coalesce', ...rule.formats.map((format) => dateOf(value, format))));
    case 'mapValues':
      return each((value) => mapped(value, rule));
    case 'extract': {
      ruleColumns(rule, columns);
      const [from, into] = [col(rule.from), col(rule.into)];
      // Whether it matches shows in that replacing the whole text by a sign changes it into that sign alone.
      const found = call('startsWith', call('regexReplace', from, `^(?:.|\\n)*?(?:${rule.pattern})(?:.|\\n)*$`, `${MARK}\\1`), MARK);
      const taken = call('substring', call('regexReplace', from, `^(?:.|\\n)*?(?:${rule.pattern})(?:.|\\n)*$`, `${MARK}\\1`), 2);
      const takes = call('and', call('isNull', into), found);
      const kept = '__millrace_extracts';
      return [
        set(kept, takes),
        set(rule.into, call('if', col(kept), taken, into)),
        ...(rule.remove ? [set(rule.from, call('if', col(kept), call('regexReplace', from, rule.pattern, ''), from))] : []),
        { kind: 'drop', columns: [kept] },
      ];
    }
    case 'impute': {
      const { by } = rule;
      return each((value, { name }) => {
        const figures = fitted.get(name);
        const all = figures?.value ?? null;
        const groups = by === undefined ? [] : (figures?.groups ?? []).map(({ group, value: of }) => call('if', call('equal', col(by), group), of, null));
        return all === null && groups.length === 0 ? value : call('coalesce', value, ...groups, ...(all === null ? [] : [all]));
      });
    }
    case 'clip':
      return each((value, { name }) => {
        const { min = null, max = null } = fitted.get(name) ?? {};
        const above = min === null ? value : call('greatest', value, min);
        return max === null ? above : call('least', above, max);
      });
    case 'dropOutliers':
    case 'deduplicate':
    case 'fillFromMajority':
      return [];
  }
}

const quoted = (text: string): string => text.replaceAll(/[.*+?^${}()|[\]\\/-]/g, '\\$&');
/** Begins what a pattern has matched: a sign that no text of a table holds. */
const MARK = '\u0001';

function numberOf(value: Expression, { units, percent, thousands, decimal }: CleanRule & { rule: 'parseNumber' }): Expression {
  const plain = call('lower', call('trim', value));
  const grouped = thousands === null || thousands === decimal ? plain : call('replace', plain, thousands, '');
  const pointed = decimal === '.' ? grouped : call('if', call('contains', grouped, '.'), null, call('replace', grouped, decimal, '.'));
  const text = call('regexReplace', call('regexReplace', pointed, '^([+-]?)[$€£¥]\\s*', '\\1'), '\\s*[$€£¥]$', '');
  const without = (suffix: string): Expression => call('toNumber', call('regexReplace', text, `\\s*${suffix}$`, ''));
  // The longest unit first: `kg` ends in `g`.
  const named = Object.entries(units).sort(([a], [b]) => b.length - a.length || (a < b ? -1 : 1));
  const ofUnits = named.map(([unit, factor]) => {
    const number = without(quoted(unit.toLowerCase()));
    return call('if', call('endsWith', text, unit.toLowerCase()), factor === 1 ? number : call('multiply', number, factor), null);
  });
  const share = percent === 'fraction' ? call('divide', without('%'), 100) : without('%');
  return call('coalesce', call('toNumber', text), call('if', call('endsWith', text, '%'), share, null), ...ofUnits);
}

const HALF_DAY_MS = 43_200_000;
const MONTHS = ['january', 'february', 'march', 'april', 'may', 'june', 'july', 'august', 'september', 'october', 'november', 'december'];
const PARTS: Readonly<Record<string, string>> = {
  Y: '([0-9]{4})',
  m: '([0-9]{1,2})',
  d: '([0-9]{1,2})',
  H: '([0-9]{1,2})',
  I: '([0-9]{1,2})',
  M: '([0-9]{2})',
  S: '([0-9]{2})',
  p: '(am|pm|a\\.m\\.|p\\.m\\.)',
  b: '(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)',
  B: `(${MONTHS.join('|')})`,
};

/** An instant of a text in one format: the text is turned into an ISO one, which then has to be a day of the calendar. */
function dateOf(value: Expression, format: string): Expression {
  const places = new Map<string, number>();
  let pattern = '';
  for (let at = 0; at < format.length; at++) {
    const sign = format.charAt(at);
    if (sign !== '%') {
      pattern += quoted(sign.toLowerCase());
      continue;
    }
    const part = format.charAt(++at);
    const known = PARTS[part];
    if (known === undefined || places.has(part))
      throw new MillraceError('INVALID_PARAMETERS', `The date format ${format} cannot be used: %${part}.`, {
        fix: `Use each of ${Object.keys(PARTS)
          .map((name) => `%${name}`)
          .join(' ')} at most once.`,
      });
    places.set(part, places.size + 1);
    pattern += known;
  }
  const group = (...names: readonly string[]): string | undefined => {
    const place = names.map((name) => places.get(name)).find((found) => found !== undefined);
    return place === undefined ? undefined : `\\${place}`;
  };
  const year = group('Y');
  const month = group('m', 'b', 'B');
  const day = group('d');
  if (year === undefined || month === undefined || day === undefined)
    throw new MillraceError('INVALID_PARAMETERS', `The date format ${format} has no year, month and day.`, { fix: 'Use %Y, %m (or %b, %B) and %d.' });
  const iso = `${MARK}${year}-${month}-${day}T${group('H', 'I') ?? '00'}:${group('M') ?? '00'}:${group('S') ?? '00'}Z${group('p') ?? ''}`;
  let text = call('regexReplace', call('lower', call('trim', value)), `^${pattern}$`, iso);
  if (places.has('b') || places.has('B')) {
    MONTHS.forEach((name, index) => {
      text = call('regexReplace', text, `-(?:${name}|${name.slice(0, 3)})-`, `-${String(index + 1).padStart(2, '0')}-`);
    });
  }
  // one digit becomes two
  for (const [before, after] of [
    ['-', '-'],
    ['-', 'T'],
    ['T', ':'],
  ] as const) {
    text = call('regexReplace', text, `${before}([0-9])${after}`, `${before}0\\1${after}`);
  }
  const matched = call('startsWith', text, MARK);
  if (!places.has('p')) return call('if', matched, call('toTimestamp', call('substring', text, 2)), null);
  const instant = call('toTimestamp', call('substring', call('regexReplace', text, 'Z[ap][.]?m[.]?$', 'Z'), 2));
  const hour = call('hour', instant);
  const [afternoon, night] = [call('contains', text, 'Zp'), call('and', call('contains', text, 'Za'), call('equal', hour, 12))];
  const moved = (byMs: number): Expression => call('toTimestamp', call('add', call('toNumber', instant), byMs));
  const clock = call('if', call('and', afternoon, call('less', hour, 12)), moved(HALF_DAY_MS), call('if', night, moved(-HALF_DAY_MS), instant));
  return call('if', call('and', matched, call('lessOrEqual', hour, 12)), clock, null);
}

/** Text to text: the new texts one after the other, each for all that become it. */
function mapped(value: Expression, { values, others }: CleanRule & { rule: 'mapValues' }): Expression {
  const from = new Map<string | null, string[]>();
  for (const [key, to] of Object.entries(values)) from.set(to, [...(from.get(to) ?? []), key]);
  const known = [...from].flatMap(([to, keys]) => (to === null ? [] : [call('if', call('in', value, ...keys), to, null)]));
  const rest = others === 'keep' ? [value] : [];
  const found = known.length + rest.length === 0 ? call('nullIf', value, value) : call('coalesce', ...known, ...rest);
  const gone = from.get(null);
  return gone === undefined ? found : call('if', call('in', value, ...gone), null, found);
}
