import type { ArtifactDraft } from '../store/stages.ts';
import { cardFacts } from './card-facts.ts';
import { drawCard } from './draw-card.ts';
import type { StageContext } from './stage-definition.ts';

export interface KeptCard {
  readonly artifacts: readonly ArtifactDraft[];
  /** What of it could not be made; empty when all is there. */
  readonly missing: string;
}

/**
 * Makes the model card of a version that was just registered and keeps it with the version: its facts, and its page.
 * A card says what is; it decides nothing. So one that cannot be made is told in the log and the summary, and fails no registration.
 */
export async function keepCard({ model, version }: { readonly model: string; readonly version: number }, context: StageContext): Promise<KeptCard> {
  const { call, deps, signal, progress } = context;
  const { store, artifacts } = deps;
  const told = (missing: string, error: unknown): string => {
    signal.throwIfAborted();
    deps.log('warn', `model card of ${model} ${String(version)}: ${missing}`, {
      run: call.runId,
      error: error instanceof Error ? error.message : String(error),
    });
    return missing;
  };
  try {
    const record = await store.models.version(model, version);
    if (record.card !== null) return { artifacts: [], missing: '' }; // by an attempt before this one
    progress(null, 'model card');
    const facts = await cardFacts({ ...record, runId: call.runId }, deps);
    let missing = '';
    const page = await drawCard(facts, signal).then(
      (html) => artifacts.putBytes(new TextEncoder().encode(html)),
      (error: unknown) => {
        missing = told('without the page of its card', error);
        return null;
      },
    );
    const card = await artifacts.putJson({ ...facts, page: page?.sha256 ?? null });
    await store.models.setCard({ model, version, card: card.sha256 });
    return { artifacts: [{ ...card, kind: 'modelCard' }, ...(page === null ? [] : [{ ...page, kind: 'modelCardPage' }])], missing };
  } catch (error) {
    return { artifacts: [], missing: told('without a card', error) };
  }
}
