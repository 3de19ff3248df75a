import type { Expectations, ValidationResult } from '../contracts/expectations.ts';
import type { Profile } from '../contracts/profile.ts';
import { type DatasetManifest, DatasetRefSchema } from '../contracts/references.ts';
import type { ArtifactPort } from './artifact-port.ts';
import { detectPersonalData } from './detect-personal-data.ts';
import { datasetFiles, loadManifest, pickColumns, type StoredDataset, storeManifest } from './dataset.ts';
import { type CheckOptions, profileAndCheck } from './expectations.ts';
import { quarantineRows } from './quarantine.ts';

export interface ValidateOptions extends CheckOptions {
  readonly manifest: DatasetManifest;
  /** The manifest's own SHA-256: the result's parent. */
  readonly id: string;
  readonly expectations: Expectations;
  readonly artifacts: ArtifactPort;
  /** The column that is to be predicted: the profile says how strongly the others go along with it. */
  readonly target?: string;
  /** Put failing rows aside, at most this share of them (0–1). Default: they fail the validation. */
  readonly quarantineAtMost?: number;
}

export interface ValidatedDataset extends StoredDataset {
  readonly profile: Profile;
  readonly validation: ValidationResult;
  /** SHA-256 of the validation in the artifact store. */
  readonly report: string;
  /** The rows that were put aside; null where there are none. */
  readonly quarantined: StoredDataset | null;
}

/**
 * Checks expectations and profiles the dataset in one pass. The result is the same data with its profile, without the
 * rows that were put aside. Whether a failed expectation stops anything is the caller's matter: see `expectationsFailed`.
 * @throws MillraceError EXPECTATIONS_FAILED where more rows would be put aside than may be; COLUMN_MISSING where there is no such target
 */
export async function validateDataset(options: ValidateOptions): Promise<ValidatedDataset> {
  const { id, expectations, artifacts, quarantineAtMost, target } = options;
  if (target !== undefined) pickColumns(options.manifest.columns, [target]);
  const declared = new Set(Object.keys(options.manifest.sensitive));
  const { threads, memoryLimitBytes, temporaryFolder, signal } = options;
  const personal = await detectPersonalData(await datasetFiles(artifacts, options.manifest), options.manifest.columns, {
    declared,
    ...(threads === undefined ? {} : { threads }),
    ...(memoryLimitBytes === undefined ? {} : { memoryLimitBytes }),
    ...(temporaryFolder === undefined ? {} : { temporaryFolder }),
    ...(signal === undefined ? {} : { signal }),
  });
  const access: CheckOptions = {
    masked: new Set([...declared, ...personal.map(({ column }) => column)]),
    openDataset: async (ref) => {
      const manifest = await loadManifest(artifacts, DatasetRefSchema.parse(ref));
      return { manifest, files: await datasetFiles(artifacts, manifest) };
    },
    ...options,
  };
  const aside = quarantineAtMost === undefined ? undefined : await quarantineRows({ ...options, ...access, atMost: quarantineAtMost });
  const manifest = aside?.kept.manifest ?? options.manifest;
  const { profile, validation: found } = await profileAndCheck(await datasetFiles(artifacts, manifest), manifest.columns, expectations, {
    ...access,
    ...(target === undefined || manifest.reserved !== null ? {} : { target }),
  });
  const validation: ValidationResult = {
    ...found,
    ...(aside === undefined ? {} : { quarantine: { dataset: aside.quarantined.ref.id, rows: aside.quarantined.ref.rows, results: aside.validation.results } }),
    ...(personal.length === 0 ? {} : { personal: [...personal] }),
  };
  const report = (await artifacts.putJson(validation)).sha256;
  // Rows that are kept from sight are checked, and no figure of theirs is kept.
  const storedProfile = manifest.reserved === null ? (await artifacts.putJson(profile)).sha256 : null;
  const stored = await storeManifest(artifacts, { ...manifest, profile: storedProfile, parents: [id] });
  return { ...stored, profile, validation, report, quarantined: aside?.quarantined ?? null };
}
