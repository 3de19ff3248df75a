import { z } from 'zod';
import { NameSchema, Sha256Schema } from './ids.ts';
import { DatasetRefSchema } from './references.ts';
import { type Expression, ExpressionSchema } from './row-transforms.ts';

export const LabelValueSchema = z.union([z.string().min(1).max(200), z.number(), z.boolean()]);
export type LabelValue = string | number | boolean;

/** A prediction that someone should look at. */
export const FlaggedRowSchema = z.object({ endpoint: NameSchema, requestId: z.string().min(1).max(200), row: z.int().nonnegative().default(0) });
export type FlaggedRow = z.output<typeof FlaggedRowSchema>;

const ruleName = z.string().min(1).max(100);
/** Votes on rows, or abstains. `votes`: what a column says (a step of your own made it); null abstains. */
export const LabellingFunctionSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('rule'), name: ruleName, when: ExpressionSchema, label: LabelValueSchema }),
  z.object({ kind: z.literal('votes'), name: ruleName, column: z.string().min(1) }),
]);
export type LabellingFunction = z.infer<typeof LabellingFunctionSchema>;

/** Votes `vote` for rows where the condition is true; abstains on all others. */
export const rule = (name: string, when: Expression, vote: LabelValue): LabellingFunction => ({ kind: 'rule', name, when, label: vote });
/** Votes what the column says; abstains where it is null. For votes that a step of your own computes. */
export const votes = (name: string, column: string): LabellingFunction => ({ kind: 'votes', name, column });

/** How a person is asked: at most so many rows at once. */
export const MAX_ASKED = 20_000;

export const LabelFunctionsInputSchema = z.object({
  dataset: DatasetRefSchema,
  column: z.string().min(1),
  classes: z
    .array(LabelValueSchema)
    .min(2)
    .max(100)
    .refine((classes) => new Set(classes.map((value) => typeof value)).size === 1, 'are not all texts, all numbers or all true and false')
    .refine((classes) => new Set(classes).size === classes.length, 'has a class twice'),
  by: z
    .array(LabellingFunctionSchema)
    .max(200)
    .refine((functions) => new Set(functions.map(({ name }) => name)).size === functions.length, 'has two functions of the same name')
    .default([]),
  combine: z.enum(['majority', 'dawidSkene']).default('majority'),
  /** From which confidence on a label of the functions stands. */
  confidence: z.number().gt(0).max(1).default(0.9),
  /** Null: nobody is asked. */
  people: z
    .object({
      show: z.array(z.string().min(1)).min(1).optional(),
      order: z.enum(['uncertain', 'given']).default('uncertain'),
      /** Ask about so many rows, drawn at random. */
      sample: z.int().min(1).max(MAX_ASKED).optional(),
      /** Ask about so many rows, the first of `order`. */
      atMost: z.int().min(1).max(MAX_ASKED).optional(),
      seed: z.int().nonnegative().default(0),
    })
    .nullable(),
});
export type LabelFunctionsInput = z.output<typeof LabelFunctionsInputSchema>;

/** What the labelling functions gave; the artifacts hold rows, so that history does not. */
export const FunctionLabelsSchema = z.object({
  /** Parquet: row, key, label, confidence, of each row that had no label. */
  labels: Sha256Schema,
  /** JSON: what is asked of people; null where nothing is. */
  items: Sha256Schema.nullable(),
  /** JSON: `FunctionsReport`. */
  report: Sha256Schema,
  asked: z.number().int().nonnegative(),
});
export type FunctionLabels = z.infer<typeof FunctionLabelsSchema>;

export const LabelInputSchema = z.object({
  dataset: DatasetRefSchema,
  column: z.string().min(1),
  classes: z.array(LabelValueSchema).min(2).max(100),
  functions: FunctionLabelsSchema,
  /** JSON: `PeoplesAnswers`; null where nobody was asked. */
  answers: Sha256Schema.nullable(),
  /** Columns beside the label that say who gave it and when. */
  authors: z.boolean().default(false),
});

export interface FunctionFigures {
  readonly name: string;
  /** Share of rows without a label that it votes on. */
  readonly coverage: number;
  readonly votes: Readonly<Record<string, number>>;
  /** Share of its votes where another function votes too. */
  readonly overlaps: number;
  /** Share of its votes where another function votes otherwise. */
  readonly conflicts: number;
  /** Share of its votes that the row's known label confirms; null where no labelled row is voted on. */
  readonly accuracy: number | null;
  /** Probability that its vote is right, as the model estimates it; null for a majority. */
  readonly estimated: number | null;
}

export interface FunctionsReport {
  readonly rows: number;
  /** Rows that had a label. */
  readonly given: number;
  readonly functions: readonly FunctionFigures[];
  /** Rows without a label that at least one function votes on. */
  readonly covered: number;
  readonly conflicting: number;
  readonly labelled: number;
  readonly asked: number;
}

/** What a person is shown. `key` stands for the row's values: the same row is asked about once. */
export interface LabelItemDraft {
  readonly key: string;
  readonly shown: Readonly<Record<string, LabelValue | null>>;
  readonly priority: number;
}

/** What came of the questions, by item. */
export interface PeoplesAnswers {
  readonly items: readonly {
    readonly key: string;
    /** Null: not answered, or not agreed on. */
    readonly label: string | null;
    readonly answers: readonly { readonly by: string; readonly label: string | null; readonly at: string; readonly comment: string | null }[];
  }[];
}

const person = z.string().trim().min(1).max(200);
export const LabelAnswerSchema = z.strictObject({
  item: z.string().regex(/^[0-9a-f]{32}$/, 'must be the id of an item'),
  by: person,
  /** One of the queue's classes; null skips. */
  label: z.union([z.string().max(200), z.number(), z.boolean()]).nullable(),
  comment: z.string().max(2_000).optional(),
});
export const LabelAnswersSchema = z.strictObject({ answers: z.array(LabelAnswerSchema).min(1).max(100) });

const shownValue = z.union([z.string().max(20_000), z.number(), z.boolean(), z.null()]);
/** Rows of predictions that were flagged for review. */
export const FlaggedItemsSchema = z.strictObject({
  items: z
    .array(
      FlaggedRowSchema.extend({
        shown: z.record(z.string().min(1).max(200), shownValue).refine((row) => Object.keys(row).length <= 200, 'has more than 200 columns'),
        /** Greater ones are asked first. */
        priority: z.number().default(0),
      }),
    )
    .min(1)
    .max(100),
});
/** A queue that no run waits for. */
export const LabelQueueSchema = z.strictObject({
  name: NameSchema,
  question: z.string().max(1_000).optional(),
  classes: z.array(LabelValueSchema).min(2).max(100),
  labellers: z.int().min(1).max(20).default(1),
});
export const PersonSchema = person;

/** To the run that waits: all that it asked is answered. */
export interface LabelsAnswered {
  readonly request: string;
}
