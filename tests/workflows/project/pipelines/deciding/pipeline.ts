import { call, col, definePipeline, deploy, importModel, predicted, register, when } from 'millrace';
import { z } from 'zod';

/** One version, deployed twice with different rules. */
export const deciding = definePipeline({ params: z.object({ column: z.string().default('x') }) }, async ({ column }) => {
  const version = await register(await importModel({ path: 'models/double.onnx' }), { model: 'deciding' });
  await deploy(version, { endpoint: 'deciding', decide: { rules: [when(call('greater', predicted.output(0), 10), 'high')], otherwise: 'low' } });
  await deploy(version, { endpoint: 'deciding', decide: { rules: [when(call('greater', col(column), 100), 'far')], otherwise: 'near' } });
  return { version: version.version };
});
