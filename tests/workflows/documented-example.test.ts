import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { VersionRef } from '../../contracts/references.ts';
import { createTestEnvironment, type TestEnvironment } from '../../testing/index.ts';
import { afterAll, beforeAll, expect, inject, it, vi } from 'vitest';
import { freshDatabase } from '../support/database.ts';
import { copyProject } from './test-project.ts';

const where = async () => ({ project: await copyProject(), databaseUrl: await freshDatabase(), temporalAddress: inject('temporalAddress') });

// documented from here
let env: TestEnvironment;
beforeAll(async () => {
  env = await createTestEnvironment({
    ...(await where()),
    mocks: {
      // there is no prediction server in this test
      deploy: ({ version, endpoint }: { version: VersionRef; endpoint: string }) => ({ kind: 'deployment', endpoint, version, rollout: '0'.repeat(32) }),
    },
  });
});
afterAll(() => env.close());

it('makes a version champion when two people have approved it', async () => {
  const run = await env.start('release', { model: 'example', gate: true, approvers: 2, rollout: 'replace' });
  await vi.waitUntil(async () => (await run.progress()).gates.length > 0, { timeout: 60_000 });
  for (const by of ['ada', 'grace']) await run.handle.executeUpdate('approve', { args: [{ by, reason: 'metrics and slices are good' }] });

  expect(await run.result()).toMatchObject({ model: 'example', version: 1 });
  expect(await env.deps.store.models.champion('example')).toMatchObject({ version: 1, status: 'approved' });
});
// documented up to here

it('is the example of the documentation', () => {
  const own = readFileSync(fileURLToPath(import.meta.url), 'utf8');
  const example = /\/\/ documented from here\n([\s\S]*?)\/\/ documented up to here/.exec(own)?.[1] ?? 'none';
  const documented = readFileSync(fileURLToPath(new URL('../../docs/testing-pipelines.md', import.meta.url)), 'utf8');
  expect(documented).toContain(example.replace('    ...(await where()),\n', '').trim());
});
