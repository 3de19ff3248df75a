import { canonicalJson } from '../../contracts/canonical-json.ts';
import { MillraceError, type Problem } from '../../contracts/errors.ts';
import type { Features } from '../../contracts/features.ts';
import type { BranchDimension, JsonValue, SearchSpace } from '../../contracts/search-space.ts';
import type { TrainerSpec } from '../../contracts/stages.ts';
import type { SearchMethod } from '../../contracts/tuning.ts';
import { type Distribution, isActive, type SearchParameter, type TrialValues } from './parameters.ts';

/** What is tuned: one trainer or several by name, one feature recipe or several, and the space of their parameters. */
export interface TunedThing {
  readonly trainer: TrainerSpec | Readonly<Record<string, TrainerSpec>>;
  readonly features: Features | BranchDimension<Features>;
  /** Of one trainer: its parameters by path. Of several: such a space for each, by the trainer's name. */
  readonly space: Readonly<Record<string, unknown>>;
}

/** Names that the search uses itself where there are several trainers or recipes. */
const TRAINER = 'trainer';
const FEATURES = 'features';

/** Where a value goes in the trainer's parameters. */
interface Target {
  readonly path: readonly string[];
  readonly when: SearchParameter['when'];
  readonly from: { readonly parameter: string } | { readonly constant: JsonValue };
}

export interface CompiledSpace {
  /** Each comes after those that it depends on. */
  readonly parameters: readonly SearchParameter[];
  /** The trainer and features of a trial with these values. */
  readonly resolve: (values: TrialValues) => { readonly trainer: TrainerSpec; readonly features: Features };
}

interface Compiling {
  readonly parameters: SearchParameter[];
  readonly targets: Target[];
  readonly problems: Problem[];
}

/**
 * Checks a space and makes flat parameters of it: `trainer` and `features` where there are several, then each trainer's
 * own, named by trainer, branch and path.
 *
 * @throws INVALID_PARAMETERS with every problem of the space, and of the search method with it.
 */
export function compileSpace(thing: TunedThing, search: SearchMethod): CompiledSpace {
  const compiling: Compiling = { parameters: [], targets: [], problems: [] };
  const trainers = trainersOf(thing.trainer);
  const recipes = recipesOf(thing.features);
  if (trainers === null) compileLevel(compiling, thing.space, [], '', []);
  else compileTrainers(compiling, trainers, thing.space);
  if (recipes !== null) addBranch(compiling, FEATURES, Object.keys(recipes), [], `features`);
  checkMethod(compiling, search);
  if (compiling.problems.length > 0)
    throw new MillraceError('INVALID_PARAMETERS', 'The search space does not fit.', {
      problems: compiling.problems,
      fix: 'Correct each entry that is listed; nothing has been run.',
    });
  const { parameters, targets } = compiling;
  return {
    parameters,
    resolve: (values) => {
      const named = trainers === null ? (thing.trainer as TrainerSpec) : (trainers[values[TRAINER] as string] as TrainerSpec);
      let filled: Readonly<Record<string, unknown>> = named.parameters;
      for (const { path, when, from } of targets) {
        if (!when.every(({ parameter, is }) => values[parameter] === is)) continue;
        const value = 'constant' in from ? from.constant : values[from.parameter];
        if (value !== undefined) filled = withValue(filled, path, value);
      }
      const features = recipes === null ? (thing.features as Features) : (recipes[values[FEATURES] as string] as Features);
      return { trainer: { ...named, parameters: filled }, features };
    },
  };
}

/** Trials that between them have each end of each range, and each option: what a trainer's own check is asked about first. */
export function probeTrials({ parameters }: CompiledSpace): readonly TrialValues[] {
  const complete = (fixed: TrialValues): TrialValues => {
    const values: Record<string, JsonValue> = {};
    for (const parameter of parameters)
      if (isActive(parameter, values)) values[parameter.name] = fixed[parameter.name] ?? ends(parameter.distribution)[0] ?? null;
    return values;
  };
  const probes = parameters.flatMap(({ name, distribution, when }) =>
    ends(distribution).map((value) => complete({ ...Object.fromEntries(when.map(({ parameter, is }) => [parameter, is])), [name]: value })),
  );
  return [...new Map([complete({}), ...probes].map((values) => [canonicalJson(values), values])).values()];
}

