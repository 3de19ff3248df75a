import type { ReadyTune } from '../contracts/retraining.ts';
import { CandidateRefSchema } from '../contracts/references.ts';
import { type Metric, type TrainerSpec, TrainInputSchema } from '../contracts/stages.ts';

/** A record of a stage that trained. */
export interface TrainedStage {
  readonly kind: string;
  readonly input: unknown;
  readonly output: unknown;
}

const TRIALS = 40;

/** What is worth searching of each trainer, as it is written in a pipeline. */
const SPACES: Readonly<Partial<Record<TrainerSpec['name'], Readonly<Record<string, string>>>>> = {
  gbdt: {
    learningRate: 'logUniform(0.01, 0.3)',
    leaves: 'int(7, 255, { log: true })',
    minDataInLeaf: 'int(5, 200, { log: true })',
    trees: 'int(50, 600)',
  },
  linear: { l2: 'logUniform(0.001, 1000)' },
  mlp: { learningRate: 'logUniform(0.0001, 0.01)', l2: 'logUniform(0.000001, 0.01)', batchSize: 'choice([64, 256, 1024])' },
};
const METRIC_OF: Readonly<Record<string, Metric>> = { regression: 'rmse', ranking: 'ndcg', binary: 'logLoss', multiclass: 'logLoss' };

/**
 * A pipeline that searches parameters for the training of these stages, on the very data it had: ready to be put into the
 * project and run. Null where no stage trained with validation rows, or its trainer's parameters are a program's own.
 */
export function readyTune(pipeline: string, stages: readonly TrainedStage[]): ReadyTune | null {
  for (const { kind, input, output } of stages) {
    if (kind !== 'train') continue;
    const parsed = TrainInputSchema.safeParse(input);
    if (!parsed.success || parsed.data.validation === undefined) continue;
    const { train, validation, trainer, target, features, group, weight, task } = parsed.data;
    const space = SPACES[trainer.name];
    if (space === undefined) continue;
    const found = CandidateRefSchema.safeParse(output);
    const metric = METRIC_OF[found.success ? found.data.task : task] ?? 'logLoss';
    const name = `${pipeline}Experiment`;
    const fixed = Object.fromEntries(Object.entries(trainer.parameters).filter(([parameter]) => !(parameter in space)));
    const functions = [...new Set(Object.values(space).map((dimension) => dimension.slice(0, dimension.indexOf('('))))];
    const imports = ['definePipeline', trainer.name, 'tune', ...functions].sort((a, b) => a.localeCompare(b, 'en'));
    const folder = `${kebab(pipeline)}-experiment`;
    const code = `import { ${imports.join(', ')} } from 'millrace';
import { z } from 'zod';

export const ${name} = definePipeline({ params: z.object({ trials: z.number().int().min(1).default(${String(TRIALS)}) }) }, async ({ trials }) => {
  const { best } = await tune(${trainer.name}(${literal(fixed)}), {
    train: ${literal(train)},
    validation: ${literal(validation)},
    target: ${literal(target)},
    task: ${literal(task)},${group === undefined ? '' : `\n    group: ${literal(group)},`}${weight === undefined ? '' : `\n    weight: ${literal(weight)},`}
    features: ${literal(features)},
    metric: ${literal(metric)},
    space: { ${Object.entries(space)
      .map(([parameter, dimension]) => `${parameter}: ${dimension}`)
      .join(', ')} },
    scheduler: 'median',
    trials,
  });
  return { best };
});
`;
    return { pipeline: name, file: `pipelines/${folder}/pipeline.ts`, code, command: `millrace run ${name}` };
  }
  return null;
}

const literal = (value: unknown): string => JSON.stringify(value);
const kebab = (name: string): string => name.replaceAll(/([a-z0-9])([A-Z])/g, '$1-$2').toLowerCase();
