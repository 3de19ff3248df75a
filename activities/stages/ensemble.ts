import { projectHashKey } from '../../config/hash-key.ts';
import { type EnsembleHow, EnsembleInputSchema, type EnsembleParameters } from '../../contracts/ensemble.ts';
import { MillraceError, type Problem } from '../../contracts/errors.ts';
import type { CandidateRef, DatasetManifest, DatasetRef } from '../../contracts/references.ts';
import { type Predictor, PredictorSchema, type Signature } from '../../contracts/signature.ts';
import { datasetFiles, loadManifest } from '../../data/dataset.ts';
import { compute } from '../compute-job.ts';
import type { BuiltEnsemble, EnsembleFitRows, EnsembleMember } from '../ensemble-job.ts';
import { mergeSignatures } from '../merge-signatures.ts';
import { loadPredictor } from '../scored-rows.ts';
import { defineStage, type StageContext } from '../stage-definition.ts';
import { testRowProblems } from '../test-rows.ts';

const MOST_IMPORTANCES = 200;

interface Member {
  readonly ref: CandidateRef;
  readonly label: string;
  readonly predictor: Predictor;
}

/** Makes one predictor of several: their graphs and the mean or meta model behind them are one ONNX file. */
export const ensembleStage = defineStage({
  input: EnsembleInputSchema,
  cacheable: true,
  run: async ({ candidates, how }, { call, deps, signal, progress }) => {
    refuseShape(candidates, how);
    const members = await openMembers(deps, candidates, 'candidates');
    const { task, unserved, lookups, ...merged } = mergeSignatures(members);
    const parts = await openFitRows(deps, how, candidates, members);
    const signature: Signature = { ...merged, task, threshold: thresholdOf(how, members) };
    const target = parts[0]?.manifest.columns.find((column) => column.name === task.target)?.type ?? null;
    const built = await compute<BuiltEnsemble>(
      {
        kind: 'ensemble',
        how,
        members: await Promise.all(members.map((member) => jobMember(deps, member))),
        fit: await Promise.all(
          parts.map(
            async ({ manifest, members: own }): Promise<EnsembleFitRows> => ({
              files: (await datasetFiles(deps.artifacts, manifest)).map(({ path }) => path),
              members: await Promise.all(own.map((member) => jobMember(deps, member))),
            }),
          ),
        ),
        signature,
        targetType: target,
        hashKey: projectHashKey(deps.config.home),
      },
      {
        signal,
        progress,
        heapMib: deps.config.pools[call.pool]?.heapMib,
        log: (message) => {
          deps.log('error', `joining for ${call.stage}`, { run: call.runId, error: message });
        },
      },
    );
    const stored = await deps.artifacts.putBytes(built.onnx);
    const parameters: EnsembleParameters = {
      kind: how.kind,
      ...(how.kind === 'voting' ? { weights: typeof how.weights === 'string' ? how.weights : ('given' as const) } : {}),
      members: members.map(({ ref }, index) => ({ predictor: ref.predictor, trainer: ref.trainer, rows: ref.rows, share: built.shares[index] ?? 0 })),
      ...(how.kind === 'stacking' ? { meta: { name: 'linear' as const, parameters: built.metaParameters } } : {}),
      fittedOn: parts.map(({ on }, index) => ({ dataset: on.id, rows: built.fitRows[index] ?? 0 })),
    };
    const predictor = PredictorSchema.parse({
      format: 'millrace-predictor/1',
      onnx: stored.sha256,
      onnxSizeBytes: stored.sizeBytes,
      signature,
      trainer: { name: 'ensemble', parameters },
      trainingProfile: members.find(({ predictor: { trainingProfile } }) => trainingProfile !== null)?.predictor.trainingProfile ?? null,
      sample: built.sample,
      importance: importanceOf(members, built.shares),
      unserved,
      lookups,
    } satisfies Predictor);
    const { sha256, sizeBytes } = await deps.artifacts.putJson(predictor);
    const output: CandidateRef = {
      kind: 'candidate',
      predictor: sha256,
      trainer: 'ensemble',
      task: task.kind,
      device: 'cpu',
      rows: Math.max(...candidates.map(({ rows }) => rows)),
    };
    return {
      output,
      summary: summaryOf(how, members, built),
      artifacts: [
        { sha256: stored.sha256, sizeBytes: stored.sizeBytes, kind: 'onnx' },
        { sha256, sizeBytes, kind: 'predictor' },
      ],
      metrics: built.shares.map((value, step) => ({ key: 'share', step, value })),
    };
  },
});

async function openMembers(deps: StageContext['deps'], candidates: readonly CandidateRef[], path: string): Promise<Member[]> {
  return Promise.all(
    candidates.map(async (ref, index) => ({ ref, label: `${path}.${String(index)} (${ref.trainer})`, predictor: await loadPredictor(deps, ref.predictor) })),
  );
}

const jobMember = async (deps: StageContext['deps'], { ref, predictor }: Member): Promise<EnsembleMember> => ({
  onnx: await deps.artifacts.pathOf(predictor.onnx),
  graph: predictor.signature.graph,
  sample: predictor.sample.rows,
  trainer: ref.trainer,
});

