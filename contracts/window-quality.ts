import { z } from 'zod';

/** How good a model's answers were in one window of its predictions: from labels, or estimated without any. */
const FigureSchema = z.number();

/** Why a figure has no value in a window. */
const WithoutValueSchema = z.object({
  metric: z.string(),
  /** `oneClass`: it needs both classes among the labels. `noneAnswered`, `nonePresent`: of the rows that it is a share of there are none. */
  reason: z.enum(['oneClass', 'noneAnswered', 'nonePresent', 'undefined']),
});

/** The metrics by the values of a column, or of two together. */
export const SliceQualitySchema = z.object({
  column: z.string(),
  metric: z.string(),
  /** The worst first, at most 50. */
  values: z.array(
    z.object({
      value: z.string(),
      rows: z.number().int(),
      metric: z.number(),
      low: z.number().optional(),
      high: z.number().optional(),
      metrics: z.record(z.string(), FigureSchema),
    }),
  ),
  /** Slices left out: of fewer rows than asked for, or without a value of the metric. */
  tooSmall: z.number().int(),
  withoutValue: z.number().int(),
});

export const WindowQualitySchema = z.object({
  /**
   * `judged`: the figures stand. Else there is none: `noRows` were predicted; `noLabels` came (yet); `fewLabels`: fewer than
   * asked for. `oneClass`: all labels are one class, and only figures that mean something then stand.
   */
  state: z.enum(['judged', 'oneClass', 'fewLabels', 'noLabels', 'noRows']),
  /** Predictions in the window. */
  rows: z.number().int(),
  /** Of them with a label that the model knows, and an answer that is a number. */
  labelled: z.number().int(),
  /** Labels that are none of the model's classes or no finite number, and rows whose answer is no finite number. */
  unknownLabels: z.number().int(),
  unusableAnswers: z.number().int(),
  metrics: z.record(z.string(), FigureSchema),
  intervals: z.record(z.string(), z.object({ low: z.number(), high: z.number(), method: z.string() })),
  confidence: z.number().nullable(),
  withoutValue: z.array(WithoutValueSchema),
  slices: z.array(SliceQualitySchema),
});
export type WindowQuality = z.infer<typeof WindowQualitySchema>;

/** Rows of an evaluation whose scores lie near each other: how often the answer was right there. */
export const ScoreBinSchema = z.object({
  /** Least and greatest score in it, and their mean. */
  from: z.number(),
  to: z.number(),
  meanScore: z.number(),
  rows: z.number().int(),
  /** Rows of the positive class; of several classes, rows that are answered rightly. */
  hits: z.number().int(),
});
export type ScoreBin = z.infer<typeof ScoreBinSchema>;

export const EstimatedPerformanceSchema = z.object({
  /** `estimated`: the figures stand. `noCalibration`: the evaluation kept no bins of scores. `fewRows`: fewer than asked for. */
  state: z.enum(['estimated', 'noRows', 'fewRows', 'noCalibration']),
  /** Rows with a finite score, and others. */
  rows: z.number().int(),
  unusableAnswers: z.number().int(),
  /** Share of scores, 0–1, beyond all that the evaluation has seen: there the calibration is its outermost value. */
  beyond: z.number(),
  confidence: z.number(),
  /** Expected rows of each kind. Binary. */
  confusion: z.object({ truePositives: z.number(), falsePositives: z.number(), falseNegatives: z.number(), trueNegatives: z.number() }).nullable(),
  metrics: z.record(
    z.string(),
    z.object({
      value: z.number(),
      /** Holds the figure that labels would show with this confidence, while scores mean what they meant in the evaluation. */
      low: z.number(),
      high: z.number(),
      /** Standard deviations: of the labels that these rows happen to have, and of the calibration that few rows taught. */
      samplingDeviation: z.number(),
      calibrationDeviation: z.number(),
    }),
  ),
});
export type EstimatedPerformance = z.infer<typeof EstimatedPerformanceSchema>;
