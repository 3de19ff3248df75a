import { beforeAll, describe, expect, it } from 'vitest';
import { barePredictor } from '../../activities/stages/import-model.ts';
import { encodeModel, floatTensor, ONNX_TYPE, valueInfo } from '../../ml/onnx/graph-builder.ts';
import { wrapBareOnnx } from '../../ml/predictor.ts';
import { type CommandFolder, commandFolder, millrace } from '../support/command-line.ts';

let here: CommandFolder;
beforeAll(async () => {
  here = await commandFolder();
  const { store, artifacts } = here;
  const { onnx, signature } = wrapBareOnnx(
    encodeModel({
      graphName: 'double',
      nodes: [{ name: 'mul', opType: 'Mul', domain: '', input: ['numbers', 'two'], output: ['output'], attribute: [] }],
      initializers: [floatTensor('two', [1], [2])],
      inputs: [valueInfo('numbers', ONNX_TYPE.float, 1)],
      outputs: [valueInfo('output', ONNX_TYPE.float, 1)],
      opset: { ai: 17, ml: 3 },
      metadata: {},
    }),
  );
  const { sha256 } = await barePredictor({ onnx, signature, sampleRows: [{ numbers: 4 }], parameters: { path: 'double.onnx' } }, here);
  await store.models.register({ model: 'doubler', predictor: sha256, metrics: { auc: 0.7 }, evaluation: null, owner: 'ann', tags: { team: 'ml' } });
  const requirements = await artifacts.putBytes(Buffer.from('mlflow==3.17.2\nscikit-learn==1.9.1  # the trainer\n-e .\n'));
  await store.artifactFiles.put({ path: '0/models/m-1/artifacts/requirements.txt', ...requirements });
  await store.registry.createModel({ name: 'notebook', tags: {} });
  await store.registry.createVersion({ model: 'notebook', source: 'models:/m-1', folder: '0/models/m-1/artifacts', tags: {} });
});

describe('millrace models show MODEL@VERSION', () => {
  it('shows all that a version holds', async () => {
    const { code, out } = await millrace('models', 'show', 'doubler@candidate');
    expect(code).toBe(0);
    for (const part of [
      'doubler 1',
      'candidate',
      'ann',
      'team: ml',
      'numbers (number)',
      '{"numbers":4}',
      '[8]',
      'auc 0.7',
      'onnx {"path":"double.onnx"}',
      'None',
    ])
      expect(out).toContain(part);
    const json = JSON.parse((await millrace('models', 'show', 'doubler@1', '--json')).out) as Record<string, unknown>;
    expect(json).toMatchObject({ sample: { rows: [{ numbers: 4 }], output: [[8]] }, signature: { task: { kind: 'raw' } }, owner: 'ann', code: null });
  });

  it('shows where the files of a client lie and what it was made with', async () => {
    const { out } = await millrace('models', 'show', 'notebook@1');
    expect(out).toContain('models:/m-1');
    expect(out).toContain('mlflow 3.17.2, scikit-learn 1.9.1');
    expect((await millrace('models', 'show', 'notebook@2')).code).toBe(2);
  });

  it('refuses to export a version that is no predictor yet, and says how it becomes one', async () => {
    const { code, err } = await millrace('models', 'export', 'notebook', '--out', `${here.folder}/out`);
    expect(code).toBe(1);
    expect(err).toContain("registeredVersion('notebook@1')");
  });
});