const ends = (distribution: Distribution): readonly JsonValue[] =>
  distribution.kind === 'categorical' ? distribution.options : [distribution.low, distribution.high];

export function isSeveralTrainers(trainer: TunedThing['trainer']): trainer is Readonly<Record<string, TrainerSpec>> {
  return typeof trainer.name !== 'string';
}

function trainersOf(trainer: TunedThing['trainer']): Readonly<Record<string, TrainerSpec>> | null {
  return isSeveralTrainers(trainer) ? trainer : null;
}

function recipesOf(features: TunedThing['features']): Readonly<Record<string, Features>> | null {
  return (features as { readonly dimension?: unknown }).dimension === 'branch' ? (features as BranchDimension<Features>).options : null;
}

function compileTrainers(compiling: Compiling, trainers: Readonly<Record<string, TrainerSpec>>, space: Readonly<Record<string, unknown>>): void {
  const names = Object.keys(trainers);
  addBranch(compiling, TRAINER, names, [], 'trainer');
  for (const name of Object.keys(space)) {
    if (names.includes(name)) continue;
    const fix = names.length === 0 ? 'leave it out' : `use one of ${names.join(', ')}`;
    compiling.problems.push({ path: `space.${name}`, message: 'there is no trainer of that name: with several trainers the space has one part for each', fix });
  }
  for (const name of names) {
    const part = space[name] ?? {};
    if (isRecord(part) && !('dimension' in part)) compileLevel(compiling, part, [{ parameter: TRAINER, is: name }], `${name}.`, []);
    else compiling.problems.push({ path: `space.${name}`, message: 'must be a space: parameters by their paths', found: show(part) });
  }
}

/** One level of a space: its dimensions, constants and branches. `taken` are the paths that surrounding levels set. */
function compileLevel(
  compiling: Compiling,
  space: Readonly<Record<string, unknown>>,
  when: SearchParameter['when'],
  prefix: string,
  taken: readonly string[],
): void {
  const { parameters, targets, problems } = compiling;
  const own = Object.entries(space).filter(([, entry]) => !isBranch(entry));
  const paths = [...taken, ...own.map(([path]) => path)];
  for (const [path, entry] of own) {
    const at = `space.${prefix}${path}`;
    const parts = path.split('.');
    if (path === '' || parts.includes('') || parts.includes('__proto__'))
      problems.push({ path: at, message: 'is not a path of a parameter', found: show(path) });
    const clash = paths.find((other) => other !== path && (other.startsWith(`${path}.`) || path.startsWith(`${other}.`)));
    if (taken.includes(path) || clash !== undefined)
      problems.push({ path: at, message: `is set twice: ${clash ?? path} is set too`, fix: 'set each parameter in one place' });
    if (!isDimension(entry)) {
      if (isJson(entry)) targets.push({ path: parts, when, from: { constant: entry } });
      else problems.push({ path: at, message: 'is neither a dimension nor a JSON value', found: show(entry) });
      continue;
    }
    const distribution = readDistribution(entry, at, problems);
    if (distribution === null) continue;
    const name = `${prefix}${path}`;
    parameters.push({ name, distribution, when });
    targets.push({ path: parts, when, from: { parameter: name } });
  }
  for (const [name, entry] of Object.entries(space)) {
    if (!isBranch(entry)) continue;
    const at = `space.${prefix}${name}`;
    if (!isRecord(entry.options)) {
      problems.push({ path: at, message: 'the options of a choice must be a list, or parts of a space by name', found: show(entry.options) });
      continue;
    }
    addBranch(compiling, `${prefix}${name}`, Object.keys(entry.options), when, at);
    for (const [option, part] of Object.entries(entry.options)) {
      if (!isRecord(part) || 'dimension' in part)
        problems.push({ path: `${at}.${option}`, message: 'must be a part of a space: parameters by their paths', found: show(part) });
      else compileLevel(compiling, part, [...when, { parameter: `${prefix}${name}`, is: option }], `${prefix}${name}.${option}.`, paths);
    }
  }
}

