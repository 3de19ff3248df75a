/** Rules of decision on a prediction: compiled once for a version, run on every row that is answered. */
import type { Column } from '../contracts/columns.ts';
import { type Decisions, outputColumn, PREDICTED, probabilityColumn } from '../contracts/decisions.ts';
import { MillraceError } from '../contracts/errors.ts';
import type { Expression } from '../contracts/row-transforms.ts';
import type { Signature } from '../contracts/signature.ts';
import { coerceValue } from './request-row.ts';
import { compileRowProgram, type RowValue } from './row-transforms.ts';

export interface Decision {
  readonly action: string;
  /** The action as JSON. */
  readonly text: string;
  /** Probability with which a row like this gets this action. */
  readonly propensity: number;
  readonly explored: boolean;
  readonly review: string | undefined;
}

export interface DecidedRow {
  readonly requestId: string;
  readonly row: number;
  /** The request's columns; what is not there, or does not fit, is unknown. */
  readonly values: Readonly<Record<string, unknown>> | undefined;
  /** The graph's output, the row's values from `from` on. */
  readonly output: ArrayLike<number>;
  readonly from: number;
  /** Index of the class that is answered. */
  readonly answered: number;
}

export interface Decider {
  /** The request's columns that conditions look at. */
  readonly columns: readonly string[];
  decide(row: DecidedRow): Decision;
  /** The action of the rules as JSON, without a control share: where what is done is not logged. */
  decideByRules(row: Omit<DecidedRow, 'requestId' | 'row'>): string;
}

const RULE = 'millrace_rule_';

/** Columns that stand for what was predicted, in the order in which `fill` writes them. */
function predictedColumns({ task }: Pick<Signature, 'task'>, used: ReadonlySet<string>): readonly Column[] {
  if (task.kind === 'raw') {
    const prefix = `${PREDICTED.output}.`;
    const places = [...used].flatMap((name) =>
      name.startsWith(prefix) && /^\d{1,6}$/.test(name.slice(prefix.length)) ? [Number(name.slice(prefix.length))] : [],
    );
    return Array.from({ length: places.length === 0 ? 0 : Math.max(...places) + 1 }, (_, index) => ({ name: outputColumn(index), type: 'number' }));
  }
  if (!('classes' in task)) return [{ name: PREDICTED.value, type: 'number' }];
  return [
    { name: PREDICTED.label, type: 'string' },
    { name: PREDICTED.probability, type: 'number' },
    ...task.classes.map((name) => ({ name: probabilityColumn(name), type: 'number' }) as const),
  ];
}

function columnsOf(expression: Expression, into: Set<string>): void {
  if (expression.op === 'column') into.add(expression.name);
  else if (expression.op === 'hash') columnsOf(expression.value, into);
  else if (expression.op === 'call') for (const arg of expression.args) columnsOf(arg, into);
}

/**
 * A place in [0, 1) that is always the same for the same text. FNV-1a, then MurmurHash3's finaliser twice: texts that
 * differ in their last digits lie far apart, and apart from the canary's lot of the same request (serving/request-id.ts).
 */
export function drawOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  for (let round = 0; round < 2; round += 1) {
    hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
    hash = (hash ^ (hash >>> 16)) + 0x9e3779b9;
  }
  return (hash >>> 0) / 2 ** 32;
}

/**
 * Compiles rules for a version of that signature.
 * @throws MillraceError COLUMN_MISSING, COLUMN_TYPE or INVALID_PARAMETERS, each problem with its rule; INVALID_CONFIG where a hash has no key
 */
