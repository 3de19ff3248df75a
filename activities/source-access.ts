import { MillraceError } from '../contracts/errors.ts';
import { sourceSettings } from '../config/source-settings.ts';
import { PredictorSchema } from '../contracts/signature.ts';
import type { StageCall } from '../contracts/stages.ts';
import type { SourceAccess } from '../data/source-access.ts';
import { openPostgresRows } from '../store/postgres-rows.ts';
import type { ActivityDependencies } from './dependencies.ts';
import { openRowsStream } from './rows-stream.ts';
import { resolveSecrets } from './secrets.ts';

type SourceDependencies = Pick<ActivityDependencies, 'config' | 'store' | 'artifacts' | 'builds' | 'log'>;

/** What reading a source needs, as a worker has it. */
export function sourceAccess(deps: SourceDependencies, call: Pick<StageCall, 'runId' | 'buildId'>): SourceAccess {
  const { config, store, artifacts } = deps;
  const settings = sourceSettings();
  return {
    projectFolder: config.projectFolder,
    home: config.home,
    spoolBytes: config.spoolBytes,
    ...settings,
    postgres: ({ query, connection }, options) => openPostgresRows({ connectionString: settings.secret(connection), variable: connection, query, ...options }),
    rows: async ({ pipeline, step, parameters: named }, { above = null, ...options }) => {
      const { value: parameters, mask } = resolveSecrets(named);
      const module = await deps.builds.stepModule(call.buildId, pipeline, step);
      const log = (message: string): void => {
        deps.log('error', `step ${step}`, { run: call.runId, error: mask(message) });
      };
      return openRowsStream({ module, step, parameters, above, runId: call.runId, pipeline }, { ...options, log, mask });
    },
    inputTypes: async (endpoint) => {
      const route = await store.endpoints.route(endpoint);
      if (route === null) return new Map();
      const predictor = PredictorSchema.safeParse(
        await artifacts.getJson(route.champion.predictor).catch((error: unknown) => {
          if (error instanceof MillraceError) return null;
          throw error;
        }),
      );
      return new Map(predictor.success ? predictor.data.signature.columns.map(({ name, type }) => [name, type]) : []);
    },
  };
}
