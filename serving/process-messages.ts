import type { ErrorReport } from '../contracts/errors.ts';

/** A predictor during which processes of this server ended or hung. */
export interface Blame {
  /** SHA-256 of the predictor. */
  readonly predictor: string;
  /** How often in the last minutes. */
  readonly times: number;
  /** Unix time until which it is kept out of traffic. */
  readonly untilMs: number;
  readonly reason: ErrorReport;
}

/** What the parent tells a process of the prediction server. */
export type ToProcess =
  | {
      readonly type: 'start';
      readonly serverId: string;
      /** From 1 on. The first one keeps the routes on disk. */
      readonly slot: number;
      readonly processes: number;
      readonly markPath: string;
      readonly blames: readonly Blame[];
      /** The id of the process that this one takes the place of. */
      readonly replaces: string | undefined;
    }
  | { readonly type: 'blame'; readonly blame: Blame }
  /** Its own figures are wanted. */
  | { readonly type: 'metrics'; readonly id: number }
  /** The answer to its `gather`. */
  | { readonly type: 'gathered'; readonly id: number; readonly texts: readonly string[] };

/** What a process of the prediction server tells its parent. */
export type ToParent =
  /** It wants to know its place. */
  | { readonly type: 'hello' }
  | { readonly type: 'ready'; readonly url: string; readonly port: number }
  /** Its event loop turns. */
  | { readonly type: 'alive' }
  | { readonly type: 'metrics'; readonly id: number; readonly text: string }
  /** The figures of the other processes are wanted. */
  | { readonly type: 'gather'; readonly id: number };
