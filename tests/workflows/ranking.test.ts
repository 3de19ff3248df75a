import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { EvaluationReportSchema } from '../../contracts/evaluation.ts';
import type { TestEnvironment } from '../../testing/test-environment.ts';
import { createRandom } from '../../ml/random.ts';
import { failureOf, openEnvironment } from './test-project.ts';

/** What searches showed: of each the cheap and well rated things are relevant. */
function searchesCsv(): string {
  const random = createRandom(5);
  const lines: string[] = [];
  for (let search = 0; search < 120; search++) {
    const shop = search % 2 === 0 ? 'north' : 'south';
    for (let i = 0; i < 10; i++) {
      const [price, rating] = [random.below(100), random.below(50) / 10];
      const appeal = rating * 10 - price / 2 + random.normal() * 5;
      lines.push([`s${String(search)}`, shop, price, rating, appeal > 15 ? 2 : appeal > 0 ? 1 : 0].join(','));
    }
  }
  return ['search,shop,price,rating,relevance', ...lines].join('\n');
}

let env: TestEnvironment & { readonly project: string };
beforeAll(async () => {
  env = await openEnvironment();
  await writeFile(join(env.project, 'data', 'searches.csv'), searchesCsv());
});

describe('a ranking', () => {
  it('is tuned and judged by whole groups, and held against its champion by them', async () => {
    const first = (await env.run('ranked', { tuned: true, group: 'search' })) as unknown as { readonly report: string; readonly version: number };
    const report = async (id: string) => EvaluationReportSchema.parse(await env.deps.artifacts.getJson(id));
    expect(await report(first.report)).toMatchObject({ task: 'ranking', metric: 'ndcg@10', champion: null, accepted: true });
    await env.deps.store.models.moveAlias({ model: 'ranked', alias: 'champion', version: first.version, reason: 'the first one' });
    const second = (await env.run('ranked', { tuned: true, group: 'search', leaves: 12 })) as unknown as { readonly report: string };
    const { champion, slices, metrics } = await report(second.report);
    expect(champion?.comparison).toMatchObject({ metric: 'ndcg@10', method: 'paired-bootstrap' });
    expect(champion?.comparison?.improvement).toBeCloseTo((metrics['ndcg@10'] ?? 0) - (champion?.metrics['ndcg@10'] ?? 0), 12);
    const [byShop] = slices;
    expect(byShop?.values.map(({ value }) => value).sort()).toEqual(['north', 'south']);
    // searches are of one shop each: theirs are whole groups too
    expect(byShop?.values.every(({ metric, low = 1, high = 0 }) => metric > 0.7 && low <= metric && metric <= high)).toBe(true);
  });

  it('needs a group; one without it, with part of the rows, or by a trainer that ranks nothing is refused', async () => {
    const alone = await failureOf(await env.start('ranked', { task: 'ranking' }));
    expect(alone).toMatchObject({ code: 'INVALID_PARAMETERS', problems: [{ path: 'group' }] });
    const wrong = await failureOf(await env.start('ranked', { task: 'regression', group: 'search', trainer: 'linear', sampleRows: 50 }));
    expect(wrong.code).toBe('INVALID_PARAMETERS');
    expect(wrong.problems.map(({ path }) => path)).toEqual(['task', 'group', 'sampleRows']);
  });

  it('is not made where nothing says which rows belong together', async () => {
    const candidate = (await env.run('ranked', {})) as unknown as { readonly task: string };
    expect(candidate.task).toBe('multiclass');
    const ranked = (await env.run('ranked', { group: 'search' })) as unknown as { readonly task: string };
    expect(ranked.task).toBe('ranking');
  });
});
