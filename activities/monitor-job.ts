import type { Column } from '../contracts/columns.ts';
import type { DetectorOptions, DetectorState } from '../contracts/detectors.ts';
import type { EvaluatedAnswers, PastWindow } from '../contracts/drift.ts';
import type { Expectations } from '../contracts/expectations.ts';
import type { Metric } from '../contracts/metrics.ts';
import type { MonitorOptions, WindowFigures } from '../contracts/monitoring.ts';
import type { Profile } from '../contracts/profile.ts';
import type { Predictor } from '../contracts/signature.ts';
import type { ScoreBin } from '../contracts/window-quality.ts';
import type { RecentRows, ReferenceRows } from '../data/drift.ts';
import type { WindowedDriftOptions } from '../data/drift-windows.ts';
import type { LogSegment } from '../data/prediction-segments.ts';

/** One window of an endpoint's requests, to be measured. */
export interface MonitorJob {
  readonly kind: 'monitor';
  readonly model: string;
  readonly version: number;
  /** [from, to), UTC ISO. */
  readonly from: string;
  readonly to: string;
  /** Of the prediction log, and of labels and outcomes: what may hold lines of the window. */
  readonly segments: readonly LogSegment[];
  readonly feedback: readonly LogSegment[];
  /** Labels and outcomes received later belong to a later look. UTC ISO. */
  readonly feedbackUntil: string;
  readonly predictor: Predictor;
  readonly quality: MonitorOptions['quality'];
  /** Metrics that rules speak of. */
  readonly metrics: readonly Metric[];
  /** Null: only what labels and outcomes say is measured, of a window that was measured before. */
  readonly whole: {
    readonly reference: Profile | ReferenceRows | null;
    /** Columns that are compared. */
    readonly watched: readonly string[];
    /** What the evaluation knows of the model's answers: windows are compared with it where the reference has none. */
    readonly answers?: EvaluatedAnswers | null;
    /** The training rows in windows like this one, for thresholds while there are few earlier ones; asked for with a profile. */
    readonly trained?:
      | (Pick<WindowedDriftOptions, 'time' | 'everyMs' | 'leastRows' | 'rows' | 'most'> & { readonly paths: readonly string[] })
      | null
      | undefined;
    /** Rows that a classifier is to tell the window's from. */
    readonly domain?: { readonly rows: RecentRows; readonly columns: readonly Column[] } | null;
    /** What the evaluation knows of the scores; null: no estimate is asked for. */
    readonly calibration: readonly ScoreBin[] | null;
    readonly estimated: readonly Metric[];
    readonly skew: (Exclude<MonitorOptions['skew'], false> & { readonly onnx: string; readonly hashKey: string }) | null;
    readonly expectations: Expectations | null;
    /** Those that take a value a row. */
    readonly detectors: readonly {
      readonly name: string;
      readonly of: 'error' | 'score';
      readonly options: DetectorOptions;
      readonly state: DetectorState | null;
    }[];
    /** Labels for `error` are those received from here on, for predictions in `arrivals`. */
    readonly arrivedFrom: string;
    readonly arrivals: readonly LogSegment[];
  } | null;
}

/** What the thread found; the rest of the figures is known without it. */
export type MeasuredWindow = Pick<WindowFigures, 'rows' | 'log' | 'drift' | 'domain' | 'quality' | 'estimated' | 'outcomes' | 'skew' | 'data' | 'detectors'> & {
  /** Windows of the training rows, newest first. */
  readonly trained?: readonly PastWindow[];
  readonly latencyMs: { readonly p50: number; readonly p95: number; readonly p99: number } | null;
};
