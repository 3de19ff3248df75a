/** docs/data.md, run: each pipeline of the page on real servers. One `describe` a section of the page. */
import { beforeAll, describe } from 'vitest';
import type { TestEnvironment } from '../../testing/index.ts';
import { guideProject } from '../support/guide-project.ts';
import { openEnvironment } from './test-project.ts';

let env: TestEnvironment;
beforeAll(async () => {
  env = await openEnvironment({ project: await guideProject('docs/data.md') });
}, 180_000);

describe.todo('Sources');
void (() => env);
