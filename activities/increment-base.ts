import { MillraceError } from '../contracts/errors.ts';
import type { DatasetManifest } from '../contracts/references.ts';
import type { IngestInput } from '../contracts/stages.ts';
import { loadManifest } from '../data/dataset.ts';
import { type IncrementBase, incrementSettings } from '../data/increment.ts';
import type { ActivityDependencies } from './dependencies.ts';

const PAGE = 200;

/** The newest snapshot that an incremental ingest may go on from: of the same name and settings, and with its manifest still there. */
export async function incrementBase(
  input: IngestInput,
  { store, artifacts }: Pick<ActivityDependencies, 'store' | 'artifacts'>,
): Promise<IncrementBase | undefined> {
  if (input.increment === undefined) return undefined;
  const settings = incrementSettings(input);
  const manifestOf = async (id: string): Promise<DatasetManifest | undefined> => {
    try {
      return await loadManifest(artifacts, { id });
    } catch (error) {
      if (error instanceof MillraceError && (error.code === 'ARTIFACT_MISSING' || error.code === 'ARTIFACT_CORRUPT')) return undefined;
      throw error;
    }
  };
  let before: number | undefined;
  for (;;) {
    const page = await store.datasets.list({ name: input.name, limit: PAGE, ...(before === undefined ? {} : { before }) });
    for (const { id, kind, collectedAt } of page) {
      if (kind !== 'ingest' || collectedAt !== null) continue;
      const manifest = await manifestOf(id);
      if (manifest?.increment?.settings !== settings) continue;
      if (manifest.golden === null) return { id, manifest, golden: null };
      const golden = await manifestOf(manifest.golden);
      if (golden !== undefined) return { id, manifest, golden: { id: manifest.golden, manifest: golden } };
    }
    before = page.at(-1)?.seq;
    if (page.length < PAGE || before === undefined) return undefined;
  }
}