export function compileDecisions(decisions: Decisions, signature: Pick<Signature, 'columns' | 'task'>, hashKey?: string): Decider {
  const { rules, otherwise, explore } = decisions;
  const used = new Set<string>();
  for (const rule of rules) columnsOf(rule.when, used);
  const own = predictedColumns(signature, used);
  const columns: readonly Column[] = [...signature.columns, ...own];
  const program = compileRules(rules, columns, hashKey);
  const reviewed = rules.findIndex(({ review }) => review !== undefined);
  if (reviewed >= 0 && !('classes' in signature.task))
    throw new MillraceError('INVALID_PARAMETERS', 'Only predictions of classes can be reviewed.', {
      problems: [
        { path: `decide.rules[${reviewed}].review`, message: 'The model predicts no classes, which people could choose from.', found: signature.task.kind },
      ],
    });
  const inputs = signature.columns.flatMap(({ name, type }, slot) => (used.has(name) ? [{ name, type, slot }] : []));
  const slots = new Array<RowValue>(program.slotCount).fill(null);
  const first = signature.columns.length;
  const { task } = signature;

  function fill(values: Readonly<Record<string, unknown>> | undefined, output: ArrayLike<number>, from: number, answered: number): void {
    for (const { name, type, slot } of inputs)
      slots[slot] = values !== undefined && Object.hasOwn(values, name) ? (coerceValue(type, values[name]) ?? null) : null;
    const at = (index: number): RowValue => {
      const value = output[from + index];
      return value === undefined || !Number.isFinite(value) ? null : value;
    };
    if (!('classes' in task)) {
      for (let k = 0; k < own.length; k += 1) slots[first + k] = at(k);
      return;
    }
    slots[first] = task.classes[answered] ?? null;
    slots[first + 1] = at(answered);
    for (let k = 0; k < task.classes.length; k += 1) slots[first + 2 + k] = at(k);
  }

  const conditions = rules.map((_, index) => program.columns.find(({ name }) => name === `${RULE}${index}`)?.slot ?? -1);
  const propensityOf = (action: string, greedy: string): number =>
    explore === undefined ? 1 : (action === greedy ? 1 - explore.share : 0) + (explore.actions.includes(action) ? explore.share / explore.actions.length : 0);
  const texts = new Map([otherwise, ...rules.map(({ action }) => action), ...(explore?.actions ?? [])].map((action) => [action, JSON.stringify(action)]));

  function ruleOf({ values, output, from, answered }: Omit<DecidedRow, 'requestId' | 'row'>): Decisions['rules'][number] | undefined {
    fill(values, output, from, answered);
    program.run(slots);
    return rules[conditions.findIndex((slot) => slots[slot] === true)];
  }

  return {
    columns: inputs.map(({ name }) => name),
    decideByRules: (decided) => texts.get(ruleOf(decided)?.action ?? otherwise) ?? '""',
    decide(decided) {
      const { requestId, row } = decided;
      const rule = ruleOf(decided);
      const greedy = rule?.action ?? otherwise;
      let action = greedy;
      let explored = false;
      if (explore !== undefined) {
        const lot = `${requestId}\n${row}\n${explore.seed}`;
        explored = drawOf(`${lot}\nexplore`) < explore.share;
        if (explored) action = explore.actions[Math.floor(drawOf(`${lot}\naction`) * explore.actions.length)] ?? greedy;
      }
      return { action, text: texts.get(action) ?? '""', propensity: propensityOf(action, greedy), explored, review: rule?.review };
    },
  };
}

function compileRules(rules: Decisions['rules'], columns: readonly Column[], hashKey: string | undefined): ReturnType<typeof compileRowProgram> {
  const program = withOwnPaths(() =>
    compileRowProgram(
      rules.map(({ when }, index) => ({ kind: 'set', column: `${RULE}${index}`, to: when })),
      columns,
      hashKey,
    ),
  );
  const problems = rules.flatMap((_, index) => {
    const type = program.columns.find(({ name }) => name === `${RULE}${index}`)?.type;
    return type === 'boolean' ? [] : [{ path: `decide.rules[${index}].when`, message: 'A condition has to be true or false.', found: String(type) }];
  });
  if (problems.length > 0) throw new MillraceError('COLUMN_TYPE', 'A rule of decision is no condition.', { problems });
  return program;
}

/** Problems name the rule, not the transform that it was compiled as. */
function withOwnPaths<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof MillraceError)) throw error;
    throw new MillraceError(error.code, error.message, {
      problems: error.problems.map((problem) => ({ ...problem, path: problem.path.replace(/^transforms\[(\d+)\](?:\.to)?/, 'decide.rules[$1].when') })),
    });
  }
}
