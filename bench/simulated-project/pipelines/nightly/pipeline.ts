import {
  approval,
  canary,
  categorical,
  definePipeline,
  deploy,
  expectations,
  ingest,
  linear,
  MillraceError,
  notNull,
  numeric,
  register,
  replace,
  train,
  validate,
} from 'millrace';
import { z } from 'zod';

/**
 * What the simulated days retrain: raw rows to a version in service. Of eight versions one waits for a person who never comes, and one breaks after it
 * was rolled out.
 */
export const nightly = definePipeline(
  { params: z.object({ source: z.string().default('data/now.csv') }), retraining: { experimentAfter: null } },
  async ({ source }) => {
    const rows = await ingest({ source: { format: 'csv', path: source }, name: 'now' });
    // its profile is what drift is measured against
    const checked = await validate(rows, { expectations: expectations({ x: [notNull()] }) });
    const candidate = await train(checked, { trainer: linear(), target: 'late', features: { x: numeric(), side: categorical() } });
    const version = await register(candidate, { model: 'nightly' });
    const kind = version.version % 8;
    await approval('production', { version, when: kind === 3, expiresAfter: '1 minute' });
    await deploy(version, { endpoint: 'nightly', rollout: kind % 2 === 0 ? canary({ percent: [50], bake: '30 seconds' }) : replace() });
    if (kind === 6) throw new MillraceError('USER_CODE_FAILED', 'It broke after the rollout.');
    return { version: version.version };
  },
);
