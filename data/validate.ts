import type { Expectations, ValidationResult } from '../contracts/expectations.ts';
import type { Profile } from '../contracts/profile.ts';
import type { DatasetManifest } from '../contracts/references.ts';
import type { ArtifactPort } from './artifact-port.ts';
import { datasetFiles, type StoredDataset, storeManifest } from './dataset.ts';
import { type CheckOptions, profileAndCheck } from './expectations.ts';

export interface ValidateOptions extends CheckOptions {
  readonly manifest: DatasetManifest;
  /** The manifest's own SHA-256: the result's parent. */
  readonly id: string;
  readonly expectations: Expectations;
  readonly artifacts: ArtifactPort;
}

export interface ValidatedDataset extends StoredDataset {
  readonly profile: Profile;
  readonly validation: ValidationResult;
  /** SHA-256 of the validation in the artifact store. */
  readonly report: string;
}

/**
 * Checks expectations and profiles the dataset in one pass. The result is the same data with its profile. Whether a
 * failed expectation stops anything is the caller's matter: see `expectationsFailed`.
 */
export async function validateDataset(options: ValidateOptions): Promise<ValidatedDataset> {
  const { manifest, id, expectations, artifacts } = options;
  const files = await datasetFiles(artifacts, manifest);
  const { profile, validation } = await profileAndCheck(files, manifest.columns, expectations, options);
  const [storedProfile, storedReport] = [await artifacts.putJson(profile), await artifacts.putJson(validation)];
  const stored = await storeManifest(artifacts, { ...manifest, profile: storedProfile.sha256, parents: [id] });
  return { ...stored, profile, validation, report: storedReport.sha256 };
}
