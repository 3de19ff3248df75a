import type { z } from 'zod';
import { MillraceError } from '../contracts/errors.ts';
import { gbdt } from './gbdt/gbdt.ts';
import { GbdtParametersSchema } from './gbdt/parameters.ts';
import { trainLinear } from './linear/linear.ts';
import { LinearParametersSchema } from './linear/parameters.ts';
import { trainMlp } from './mlp/mlp.ts';
import { MlpParametersSchema } from './mlp/parameters.ts';
import type { LabelledRows, LearningTask, RankingTask, TrainedTrainer, Trainer, TrainingContext } from './trainer.ts';

/** A trainer whose parameters were checked. */
type Training = (
  task: LearningTask | RankingTask,
  train: LabelledRows,
  validation: LabelledRows | undefined,
  context: TrainingContext,
) => Promise<TrainedTrainer>;

interface RegisteredTrainer {
  readonly parametersSchema: z.ZodType;
  bind(parameters: unknown): { readonly parameters: unknown; readonly train: Training } | { readonly issues: readonly z.core.$ZodIssue[] };
}

function register<Schema extends z.ZodType>(parametersSchema: Schema, trainer: Trainer<z.output<Schema>, LearningTask | RankingTask>): RegisteredTrainer {
  return {
    parametersSchema,
    bind: (given) => {
      const parsed = parametersSchema.safeParse(given);
      if (!parsed.success) return { issues: parsed.error.issues };
      return { parameters: parsed.data, train: (task, train, validation, context) => trainer(task, parsed.data, train, validation, context) };
    },
  };
}

/** A trainer that looks at each row by itself. */
const perRow =
  <Parameters>(trainer: Trainer<Parameters>): Trainer<Parameters, LearningTask | RankingTask> =>
  (task, ...rest) => {
    if (task.kind !== 'ranking') return trainer(task, ...rest);
    throw new MillraceError('INVALID_PARAMETERS', 'This trainer cannot rank rows within groups.', {
      problems: [{ path: 'group', message: 'is for the trainer gbdt', fix: 'Train with gbdt(), or leave group out.' }],
    });
  };

/** The trainers that run inside Millrace, by the name that pipelines, records and cards use. */
export const TRAINERS = {
  gbdt: register(GbdtParametersSchema, gbdt),
  linear: register(LinearParametersSchema, perRow(trainLinear)),
  mlp: register(MlpParametersSchema, perRow(trainMlp)),
} as const satisfies Record<string, RegisteredTrainer>;
export type TrainerName = keyof typeof TRAINERS;

export function isTrainerName(name: string): name is TrainerName {
  return Object.hasOwn(TRAINERS, name);
}

/** A trainer with its parameters filled in, ready to run. */
export interface BoundTrainer {
  readonly name: TrainerName;
  /** As they are recorded: every default filled in. */
  readonly parameters: unknown;
  readonly train: Training;
}

/** @throws INVALID_PARAMETERS with every problem, for an unknown name too. */
export function bindTrainer(name: string, parameters: unknown = {}): BoundTrainer {
  if (!isTrainerName(name)) {
    throw new MillraceError('INVALID_PARAMETERS', `There is no trainer ${name}.`, {
      problems: [{ path: 'trainer.name', message: 'unknown trainer', found: name, fix: `use one of ${Object.keys(TRAINERS).join(', ')}` }],
    });
  }
  const bound = TRAINERS[name].bind(parameters);
  if (!('issues' in bound)) return { name, ...bound };
  throw new MillraceError('INVALID_PARAMETERS', `The parameters of the trainer ${name} do not fit.`, {
    problems: bound.issues.map((issue) => ({ path: ['trainer.parameters', ...issue.path.map(String)].join('.'), message: issue.message })),
  });
}
