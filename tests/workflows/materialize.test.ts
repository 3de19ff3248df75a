import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import type { FeatureSetRef } from '../../contracts/references.ts';
import { entityKey } from '../../data/row-entity.ts';
import type { TestEnvironment } from '../../testing/test-environment.ts';
import { failureOf, openEnvironment } from './test-project.ts';

let env: TestEnvironment & { readonly project: string };
beforeAll(async () => {
  env = await openEnvironment();
});

/** A file of one price a day, from the first of January. */
async function days(name: string, prices: readonly number[]): Promise<string> {
  const path = `data/${name}.csv`;
  const lines = prices.map((price, day) => `north,2026-01-${String(day + 1).padStart(2, '0')}T12:00:00Z,${String(price)}`);
  await writeFile(join(env.project, path), `${['shop,at,price', ...lines].join('\n')}\n`);
  return path;
}

async function served(view: string): Promise<readonly unknown[]> {
  const { featureViews } = env.deps.store;
  return Promise.all(
    (await featureViews.versions(view)).map(async ({ version, definition, online }) => {
      const { rows } = await featureViews.lookup(view, definition, [entityKey(['north'])]);
      return [version, online?.asOf ?? null, [...rows.values()][0]?.values ?? null];
    }),
  );
}
const materialize = (view: string, path: string, more: object = {}): Promise<FeatureSetRef> =>
  env.run('prices', { path, view, ...more }) as unknown as Promise<FeatureSetRef>;

const AT = (day: number): string => `2026-01-0${String(day)}T12:00:00.000Z`;

describe('materialize', () => {
  it('puts the newest values into service, and a run that fails afterwards takes them back', async () => {
    const first = await days('first', [5, 6]);
    expect(await materialize('taken-back', first)).toMatchObject({ kind: 'features', view: 'taken-back', version: 1, asOf: AT(2), entities: 1 });
    const before = [[1, AT(2), { price: 6, sales: 1 }]];
    expect(await served('taken-back')).toEqual(before);
    const run = await env.start('prices', { path: await days('second', [5, 6, 7]), view: 'taken-back', fail: true });
    expect((await failureOf(run)).message).toContain('broken after materialize');
    expect(await served('taken-back')).toEqual(before);
    const record = await env.deps.store.runs.findByWorkflow(run.workflowId);
    expect(await env.deps.store.undos.list(record?.id ?? '')).toMatchObject([
      { kind: 'features', status: 'done', outcome: `taken-back has its values as of ${AT(2)} again` },
    ]);
  });

  it('does nothing for the same snapshot and instant, keeps newer values, and gives a changed definition a version of its own', async () => {
    const path = await days('steady', [5, 6, 7]);
    await materialize('steady', path);
    const summaries = async (more: object): Promise<unknown> => {
      const run = await env.start('prices', { path, view: 'steady', ...more });
      await run.result();
      const record = await env.deps.store.runs.findByWorkflow(run.workflowId);
      const stage = await env.deps.store.stages.find(record?.id ?? '', 'materialize-steady');
      return (stage?.output as { summary: string } | undefined)?.summary;
    };
    expect(await summaries({})).toBe(`in service already: 1 entity as of ${AT(3)}`);
    expect(await summaries({ asOf: AT(2) })).toBe(`values as of ${AT(2)} are not put into service: those there are newer, 1 entity as of ${AT(3)}`);
    expect(await served('steady')).toEqual([[1, AT(3), { price: 7, sales: 1 }]]);
    await materialize('steady', path, { window: '2 days', asOf: AT(2) });
    expect(await served('steady')).toEqual([
      [2, AT(2), { price: 6, sales: 2 }],
      [1, AT(3), { price: 7, sales: 1 }],
    ]);
    const report = await failureOf(await env.start('prices', { path, view: 'steady', asOf: '2999-01-01T00:00:00Z' }));
    expect(report).toMatchObject({ code: 'INVALID_PARAMETERS', problems: [{ path: 'asOf' }] });
  });
});
