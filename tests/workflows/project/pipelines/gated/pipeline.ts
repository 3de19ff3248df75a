import { approval, definePipeline, deploy, importModel, register, replace } from 'millrace';
import { z } from 'zod';

/** Each run registers a version, which serves where a person lets it. */
export const gated = definePipeline({ params: z.object({}), retraining: { coolDownMs: 0, backOff: { firstMs: 0 } } }, async () => {
  const version = await register(await importModel({ path: 'models/double.onnx' }), { model: 'gated' });
  await approval('go', { version });
  await deploy(version, { endpoint: 'gated', rollout: replace() });
});
