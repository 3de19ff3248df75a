/** docs/training.md, run: each pipeline of the page on real servers. One `describe` a section of the page. */
import { beforeAll, describe, expect, it } from 'vitest';
import type { EnsembleParameters } from '../../contracts/ensemble.ts';
import { EvaluationReportSchema } from '../../contracts/evaluation.ts';
import { ModelCardSchema } from '../../contracts/model-card.ts';
import type { CandidateRef, WinnerRef } from '../../contracts/references.ts';
import { PredictorSchema } from '../../contracts/signature.ts';
import { TuningHistorySchema } from '../../contracts/tuning.ts';
import type { TestEnvironment } from '../../testing/index.ts';
import type { Tuned } from '../../workflows/tune.ts';
import { guideProject } from '../support/guide-project.ts';
import { failureOf, openEnvironment } from './test-project.ts';

let env: TestEnvironment & { readonly project: string };
beforeAll(async () => {
  env = await openEnvironment({ project: await guideProject('docs/training.md') });
}, 180_000);

describe('Evaluation', () => {
  it('judges the winner by metrics with intervals, slices, behaviour, own figures and rules', async () => {
    const run = await env.start('judgedFlights', {});
    const { report: id, predictor } = (await run.result()) as unknown as Readonly<Record<'report' | 'predictor', string>>;
    const report = EvaluationReportSchema.parse(await env.deps.artifacts.getJson(id));
    expect(report).toMatchObject({ format: 'millrace-evaluation/2', predictor, task: 'binary', metric: 'auc', accepted: true, problems: [], champion: null });
    const { auc } = report.intervals;
    expect(auc?.low).toBeLessThan(report.metrics['auc'] ?? 0);
    expect(auc?.high).toBeGreaterThan(report.metrics['auc'] ?? 1);
    // costs of 1 to 4: positive is answered well below one half
    expect(report.threshold).toBeGreaterThan(0.05);
    expect(report.threshold).toBeLessThan(0.4);
    expect(PredictorSchema.parse(await env.deps.artifacts.getJson(predictor)).signature.threshold).toBe(report.threshold);
    expect(report.slices.map(({ column }) => column)).toEqual(['origin', 'distance', 'origin × distance']);
    const byDistance = report.slices[1]?.values ?? [];
    expect(byDistance.length).toBe(10);
    expect(byDistance.map(({ metric }) => metric)).toEqual(byDistance.map(({ metric }) => metric).sort((a, b) => a - b));
    expect(byDistance.every(({ low = 1, high = 0, metric, rows }) => low <= metric && metric <= high && rows >= 50)).toBe(true);
    expect(Object.keys(report.business)).toEqual(['costPerFlight', 'missedMiles']);
    const [none, calls] = [report.curves.confusion?.counts[1]?.[0] ?? 0, report.curves.confusion?.counts.reduce((sum, line) => sum + (line[1] ?? 0), 0) ?? 0];
    expect(report.business['costPerFlight']).toBeCloseTo((4 * none + calls) / report.rows, 12);
    expect(report.tests.map(({ kind, tried, passed }) => [kind, tried > 0, passed])).toEqual([
      ['invariance', true, true],
      ['direction', true, expect.any(Boolean)],
      ['mustPass', true, true],
    ]);
    expect(report.importance?.map(({ column }) => column).sort()).toEqual(['destination', 'distance', 'origin']);
    for (const { base, answer, contributions } of report.explanations)
      expect(base + contributions.reduce((sum, { contribution }) => sum + contribution, 0)).toBeCloseTo(answer, 6);
    expect(report.warnings.map(({ path }) => path)).toContain('accept.warn.atLeast.averagePrecision');
    expect(report.curves.roc?.length).toBeLessThanOrEqual(200);
    const summary = (await run.progress()).stages.find(({ kind }) => kind === 'evaluate')?.summary ?? '';
    expect(summary).toMatch(/^auc 0\.\d{4} \(0\.\d{4} to 0\.\d{4}\) on [\d,]+ rows, no champion yet, \d warnings?: /);
  });

  it('names each rule that does not hold, and by how much', async () => {
    const { store } = env.deps;
    await store.models.moveAlias({ model: 'judged-flights', alias: 'champion', version: 1, reason: 'the first one' });
    const report = await failureOf(await env.start('judgedFlights', { trees: 2, leastAuc: 0.99, sure: true }));
    expect(report.code).toBe('ACCEPTANCE_FAILED');
    expect(report.problems.map(({ path }) => path)).toEqual(['accept.atLeast.auc', 'accept.beats']);
    expect(report.problems[0]).toMatchObject({ message: 'must be at least 0.99', fix: expect.stringMatching(/^It is off by 0\.\d{6}\.$/) as string });
    expect(report.problems[1]?.message).toMatch(/^must be better, 95 % sure, than the champion \(version 1\) in auc, which has 0\.\d{6} on the same rows$/);
    expect(report.problems[1]?.found).toMatch(/\(delong, p 0?\.?\d+/);
  });
});

describe('Ranking', () => {
  it('ranks the films of a distributor by scores, chosen and judged by NDCG over whole groups', async () => {
    const { report: id, predictor } = (await env.run('rankedFilms', {})) as unknown as Readonly<Record<'report' | 'predictor', string>>;
    const report = EvaluationReportSchema.parse(await env.deps.artifacts.getJson(id));
    expect(report).toMatchObject({ task: 'ranking', metric: 'ndcg@10', accepted: true, classes: [], threshold: null, curves: {} });
    expect(Object.keys(report.metrics).sort()).toEqual(['map', 'map@10', 'mrr', 'ndcg', 'ndcg@10', 'ndcg@5']);
    const { low = 1, high = 0 } = report.intervals['ndcg@10'] ?? {};
    expect(low).toBeLessThan(report.metrics['ndcg@10'] ?? 0);
    expect(high).toBeGreaterThan(report.metrics['ndcg@10'] ?? 1);
    expect(report.importance?.[0]?.column).toMatch(/^(Rotten Tomatoes Rating|IMDB Votes)$/);
    const { signature } = PredictorSchema.parse(await env.deps.artifacts.getJson(predictor));
    expect(signature.task).toEqual({ kind: 'regression', target: 'relevance', group: 'Distributor' });
    expect(signature.columns.map(({ name }) => name)).not.toContain('Distributor');
  });

  it('says which column of groups is missing', async () => {
    const report = await failureOf(await env.start('rankedFilms', { group: 'Distributer' }));
    expect(report.code).toBe('COLUMN_MISSING');
    expect(report.problems[0]).toMatchObject({ path: 'group', found: 'Distributer' });
  });
});

describe('Tuning', () => {
  it('finds the best of trainers, recipes and parameters, and goes on from what an earlier run has learnt', async () => {
    const first = (await env.run('tunedFlights', { trials: 6 })) as unknown as Tuned;
    expect(first).toMatchObject({ trials: 6, failed: 0, best: { kind: 'candidate', task: 'binary' } });
    expect(first.completed + first.stopped).toBe(6);
    const history = TuningHistorySchema.parse(await env.deps.artifacts.getJson(first.history));
    expect(history.trials[first.trial - 1]).toMatchObject({ state: 'completed', value: first.value, values: first.values });
    const second = (await env.run('tunedFlights', { trials: 3, warmStart: 'last' })) as unknown as Tuned;
    expect(second.trials).toBe(3);
  });
});

describe('Python and other programs', () => {
  it('train beside each other; the better one is registered as a file that takes raw columns', async () => {
    const { runId, model, version } = (await env.run('lateFlights', { rounds: 30 })) as unknown as {
      readonly runId: string;
      readonly model: string;
      readonly version: number;
    };
    expect([model, version]).toEqual(['late-flights', 1]);
    const stages = await env.deps.store.stages.list(runId);
    const trained = stages.filter(({ kind }) => kind === 'train');
    expect(trained.map(({ status }) => status)).toEqual(['completed', 'completed']);
    const [first] = trained;
    const { predictor: id } = (first?.output as { readonly value: { readonly predictor: string } }).value;
    const predictor = PredictorSchema.parse(await env.deps.artifacts.getJson(id));
    expect(predictor.trainer).toMatchObject({ name: 'python', parameters: { script: 'trainers/with_lightgbm.py', parameters: { rounds: 30, leaves: 15 } } });
    expect(predictor.signature.columns.map(({ name }) => name).sort()).toEqual(['destination', 'distance', 'origin']);
    expect(first?.fingerprint).not.toBeNull();
    expect(first?.checkpointStep).toBe(20);

    // nothing has changed: nothing is trained
    const again = (await env.run('lateFlights', { rounds: 30 })) as unknown as { readonly runId: string };
    const taken = (await env.deps.store.stages.list(again.runId)).filter(({ kind }) => kind === 'train');
    expect(taken.map(({ cachedFrom }) => cachedFrom?.runId)).toEqual([runId, runId]);
  }, 1_800_000);
});

describe('Model card', () => {
  it('is made when a version is registered, and kept with it', async () => {
    const { store, artifacts } = env.deps;
    const run = await env.start('cardedFlights', { trials: 4 });
    const { version } = (await run.result()) as unknown as { readonly version: number };
    const record = await store.models.version('carded-flights', version);
    const card = ModelCardSchema.parse(await artifacts.getJson(record.card ?? ''));
    expect(card).toMatchObject({
      model: 'carded-flights',
      version,
      purpose: { task: 'Which flights arrive late?', owner: 'Operations' },
      description: expect.stringContaining('It knows nothing of weather') as string,
      predictor: record.predictor,
      run: { id: record.runId, pipeline: 'cardedFlights' },
      task: { kind: 'binary', target: 'late' },
      training: { seed: 0, features: expect.arrayContaining([{ name: 'origin', kind: 'categorical', columns: ['origin'] }]) as unknown },
      selection: { metric: 'auc' },
      evaluation: { metric: 'auc', explanations: [] },
      rules: [{ rule: 'auc at least 0.5', state: 'holds' }],
      hiddenSlices: [],
    });
    expect(card.evaluation?.metrics).toEqual(record.metrics);
    expect(card.data.map(({ role }) => role)).toEqual(['snapshot', 'training', 'validation', 'test']);
    expect(card.selection?.scores.map(({ trainer }) => trainer).sort()).toEqual(['gbdt', 'linear']);
    // trials are told where it is the tuned candidate that was chosen
    expect(card.tuning?.trials.length).toBe(card.trainer.name === 'gbdt' ? 4 : undefined);
    const distance = card.columns.find(({ name }) => name === 'distance')?.training;
    expect(distance?.rows).toBe(card.data[1]?.rows);
    expect(distance?.range?.[0]).toBeLessThan(distance?.range?.[1] ?? 0);
    const page = (await artifacts.getBytes(card.page ?? '')).toString('utf8');
    expect(page).toContain('carded-flights <span class="version">version');
    expect(page.match(/<h3>(ROC|Precision and recall|Calibration|Confusion|By origin|By permutation)<\/h3>/g)).toHaveLength(6);
    expect((await run.progress()).stages.find(({ kind }) => kind === 'register')?.summary).toBe(`carded-flights ${String(version)}, as candidate`);
  });
});

describe('Ensembles', () => {
  it('of votes and stacks are one file each, and compete with their members', async () => {
    const result = (await env.run('joinedFlights', {})) as unknown as {
      readonly winner: WinnerRef;
      readonly members: readonly CandidateRef[];
      readonly voted: CandidateRef;
      readonly stacked: CandidateRef;
      readonly version: number;
    };
    expect(result.winner.scores.map(({ trainer }) => trainer)).toEqual(['gbdt', 'linear', 'ensemble', 'ensemble']);
    expect(result.version).toBe(1);
    const parametersOf = async ({ predictor }: CandidateRef) =>
      PredictorSchema.parse(await env.deps.artifacts.getJson(predictor)).trainer.parameters as EnsembleParameters;
    const members = result.members.map(({ predictor }) => predictor);
    const voted = await parametersOf(result.voted);
    expect(voted).toMatchObject({ kind: 'voting', weights: 'equal', fittedOn: [] });
    expect(voted.members.map(({ predictor, share }) => [predictor, share])).toEqual(members.map((member) => [member, 0.5]));
    const stacked = await parametersOf(result.stacked);
    expect(stacked).toMatchObject({ kind: 'stacking', meta: { name: 'linear', parameters: { l2: 0.1 } } });
    expect(stacked.members.map(({ predictor }) => predictor)).toEqual(members);
    // the folds are all of the members' rows
    expect(stacked.fittedOn).toHaveLength(3);
    expect(stacked.fittedOn.reduce((sum, { rows }) => sum + rows, 0)).toBe(result.members[0]?.rows);
    const card = ModelCardSchema.parse(await env.deps.artifacts.getJson((await env.deps.store.models.version('joined-flights', 1)).card ?? ''));
    expect(card.data.map(({ role }) => role)).toEqual(expect.arrayContaining(['training', 'test']));
    expect(card.selection?.scores.map(({ metrics }) => Object.keys(metrics ?? {}).includes('auc'))).toEqual([true, true, true, true]);
  }, 300_000);
});
