import { z } from 'zod';
import { canonicalJson } from './canonical-json.ts';
import { RunIdSchema } from './ids.ts';
import type { ErrorReport } from './errors.ts';
import { PUBLISHING, type StageKind } from './stages.ts';

/**
 * A run, done again: each of its stages gets the input that stands in its record, and what it gives is held against what
 * it gave.
 *
 * Invariants:
 * 1. Nothing is taken from the cache, and nothing is published.
 * 2. A stage gets its recorded input, not the output of the stage that was done again before it: each is told apart.
 */
export const ReproduceParametersSchema = z.object({
  run: RunIdSchema,
  /** This stage alone. Default: all that can be done again. */
  stage: z.string().min(1).optional(),
  /** The project's steps as they were (`recorded`), or as they are in the newest build. */
  code: z.enum(['recorded', 'current']).default('recorded'),
});
export type ReproduceParameters = z.output<typeof ReproduceParametersSchema>;

/** What is to be done again, in its order. */
export interface ReproductionPlan {
  readonly pipeline: string;
  /** Null where the build is gone, or the code of today is asked for. */
  readonly buildId: string | null;
  readonly stages: readonly { readonly stage: string; readonly kind: StageKind; readonly pool: string }[];
}

/** As much of a stage's record as is compared. */
export interface ReproducedStage {
  readonly name: string;
  readonly kind: string;
  readonly status: string;
  readonly input: unknown;
  readonly output: unknown;
  readonly fingerprintParts: Readonly<Record<string, unknown>> | null;
  readonly error: ErrorReport | null;
}

export interface StageComparison {
  readonly stage: string;
  readonly kind: string;
  /** `same figures`: judged against another champion, with equal metrics. `not done`: it was not run again. */
  readonly verdict: 'same' | 'same figures' | 'different' | 'failed' | 'not done';
  /** What decides the result and is not as it was: `code`, `step`, `source.sha256`, `runtime`, `champion`, …. */
  readonly differs: readonly string[];
  /** One line for people. */
  readonly note: string;
  readonly before: unknown;
  readonly now: unknown;
}

/** Why a stage that completed is not done again; null where it is. */
export function whyNotAgain({ kind, status, input }: Pick<ReproducedStage, 'kind' | 'status' | 'input'>): string | null {
  if (PUBLISHING.has(kind as StageKind)) return 'it publishes';
  if (status !== 'completed') return `it was ${status}`;
  const increment = kind === 'ingest' && (input as { readonly increment?: unknown } | null)?.increment !== undefined;
  return increment ? 'it goes on from what earlier runs have read' : null;
}

const WHAT: Readonly<Record<string, string>> = {
  code: "Millrace's own code of this kind of stage has changed",
  step: "the step's code has changed",
  business: 'the code of a business figure has changed',
  source: 'the source has changed',
  runtime: 'another major version of Node.js runs',
  program: "the trainer's program, its packages or its interpreter have changed",
  champion: 'another champion stands against it',
};

/** Holds the stages of a reproduction against those of the run. */
export function compareReproduction(first: readonly ReproducedStage[], again: readonly ReproducedStage[], only?: string): readonly StageComparison[] {
  return first
    .filter(({ name }) => only === undefined || name === only)
    .map((before): StageComparison => {
      const { name: stage, kind } = before;
      const now = again.find(({ name }) => name === stage);
      const nothing = { stage, kind, differs: [], before: valueOf(before), now: null };
      if (now === undefined || now.status !== 'completed') {
        const why = whyNotAgain(before);
        if (why !== null) return { ...nothing, verdict: 'not done', note: why };
        if (now === undefined) return { ...nothing, verdict: 'failed', note: 'it was not reached' };
        return {
          ...nothing,
          verdict: 'failed',
          differs: differingParts(before, now),
          note: now.error === null ? `it was ${now.status}` : `${now.error.code}: ${now.error.message}`,
        };
      }
      const differs = differingParts(before, now);
      const [was, is] = [valueOf(before), valueOf(now)];
      const same = canonicalJson(was) === canonicalJson(is);
      const figures =
        !same && differs.length > 0 && differs.every((part) => part === 'champion') && canonicalJson(metricsOf(was)) === canonicalJson(metricsOf(is));
      const words = [...new Set(differs.map((part) => WHAT[part.split('.')[0] ?? ''] ?? `${part} is another`))].join('; ');
      return {
        stage,
        kind,
        verdict: same ? 'same' : figures ? 'same figures' : 'different',
        differs,
        note: words !== '' ? words : same ? '' : 'with the same data, code, parameters and seed',
        before: was,
        now: is,
      };
    });
}

/** Whether everything that was done again came out as it was. */
export const isReproduced = (stages: readonly StageComparison[]): boolean => stages.every(({ verdict }) => verdict !== 'different' && verdict !== 'failed');

/** A stage's record holds its output with the line for people. */
const valueOf = ({ output }: ReproducedStage): unknown => (output as { readonly value?: unknown } | null)?.value ?? null;
const metricsOf = (value: unknown): unknown => (value as { readonly metrics?: unknown } | null)?.metrics ?? null;

/** Parts of the fingerprint that are not as they were, objects one level deep. */
function differingParts(before: ReproducedStage, now: ReproducedStage): string[] {
  const [was, is] = [before.fingerprintParts, now.fingerprintParts];
  if (was === null || is === null) return [];
  const isObject = (value: unknown): value is Readonly<Record<string, unknown>> => value !== null && typeof value === 'object' && !Array.isArray(value);
  const text = (value: unknown): string => canonicalJson(value ?? null);
  return keysOf(was, is).flatMap((key) => {
    const [a, b] = [was[key], is[key]];
    if (text(a) === text(b)) return [];
    if (!isObject(a) || !isObject(b)) return [key];
    return keysOf(a, b).flatMap((inner) => (text(a[inner]) === text(b[inner]) ? [] : [`${key}.${inner}`]));
  });
}

const keysOf = (a: object, b: object): string[] => [...new Set([...Object.keys(a), ...Object.keys(b)])].sort();
