import { projectHashKey } from '../../config/hash-key.ts';
import { MillraceError } from '../../contracts/errors.ts';
import { MaterializeInputSchema } from '../../contracts/feature-views.ts';
import type { FeatureSetRef } from '../../contracts/references.ts';
import { loadManifest } from '../../data/dataset.ts';
import { featureDefinition } from '../../data/feature-definition.ts';
import { type LatestRow, withLatestFeatures } from '../../data/latest-features.ts';
import { defineStage } from '../stage-definition.ts';

const WRITTEN_AT_ONCE = 5_000;
/** A clock that is a little ahead of this one is no mistake. */
const CLOCK_SKEW_MS = 5 * 60_000;

/**
 * Writes each entity's latest features beside the ones in service, then puts them into service in one transaction with the
 * undo. An attempt that dies in between leaves rows that nobody reads; the next one, or the reconciler, removes them.
 */
export const materializeStage = defineStage({
  input: MaterializeInputSchema,
  cacheable: false,
  run: async ({ view, from, asOf }, { call, deps, token, signal, progress }) => {
    const nowMs = Date.now();
    const asOfMs = asOf === undefined ? undefined : Date.parse(asOf);
    if (asOfMs !== undefined && asOfMs > nowMs + CLOCK_SKEW_MS) {
      const message = 'Values cannot be of an instant that is yet to come.';
      throw new MillraceError('INVALID_PARAMETERS', message, {
        problems: [{ path: 'asOf', message, found: String(asOf), fix: 'Leave it out, or give an instant of the past.' }],
      });
    }
    const manifest = await loadManifest(deps.artifacts, from);
    const { featureViews } = deps.store;
    const attempt = { runId: call.runId, stage: call.stage, token };
    const outcome = await withLatestFeatures(
      {
        source: { view, manifest, id: from.id },
        ...(asOfMs === undefined ? {} : { asOfMs }),
        nowMs,
        artifacts: deps.artifacts,
        hashKey: projectHashKey(deps.config.home),
        signal,
        onProgress: ({ fraction }) => {
          progress(fraction, 'computing');
        },
      },
      async (latest) => {
        const version = await featureViews.declare({ view, definition: featureDefinition(view, manifest) });
        const wanted = { view: view.name, version, snapshot: from.id, asOf: new Date(latest.asOfMs).toISOString() };
        const begun = await featureViews.begin({ ...wanted, ...attempt });
        if (begun.state !== 'writing') return { ...wanted, ...begun };
        let entities = 0;
        for await (const rows of inBatches(latest.batches())) {
          signal.throwIfAborted();
          await featureViews.write(begun.set, rows);
          entities += rows.length;
          progress(null, `${entities.toLocaleString('en')} entities`);
        }
        return { ...wanted, ...(await featureViews.publish({ set: begun.set, entities, ...attempt })) };
      },
    );
    // What the values before leave behind is nobody's loss when it cannot be removed now: the reconciler comes by.
    await featureViews.sweep(view.name).catch((error: unknown) => {
      deps.log('warn', `old values of ${view.name} could not be removed`, { error: error instanceof Error ? error.message : String(error) });
    });
    const { version, state } = outcome;
    const { snapshot, asOf: servedAsOf, entities } = outcome.current;
    const output: FeatureSetRef = { kind: 'features', view: view.name, version, snapshot, asOf: servedAsOf, entities };
    const count = `${entities.toLocaleString('en')} ${entities === 1 ? 'entity' : 'entities'} as of ${servedAsOf}`;
    const summary =
      state === 'older'
        ? `values as of ${outcome.asOf} are not put into service: those there are newer, ${count}`
        : state === 'same'
          ? `in service already: ${count}`
          : `${view.name} ${String(version)}: ${count}`;
    return { output, summary };
  },
});

async function* inBatches(chunks: AsyncGenerator<readonly LatestRow[]>): AsyncGenerator<readonly LatestRow[]> {
  let rows: LatestRow[] = [];
  for await (const chunk of chunks) {
    rows.push(...chunk);
    if (rows.length >= WRITTEN_AT_ONCE) {
      yield rows;
      rows = [];
    }
  }
  if (rows.length > 0) yield rows;
}
