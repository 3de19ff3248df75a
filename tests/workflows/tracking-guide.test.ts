/** docs/tracking.md, run. One `describe` a section of the page. */
import { beforeAll, describe, expect, it } from 'vitest';
import { encodeModel, floatTensor, ONNX_TYPE, valueInfo } from '../../ml/onnx/graph-builder.ts';
import type { TestEnvironment } from '../../testing/test-environment.ts';
import { guideProject } from '../support/guide-project.ts';
import { openEnvironment, serve } from './test-project.ts';

let env: TestEnvironment;
let url: string;
beforeAll(async () => {
  env = await openEnvironment({ project: await guideProject('docs/tracking.md') });
  ({ url } = await serve(env));
}, 180_000);

describe('Registry and artifacts', () => {
  it('an ONNX model that a client registered is deployed, and takes requests by the names it was logged with', async () => {
    const { store, artifacts } = env.deps;
    const names = ['sepal length (cm)', 'sepal width (cm)', 'petal length (cm)', 'petal width (cm)'];
    const graph = encodeModel({
      graphName: 'sum',
      nodes: [{ name: 'sum', opType: 'MatMul', domain: '', input: ['X', 'weights'], output: ['variable'], attribute: [] }],
      initializers: [floatTensor('weights', [4, 1], [1, 10, 100, 1000])],
      inputs: [valueInfo('X', ONNX_TYPE.float, 4)],
      outputs: [valueInfo('variable', ONNX_TYPE.float, 1)],
      opset: { ai: 17, ml: 3 },
      metadata: {},
    });
    const mlmodel = `flavors:\n  onnx:\n    data: model.onnx\nsignature:\n  inputs: '${JSON.stringify(names.map((name) => ({ type: 'double', name })))}'\n`;
    const folder = '0/models/m-0/artifacts';
    for (const [name, bytes] of [
      ['model.onnx', graph],
      ['MLmodel', Buffer.from(mlmodel)],
    ] as const) {
      const { sha256, sizeBytes } = await artifacts.putBytes(bytes);
      await store.artifactFiles.put({ path: `${folder}/${name}`, sha256, sizeBytes });
    }
    await store.registry.createModel({ name: 'iris-onnx', tags: {} });
    await store.registry.createVersion({ model: 'iris-onnx', source: `mlflow-artifacts:/${folder}`, folder, tags: {} });
    await store.registry.setAlias('iris-onnx', 'champion', 1);

    expect(await env.run('fromNotebook', { model: 'iris-onnx@champion' })).toMatchObject({ version: 1 });
    const { predictor } = await store.models.version('iris-onnx', 1);
    const answer = await fetch(`${url}/predict/iris`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ rows: [Object.fromEntries(names.map((name, at) => [name, at + 1]))] }),
    });
    expect(await answer.json()).toMatchObject({ predictions: [expect.objectContaining({ output: [4321] })] });

    // again: the version has its predictor, and is found
    expect(await env.run('fromNotebook', { model: 'iris-onnx@1' })).toMatchObject({ version: 1 });
    expect((await store.models.version('iris-onnx', 1)).predictor).toBe(predictor);
    await expect(store.registry.deleteVersion('iris-onnx', 1)).rejects.toMatchObject({ code: 'MODEL_IN_USE' });
  });

  it('a version whose files are no ONNX model fails the run, and says what there is', async () => {
    const { store } = env.deps;
    await store.registry.createModel({ name: 'pickled', tags: {} });
    await store.registry.createVersion({ model: 'pickled', source: 'mlflow-artifacts:/0/models/m-1/artifacts', folder: '0/models/m-1/artifacts', tags: {} });
    await expect(env.run('fromNotebook', { model: 'pickled' })).rejects.toMatchObject({
      cause: { type: 'MODEL_INVALID', message: expect.stringContaining('no one ONNX file') as string },
    });
  });
});
