import { z } from 'zod';
import { MillraceError } from '../contracts/errors.ts';
import type { Store } from '../store/store.ts';
import { nearestName } from './parameters.ts';

/** JSON Schema of parameters, as far as the command line reads it. */
const JsonSchemaSchema = z.looseObject({
  properties: z
    .record(
      z.string(),
      z.looseObject({ type: z.union([z.string(), z.array(z.string())]).optional(), default: z.unknown().optional(), description: z.string().optional() }),
    )
    .optional(),
  required: z.array(z.string()).optional(),
});
export type ParametersSchema = z.infer<typeof JsonSchemaSchema>;

const KnownPipelineSchema = z.object({
  name: z.string(),
  folder: z.string().default(''),
  parameters: JsonSchemaSchema.nullish(),
  purpose: z.looseObject({}).nullish(),
  steps: z.record(z.string(), z.string()).default({}),
});
export type KnownPipeline = z.infer<typeof KnownPipelineSchema>;

export interface KnownBuild {
  readonly id: string;
  readonly createdAt: string;
  readonly gitCommit: string | null;
  readonly gitClean: boolean | null;
  readonly pipelines: readonly KnownPipeline[];
}

/** The newest build of the project: the pipelines that can be started. Null before the first orchestrator ran. */
export async function newestBuild(store: Store): Promise<KnownBuild | null> {
  const [build] = await store.builds.list({ limit: 1 });
  if (build === undefined) return null;
  const pipelines = z.array(KnownPipelineSchema).safeParse(build.pipelines);
  return { id: build.id, createdAt: build.createdAt, gitCommit: build.gitCommit, gitClean: build.gitClean, pipelines: pipelines.data ?? [] };
}

/** @throws UNKNOWN_PIPELINE with the names that there are. */
export async function requirePipeline(store: Store, name: string): Promise<KnownPipeline & { readonly buildId: string }> {
  const build = await newestBuild(store);
  const found = build?.pipelines.find((p) => p.name === name);
  if (build && found) return { ...found, buildId: build.id };
  const names = build?.pipelines.map((p) => p.name) ?? [];
  const near = nearestName(name, names);
  throw new MillraceError('UNKNOWN_PIPELINE', `There is no pipeline ${name}.${near === undefined ? '' : ` Is ${near} meant?`}`, {
    problems: names.map((known) => ({ path: known, message: 'is a pipeline of this project' })),
    ...(names.length === 0 ? { fix: 'The project has no pipelines yet, or no orchestrator has read them: see `millrace status`.' } : {}),
  });
}
