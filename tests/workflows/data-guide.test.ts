/** docs/data.md, run: each pipeline of the page on real servers. One `describe` a section of the page. */
import { beforeAll, describe, expect, it } from 'vitest';
import type { DatasetRef } from '../../contracts/references.ts';
import { loadManifest } from '../../data/dataset.ts';
import type { TestEnvironment } from '../../testing/index.ts';
import { guideProject } from '../support/guide-project.ts';
import { openEnvironment } from './test-project.ts';

let env: TestEnvironment;
beforeAll(async () => {
  env = await openEnvironment({ project: await guideProject('docs/data.md') });
}, 180_000);

describe('Steps of your own', () => {
  it('make a column that is served by its counterpart, and one that is not', async () => {
    const { ranked } = (await env.run('distances')) as unknown as { ranked: DatasetRef };
    const manifest = await loadManifest(env.deps.artifacts, ranked);
    expect(manifest.columns.map(({ name }) => name)).toEqual(['origin', 'destination', 'distance', 'kilometres', 'rank']);
    expect(manifest.transforms).toMatchObject([{ kind: 'set', column: 'kilometres' }]);
    expect(manifest.unserved).toEqual({ rank: 'the step addRank' });
  });
});
