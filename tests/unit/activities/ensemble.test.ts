import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ActivityDependencies } from '../../../activities/dependencies.ts';
import type { StageContext } from '../../../activities/stage-definition.ts';
import { stages } from '../../../activities/stages/index.ts';
import { importModelStage } from '../../../activities/stages/import-model.ts';
import type { EnsembleParameters } from '../../../contracts/ensemble.ts';
import { categorical, numeric, text } from '../../../contracts/features.ts';
import type { CandidateRef, DatasetRef, EvaluationRef, FoldsRef, SplitRef, WinnerRef } from '../../../contracts/references.ts';
import { call, col, set } from '../../../contracts/row-transforms.ts';
import { type Predictor, PredictorSchema } from '../../../contracts/signature.ts';
import type { StageKind } from '../../../contracts/stages.ts';
import { createRandom } from '../../../ml/random.ts';
import { createScorer } from '../../../ml/score.ts';
import { openArtifacts } from '../../../store/artifacts.ts';
import { gbdt, linear } from '../../../workflows/trainers.ts';
import { refusal, sigmoidOfFirst } from '../../support/external-training.ts';
import { rawTable } from '../ml/raw-tables.ts';

/** The stages themselves, on real files and without servers. */
let deps: ActivityDependencies;
async function run<Output>(kind: StageKind, input: unknown): Promise<Output & { readonly summary: string }> {
  const stage = stages[kind] as unknown as {
    readonly input: { parse(input: unknown): unknown };
    readonly run: (input: unknown, context: StageContext) => Promise<{ readonly output: object; readonly summary: string }>;
  };
  const context = {
    call: { runId: '0'.repeat(32), pipeline: 'test', buildId: 'test', stage: kind, kind, ordinal: 0, pool: 'cpu', cache: false, input },
    deps,
    signal: new AbortController().signal,
    progress: () => undefined,
    resume: () => Promise.resolve(undefined),
    commitCheckpoint: () => Promise.resolve(),
    childUsed: () => undefined,
    device: null,
    token: 1,
  } as unknown as StageContext;
  const { output, summary } = await stage.run(stage.input.parse(input), context);
  return { ...(output as Output), summary };
}
const predictorOf = async (candidate: CandidateRef): Promise<Predictor> => PredictorSchema.parse(await deps.artifacts.getJson(candidate.predictor));

function mailsCsv(rows: number): string {
  const random = createRandom(3);
  const lines = Array.from({ length: rows }, () => {
    const size = random.below(1_000);
    const word = ['offer', 'Grüße', 'meeting'][random.below(3)] ?? '';
    const from = ['a', 'b'][random.below(2)] ?? '';
    const score = size / 1_000 + (word === 'offer' ? 0.8 : 0) + random.normal() / 4;
    return [String(size), `${word} of today`, from, score > 0.9 ? 'yes' : 'no', score > 1.1 ? 'high' : score > 0.6 ? 'mid' : 'low', score.toFixed(4)].join(',');
  });
  return ['size,body,sender,spam,grade,score', ...lines].join('\n');
}

let parts: SplitRef;
let folds: FoldsRef;
let plain: DatasetRef;
let spam: readonly CandidateRef[];
const features = { size: numeric(), sender: categorical({ minCount: 1 }) };
const train = (trainer: unknown, target: string, more: object = {}, on: DatasetRef = parts.train): Promise<CandidateRef> =>
  run<CandidateRef>('train', { train: on, trainer, target, features, ...more });
const joined = (candidates: readonly CandidateRef[], how: object) => run<CandidateRef>('ensemble', { candidates, how });

beforeAll(async () => {
  const folder = await mkdtemp(join(tmpdir(), 'millrace-ensemble-'));
  afterAll(() => rm(folder, { recursive: true, force: true }));
  await mkdir(join(folder, 'home'));
  await writeFile(join(folder, 'mails.csv'), mailsCsv(900));
  await writeFile(join(folder, 'bare.onnx'), sigmoidOfFirst(2));
  deps = {
    config: { projectFolder: folder, home: join(folder, 'home'), cacheFolder: folder, pools: { cpu: { slots: 2 } }, artifacts: { folder } },
    artifacts: await openArtifacts(join(folder, 'artifacts')),
    store: { models: { find: () => Promise.resolve(null) } },
    log: () => undefined,
  } as unknown as ActivityDependencies;
  const source = { format: 'csv', path: 'mails.csv' };
  const half = set('half', call('divide', col('size'), 2));
  const raw = await run<DatasetRef>('ingest', { source, name: 'mails', transforms: [half] });
  plain = await run<DatasetRef>('ingest', { source, name: 'mails-otherwise', transforms: [set('half', call('divide', col('size'), 4))] });
  parts = await run<SplitRef>('split', { dataset: raw, options: { by: 'random', seed: 1, validationFraction: 0.25, testFraction: 0.25 } });
  folds = await run<FoldsRef>('fold', { dataset: parts.train, options: { by: 'random', k: 2, seed: 1 } });
  spam = await Promise.all([train(gbdt({ trees: 8 }), 'spam'), train(linear(), 'spam')]);
}, 60_000);

