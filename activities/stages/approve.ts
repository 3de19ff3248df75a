import { ApproveInputSchema } from '../../contracts/stages.ts';
import { defineStage } from '../stage-definition.ts';

/** Makes an approved version its model's champion; fenced by the alias's epoch and by this attempt's token. */
export const approveStage = defineStage({
  input: ApproveInputSchema,
  cacheable: false,
  run: async ({ version, gate }, { call, deps, token }) => {
    const { previousVersion } = await deps.store.models.moveAlias({
      model: version.model,
      alias: 'champion',
      version: version.version,
      reason: `gate ${gate}`,
      runId: call.runId,
      stage: call.stage,
      token,
    });
    await deps.store.models.setStatus({ model: version.model, version: version.version, status: 'approved', reason: `gate ${gate}` });
    return {
      output: null,
      summary: `${version.model} ${String(version.version)} is champion${previousVersion === null ? '' : `, ${String(previousVersion)} before`}`,
    };
  },
});
