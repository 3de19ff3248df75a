/** The part "Features" of docs/training.md, run on real servers. */
import { beforeAll, describe, expect, it } from 'vitest';
import type { CandidateRef, DatasetRef } from '../../contracts/references.ts';
import { PredictorSchema } from '../../contracts/signature.ts';
import { predictorOrigin } from '../../ml/predictor.ts';
import type { TestEnvironment } from '../../testing/index.ts';
import { guideProject } from '../support/guide-project.ts';
import { openEnvironment } from './test-project.ts';

let env: TestEnvironment & { readonly project: string };
beforeAll(async () => {
  env = await openEnvironment({ project: await guideProject('docs/training.md') });
}, 180_000);

describe('Features', () => {
  it('of every kind become one graph from raw columns, and training goes on from the candidate before', async () => {
    const { first, second } = (await env.run('featureKinds', {})) as unknown as {
      readonly first: CandidateRef;
      readonly second: CandidateRef;
      readonly test: DatasetRef;
    };
    const predictorOf = async (id: string) => PredictorSchema.parse(await env.deps.artifacts.getJson(id));
    const predictor = await predictorOf(second.predictor);
    expect(predictor.from).toBe(first.predictor);
    expect(predictor.signature.columns.map(({ name }) => name).sort()).toEqual(['date', 'destination', 'distance', 'origin']);
    const originOf = async (id: string) => predictorOrigin(await env.deps.artifacts.getBytes((await predictorOf(id)).onnx));
    const [before, after] = [await originOf(first.predictor), await originOf(second.predictor)];
    expect(after.fitted).toEqual(before.fitted);
    expect(after.learnt).not.toEqual(before.learnt);
    const names = after.fitted.names.join(' ');
    for (const name of ['distance.missing', 'band=[-inf,', 'date.hour.sin', 'date.dayOfWeek.cos', 'destination#63', 'route=', '×[500,1000)', 'letters:la']) {
      expect(names).toContain(name);
    }
  }, 180_000);
});