function addBranch({ parameters, problems }: Compiling, name: string, options: readonly string[], when: SearchParameter['when'], at: string): void {
  if (options.length === 0) problems.push({ path: at, message: 'has no options', fix: 'give at least one' });
  parameters.push({ name, distribution: { kind: 'categorical', options, keys: options.map((option) => canonicalJson(option)) }, when });
}

function readDistribution(entry: Readonly<Record<string, unknown>>, at: string, problems: Problem[]): Distribution | null {
  const before = problems.length;
  const kind = entry['dimension'];
  if (kind === 'choice') {
    const options = entry['options'];
    if (!Array.isArray(options) || options.length === 0) problems.push({ path: at, message: 'a choice needs at least one option', found: show(options) });
    else if (!options.every(isJson)) problems.push({ path: at, message: 'an option is not a JSON value', found: show(options) });
    else {
      const keys = options.map((option) => canonicalJson(option));
      const twice = keys.find((key, i) => keys.indexOf(key) !== i);
      if (twice !== undefined) problems.push({ path: at, message: 'an option is there twice', found: twice });
      if (options.length > 1_000) problems.push({ path: at, message: 'has more than 1,000 options', found: String(options.length) });
      return problems.length > before ? null : { kind: 'categorical', options, keys };
    }
    return null;
  }
  if (kind !== 'uniform' && kind !== 'logUniform' && kind !== 'int') {
    problems.push({ path: at, message: 'is no dimension', found: show(kind), fix: 'use uniform, logUniform, int or choice' });
    return null;
  }
  const { low, high } = entry;
  const log = kind === 'logUniform' || (kind === 'int' && entry['log'] === true);
  for (const [end, value] of [
    ['low', low],
    ['high', high],
  ] as const) {
    if (typeof value !== 'number' || !Number.isFinite(value)) problems.push({ path: `${at}.${end}`, message: 'must be a finite number', found: show(value) });
    else if (kind === 'int' && !Number.isSafeInteger(value)) problems.push({ path: `${at}.${end}`, message: 'must be a whole number', found: show(value) });
  }
  if (typeof low === 'number' && typeof high === 'number') {
    if (low > high) problems.push({ path: at, message: 'the low end is above the high end', found: `${show(low)} … ${show(high)}`, fix: 'swap them' });
    if (log && low <= 0) problems.push({ path: `${at}.low`, message: 'must be above 0 where the range is logarithmic', found: show(low) });
    if (problems.length === before) return { kind: kind === 'int' ? 'int' : 'float', low, high, log };
  }
  return null;
}

function checkMethod({ parameters, problems }: Compiling, search: SearchMethod): void {
  if (search.method !== 'cmaEs') return;
  for (const { name, distribution, when } of parameters) {
    if (distribution.kind === 'categorical' || when.length > 0)
      problems.push({
        path: `space.${name}`,
        message: 'CMA-ES searches numbers that exist in every trial: no choices, and nothing that depends on one',
        fix: "fix the choice, or search by 'tpe'",
      });
  }
}

function withValue(parameters: Readonly<Record<string, unknown>>, [key = '', ...rest]: readonly string[], value: JsonValue): Readonly<Record<string, unknown>> {
  if (rest.length === 0) return { ...parameters, [key]: value };
  const inner = parameters[key];
  return { ...parameters, [key]: withValue(isRecord(inner) ? inner : {}, rest, value) };
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> => typeof value === 'object' && value !== null && !Array.isArray(value);
const isDimension = (value: unknown): value is Readonly<Record<string, unknown>> & { readonly dimension: unknown } => isRecord(value) && 'dimension' in value;
const isBranch = (value: unknown): value is BranchDimension<SearchSpace> => isDimension(value) && value.dimension === 'branch';

function isJson(value: unknown): value is JsonValue {
  try {
    canonicalJson(value);
    return true;
  } catch {
    return false;
  }
}

const show = (value: unknown): string => (value === undefined ? 'nothing' : JSON.stringify(value)).slice(0, 100);