describe('ensemble', { timeout: 60_000 }, () => {
  it('answers the mean of its members to 1e-5, takes the raw columns of all, and is judged like any candidate', async () => {
    const members = await Promise.all([
      train(gbdt({ trees: 10 }), 'spam', { features: { half: numeric(), sender: categorical({ minCount: 1 }) } }),
      train(linear(), 'spam', { features: { body: text({ minDocuments: 1 }) } }),
    ]);
    const both = await joined(members, { kind: 'voting', weights: [3, 1] });
    expect(both).toMatchObject({ kind: 'candidate', trainer: 'ensemble', task: 'binary', rows: parts.train.rows });
    expect(both.summary).toBe('voting of gbdt 0.75, linear 0.25');
    const predictor = await predictorOf(both);
    expect(predictor.signature.columns.map(({ name }) => name).sort()).toEqual(['body', 'sender', 'size']);
    expect(predictor.signature.transforms).toHaveLength(1);
    expect(predictor.signature.graph).toEqual({ numbers: ['half'], dates: [], strings: ['sender', 'body'] });
    expect(predictor.importance.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 9);
    expect(predictor.trainingProfile).toBe((await predictorOf(members[0])).trainingProfile);
    const answers = await Promise.all(
      [both, ...members].map(async (candidate) => {
        const { onnx, signature } = await predictorOf(candidate);
        const scorer = await createScorer(await deps.artifacts.pathOf(onnx), signature.graph);
        try {
          return (await scorer.score(rawTable({ half: [1, 400, null], sender: ['a', null, 'nobody'], body: ['offer', 'Grüße ✓', null] }))).values;
        } finally {
          await scorer.close();
        }
      }),
    );
    answers[0]?.forEach((value, i) => expect(value).toBeCloseTo(0.75 * (answers[1]?.[i] ?? 0) + 0.25 * (answers[2]?.[i] ?? 0), 5));
    const winner = await run<WinnerRef>('select', { candidates: [...members, both], on: parts.validation, metric: 'auc' });
    expect(winner.scores.map(({ trainer }) => trainer)).toEqual(['gbdt', 'linear', 'ensemble']);
    const judged = await run<EvaluationRef>('evaluate', { candidate: winner, on: parts.test });
    expect(judged.candidate.trainer).toBe('ensemble');
    expect(judged.metrics['auc']).toBeGreaterThan(0.8);
  });

  it('finds weights and a meta model on the validation rows', async () => {
    const members = await Promise.all([
      train(gbdt({ trees: 10 }), 'score'),
      train(linear(), 'score', { features: { ...features, body: text({ minDocuments: 1 }) } }),
    ]);
    const vote = await joined(members, { kind: 'voting', weights: 'optimise', on: parts.validation });
    const stack = await joined(members, { kind: 'stacking', on: parts.validation, meta: linear({ l2: 0.1 }) });
    expect(stack.summary).toContain(`fitted on ${String(parts.validation.rows)} rows that no member was trained on`);
    const { trainer, sample } = await predictorOf(stack);
    const parameters = trainer.parameters as EnsembleParameters;
    expect(parameters).toMatchObject({
      kind: 'stacking',
      meta: { name: 'linear', parameters: { l2: 0.1, tolerance: 1e-6 } },
      fittedOn: [{ dataset: parts.validation.id, rows: parts.validation.rows }],
      members: members.map(({ predictor, rows }) => ({ predictor, rows })),
    });
    expect(sample.rows.map((row) => Object.keys(row).sort())).toEqual(Array.from({ length: 5 }, () => ['body', 'sender', 'size']));
    expect(sample.output.map((values) => values.length)).toEqual([1, 1, 1, 1, 1]);
    const { scores } = await run<WinnerRef>('select', { candidates: [...members, vote, stack], on: parts.validation, metric: 'rmse' });
    const [first = 0, second = 0, voted = 0] = scores.map(({ value }) => value);
    expect(voted).toBeLessThanOrEqual(Math.min(first, second) + 1e-6);
  });

  it('fits a meta model out of fold, each row answered by a member that was trained without it; the same bytes each time', async () => {
    const how = (on: DatasetRef) => [train(gbdt({ trees: 8 }), 'spam', {}, on), train(linear(), 'spam', {}, on)];
    const whole = spam;
    const inFolds = await Promise.all(folds.folds.map(async (fold) => ({ on: fold.validation, candidates: await Promise.all(how(fold.train)) })));
    const stack = await joined(whole, { kind: 'stacking', folds: inFolds });
    expect((await joined(whole, { kind: 'stacking', folds: inFolds })).predictor).toBe(stack.predictor);
    expect(stack.summary).toContain(`fitted on ${String(parts.train.rows)} out-of-fold rows`);
    const { parameters } = (await predictorOf(stack)).trainer;
    expect((parameters as EnsembleParameters).fittedOn).toEqual(folds.folds.map(({ validation }) => ({ dataset: validation.id, rows: validation.rows })));
    const wrong = inFolds.map((fold) => ({ ...fold, candidates: fold.candidates.toReversed() }));
    expect((await refusal(joined(whole, { kind: 'stacking', folds: wrong }))).problems[0]).toMatchObject({
      path: 'how.folds.0.candidates',
      found: 'linear, gbdt',
    });
  });

  it('refuses what makes no ensemble, with every problem', async () => {
    const one = spam[1] as CandidateRef;
    const problems = async (candidates: readonly CandidateRef[], how: object) =>
      (await refusal(joined(candidates, how))).problems.map(({ path, message }) => `${path}: ${message}`);
    expect(await problems([one], { kind: 'voting', weights: [0, 0] })).toEqual([
      'candidates: an ensemble has at least two members',
      'how.weights: must be one number a member: 1',
      'how.weights: must not all be 0',
    ]);
    expect(await problems([one, one], { kind: 'stacking' })).toEqual([
      'candidates: a member is named twice',
      'how.on: rows are needed that no member was trained on',
    ]);
    const other = await train(linear(), 'grade');
    expect(await problems([one, other], { kind: 'voting' })).toEqual(['candidates.1 (linear): has another target than candidates.0 (linear), which has spam']);
    const classes = await train(
      linear(),
      'grade',
      {},
      await run<DatasetRef>('ingest', {
        source: { format: 'csv', path: 'mails.csv' },
        name: 'two-grades',
        transforms: [{ kind: 'keep', where: call('notEqual', col('grade'), 'mid') }],
      }),
    );
    expect(await problems([other, classes], { kind: 'voting' })).toEqual([
      'candidates.1 (linear): has another task than candidates.0 (linear), which has multiclass',
    ]);
    const bare = await run<CandidateRef>('importModel', { path: 'bare.onnx' });
    expect(importModelStage.cacheable).toBe(false);
    expect((await problems([one, bare], { kind: 'voting' }))[0]).toContain('is a bare ONNX file');
  });

  it('refuses rows that a member was trained on, and the test rows', async () => {
    const found = async (on: DatasetRef) => (await refusal(joined(spam, { kind: 'stacking', on }))).problems.map(({ message }) => message);
    expect(await found(parts.train)).toEqual(['candidates.0 (gbdt) was trained on these rows', 'candidates.1 (linear) was trained on these rows']);
    expect(await found(parts.test)).toEqual(['these rows are kept for the last test (test)']);
  });

  it('is no exception: the rows of the test train no model and select none', async () => {
    expect((await refusal(train(linear(), 'spam', {}, parts.test))).problems).toMatchObject([
      { path: 'train', message: 'these rows are kept for the last test (test)' },
    ]);
    expect((await refusal(train(linear(), 'spam', { validation: parts.test }))).problems).toMatchObject([{ path: 'validation' }]);
    const selected = run('select', { candidates: spam, on: parts.test, metric: 'auc' });
    expect((await refusal(selected)).problems).toMatchObject([{ path: 'select.on', fix: 'Select on the validation part.' }]);
  });

  it('refuses members whose row transforms make a column differently', async () => {
    const halves = { features: { half: numeric() } };
    const members = await Promise.all([train(linear(), 'spam', halves), train(linear(), 'spam', halves, plain)]);
    const { problems } = await refusal(joined(members, { kind: 'voting' }));
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatchObject({ column: 'half', message: expect.stringContaining('reads half as its own row transforms make it') as string });
  });
});
