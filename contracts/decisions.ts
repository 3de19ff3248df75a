import { z } from 'zod';
import { NameSchema } from './ids.ts';
import { col, type Expression, ExpressionSchema } from './row-transforms.ts';

/**
 * What is done with a prediction: rules over the request's columns and what was predicted; the first that holds wins.
 *
 * Invariants:
 * 1. A condition that is null (a column that the request left unknown) does not hold.
 * 2. Whether a row is explored, and with which action, follows from request id and row: a request that is sent again is answered alike.
 */
export const ActionSchema = z.string().min(1).max(100);

export const DecisionRuleSchema = z.strictObject({
  when: ExpressionSchema,
  action: ActionSchema,
  /** A label queue that rows of this rule are put into, for people to look at. */
  review: NameSchema.optional(),
});
export type DecisionRule = z.infer<typeof DecisionRuleSchema>;

export const DecisionsSchema = z.strictObject({
  rules: z.array(DecisionRuleSchema).min(1).max(100),
  /** The action where no rule holds. */
  otherwise: ActionSchema,
  /** A share of rows gets an action drawn at random, each with the same probability, whatever the rules say. */
  explore: z
    .strictObject({
      share: z.number().gt(0).max(1),
      actions: z
        .array(ActionSchema)
        .min(2)
        .max(100)
        .refine((actions) => new Set(actions).size === actions.length, 'has an action twice'),
      /** Another seed draws other rows. */
      seed: z.number().int().nonnegative().default(0),
    })
    .optional(),
});
export type Decisions = z.output<typeof DecisionsSchema>;
export type DecisionsInput = z.input<typeof DecisionsSchema>;

/** The rules without control share and reviews: what is left of them where no log is kept and no queue is. */
export const rulesAlone = ({ rules, otherwise }: Decisions): Decisions => ({ rules: rules.map(({ when, action }) => ({ when, action })), otherwise });

/** One rule: `action` where the condition is true. `review` names a label queue that such rows are put into. */
export const when = (condition: Expression, action: string, options: { readonly review?: string } = {}): DecisionRule => ({
  when: condition,
  action,
  ...options,
});

/** Names of what was predicted, as conditions read them beside the request's columns. */
export const PREDICTED = { label: 'prediction.label', probability: 'prediction.probability', value: 'prediction.value', output: 'prediction.output' } as const;
export const probabilityColumn = (name: string): string => `${PREDICTED.probability}.${name}`;
export const outputColumn = (index: number): string => `${PREDICTED.output}.${String(index)}`;

/** What was predicted, for conditions of `decide`. */
export const predicted = {
  /** Text of the class that is answered. */
  label: col(PREDICTED.label),
  /** Its probability. */
  probability: col(PREDICTED.probability),
  /** Probability of one class. */
  probabilityOf: (name: string): Expression => col(probabilityColumn(name)),
  /** A regression's value. */
  value: col(PREDICTED.value),
  /** A bare model's output at that place, from 0. */
  output: (index: number): Expression => col(outputColumn(index)),
} as const;