/** @throws INVALID_PARAMETERS for what makes no ensemble, whatever its members are */
function refuseShape(candidates: readonly CandidateRef[], how: EnsembleHow): void {
  const problems: Problem[] = [];
  if (candidates.length < 2)
    problems.push({ path: 'candidates', message: 'an ensemble has at least two members', found: String(candidates.length), fix: 'Use the candidate itself.' });
  const twice = candidates.filter(({ predictor }, index) => candidates.findIndex((other) => other.predictor === predictor) < index);
  if (twice.length > 0) problems.push({ path: 'candidates', message: 'a member is named twice', fix: 'Give it a greater weight instead.' });
  const fits = how.kind === 'stacking' || how.weights === 'optimise';
  if (fits && how.on === undefined && how.folds === undefined)
    problems.push({ path: 'how.on', message: 'rows are needed that no member was trained on', fix: 'Name the validation part, or folds with their members.' });
  if (how.on !== undefined && how.folds !== undefined) problems.push({ path: 'how', message: 'takes on or folds, and not both' });
  if (!fits && (how.on !== undefined || how.folds !== undefined))
    problems.push({ path: 'how', message: 'these weights are not fitted, so that no rows are needed', fix: "Leave the rows out, or say weights: 'optimise'." });
  if (how.kind === 'voting' && typeof how.weights !== 'string') {
    if (how.weights.length !== candidates.length)
      problems.push({ path: 'how.weights', message: `must be one number a member: ${String(candidates.length)}`, found: String(how.weights.length) });
    if (!(how.weights.reduce((sum, weight) => sum + weight, 0) > 0)) problems.push({ path: 'how.weights', message: 'must not all be 0' });
  }
  how.folds?.forEach((fold, index) => {
    if (fold.candidates.length !== candidates.length || fold.candidates.some(({ trainer }, m) => trainer !== candidates[m]?.trainer))
      problems.push({
        path: `how.folds.${String(index)}.candidates`,
        message: 'must be the same members in the same order, trained without these rows',
        found: fold.candidates.map(({ trainer }) => trainer).join(', '),
        fix: `Give ${candidates.map(({ trainer }) => trainer).join(', ')}.`,
      });
  });
  if (problems.length > 0) throw new MillraceError('INVALID_PARAMETERS', 'These candidates cannot be joined like this.', { problems });
}

interface FitPart {
  readonly on: DatasetRef;
  readonly manifest: DatasetManifest;
  readonly members: readonly Member[];
}

/** The rows to fit on, with who answers them. @throws INVALID_PARAMETERS where a member has learnt from them, or they are kept for the last test */
async function openFitRows(deps: StageContext['deps'], how: EnsembleHow, candidates: readonly CandidateRef[], members: readonly Member[]): Promise<FitPart[]> {
  const wanted = how.folds ?? (how.on === undefined ? [] : [{ on: how.on, candidates }]);
  const problems: Problem[] = [];
  const parts = await Promise.all(
    wanted.map(async ({ on, candidates: own }, index): Promise<FitPart> => {
      const path = how.folds === undefined ? 'how.on' : `how.folds.${String(index)}`;
      const manifest = await loadManifest(deps.artifacts, on);
      const answering = how.folds === undefined ? members : await openMembers(deps, own, `${path}.candidates`);
      problems.push(...testRowProblems(manifest, path, 'Fit on the validation part.'));
      for (const { label, predictor } of answering)
        if (manifest.profile !== null && predictor.trainingProfile === manifest.profile)
          problems.push({ path, message: `${label} was trained on these rows`, fix: 'Use rows that no member has seen: the validation part, or folds.' });
      return { on, manifest, members: answering };
    }),
  );
  if (how.folds !== undefined) for (const { members: own } of parts) mergeSignatures([...members.slice(0, 1), ...own]);
  if (problems.length > 0) throw new MillraceError('INVALID_PARAMETERS', 'The ensemble cannot be fitted on these rows.', { problems });
  return parts;
}

/** Of a mean, the mean of the members' thresholds; a meta model's probabilities are its own. */
function thresholdOf(how: EnsembleHow, members: readonly Member[]): number {
  if (how.kind === 'stacking') return 0.5;
  const weights = typeof how.weights === 'string' ? members.map(() => 1) : how.weights;
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return members.reduce((sum, { predictor }, index) => sum + (predictor.signature.threshold * (weights[index] ?? 0)) / total, 0);
}

function importanceOf(members: readonly Member[], shares: readonly number[]): Predictor['importance'] {
  const sums = new Map<string, number>();
  members.forEach(({ predictor }, index) => {
    for (const { feature, share } of predictor.importance) sums.set(feature, (sums.get(feature) ?? 0) + share * (shares[index] ?? 0));
  });
  // members without importances of their own leave less than the whole
  const total = [...sums.values()].reduce((sum, share) => sum + share, 0);
  return [...sums]
    .filter(([, share]) => share > 0)
    .sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1))
    .slice(0, MOST_IMPORTANCES)
    .map(([feature, share]) => ({ feature, share: share / total }));
}

function summaryOf(how: EnsembleHow, members: readonly Member[], { shares, fitRows }: BuiltEnsemble): string {
  const of = members.map(({ ref }, index) => `${ref.trainer} ${(shares[index] ?? 0).toFixed(2)}`).join(', ');
  const rows = fitRows.reduce((sum, count) => sum + count, 0).toLocaleString('en');
  const fitted = fitRows.length === 0 ? '' : `, fitted on ${rows} ${how.folds === undefined ? '' : 'out-of-fold '}rows that no member was trained on`;
  return `${how.kind} of ${of}${fitted}`;
}
