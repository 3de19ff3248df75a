import type { StickyKey } from '../contracts/routes.ts';
import { HOLD, type RolloutStrategy, type TestDecision } from '../contracts/rollouts.ts';

/** One stretch of a rollout. A strategy is a list of them; which one is under way is all that has to be remembered. */
export type RolloutPhase =
  /** The new version is loaded everywhere, without traffic. */
  | { readonly kind: 'load'; readonly hold: boolean }
  /** It gets a share, or is mirrored, and is watched; `forMs` null: until a person goes on. */
  | {
      readonly kind: 'watch';
      readonly mode: 'share' | 'shadow';
      readonly percent: number;
      readonly stickyBy: StickyKey | null;
      readonly forMs: number | null;
    }
  /** Labels or outcomes say who is better. */
  | { readonly kind: 'judge'; readonly decideBy: Exclude<TestDecision, 'person'> }
  /** All traffic. */
  | { readonly kind: 'switch'; readonly keepMs: number }
  /** The champion stays; nothing was to be decided. */
  | { readonly kind: 'end' };

/**
 * The phases of a strategy, in order. Where nothing serves there is nobody to compare with, and the version is
 * switched to at once.
 */
export function rolloutPlan(strategy: RolloutStrategy, hasChampion: boolean): readonly RolloutPhase[] {
  const switched: RolloutPhase = { kind: 'switch', keepMs: strategy.kind === 'blueGreen' ? strategy.keepMs : 0 };
  if (!hasChampion) return [switched];
  switch (strategy.kind) {
    case 'replace':
      return [switched];
    case 'blueGreen':
      return [{ kind: 'load', hold: strategy.hold }, switched];
    case 'canary': {
      const phases: RolloutPhase[] = [];
      let percent = 0;
      for (const step of strategy.percent) {
        if (step === 100) break;
        const forMs = step === HOLD ? null : strategy.bakeMs;
        if (step !== HOLD) percent = step;
        phases.push(percent === 0 ? { kind: 'load', hold: true } : { kind: 'watch', mode: 'share', percent, stickyBy: strategy.stickyBy ?? null, forMs });
      }
      return [...phases, switched];
    }
    case 'abTest': {
      const { percent, stickyBy, forMs, decideBy } = strategy;
      const shared = { kind: 'watch', mode: 'share', percent, stickyBy } as const;
      // the last phase before the switch is the one that a person ends; a judgement that decides leaves it out
      const judged: readonly RolloutPhase[] = decideBy === 'person' ? [] : [{ kind: 'judge', decideBy }];
      return [{ ...shared, forMs }, ...judged, { ...shared, forMs: null }, switched];
    }
    case 'shadow': {
      const { percent, forMs, hold, next } = strategy;
      const mirrored = { kind: 'watch', mode: 'shadow', percent, stickyBy: null } as const;
      const held: readonly RolloutPhase[] = hold ? [{ ...mirrored, forMs: null }] : [];
      return [{ ...mirrored, forMs }, ...held, ...(next === 'nothing' ? [{ kind: 'end' } as const] : rolloutPlan(next, true))];
    }
  }
}
