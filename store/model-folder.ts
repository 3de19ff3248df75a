import { copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { DecisionsSchema, rulesAlone } from '../contracts/decisions.ts';
import { MillraceError } from '../contracts/errors.ts';
import { MODEL_FILES, type ModelFolder, ModelFolderSchema } from '../contracts/model-folder.ts';
import { PredictorSchema } from '../contracts/signature.ts';
import type { Artifacts } from './artifacts.ts';

export interface ExportedVersion {
  readonly model: string;
  readonly version: number;
  readonly predictor: string;
  /** Rules of decision that come along, by their artifact. */
  readonly decisions?: string | undefined;
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/**
 * Writes a version's files into a folder, which is made; files of an earlier export there are replaced. The manifest comes
 * last: a folder that has one is whole.
 */
export async function writeModelFolder(
  artifacts: Pick<Artifacts, 'getBytes' | 'pathOf'>,
  version: ExportedVersion,
  folder: string,
  exportedBy: string,
): Promise<ModelFolder> {
  const predictorBytes = await artifacts.getBytes(version.predictor);
  const predictor = PredictorSchema.parse(JSON.parse(predictorBytes.toString('utf8')));
  await mkdir(folder, { recursive: true });
  await rm(join(folder, MODEL_FILES.manifest), { force: true });
  const onnx = join(folder, MODEL_FILES.onnx);
  // as it lies in the artifact store it is read-only, and a copy would be
  await rm(onnx, { force: true });
  await copyFile(await artifacts.pathOf(predictor.onnx), onnx);
  await writeFile(join(folder, MODEL_FILES.predictor), predictorBytes);
  const signature = Buffer.from(`${JSON.stringify(predictor.signature, null, 2)}\n`);
  await writeFile(join(folder, MODEL_FILES.signature), signature);
  await rm(join(folder, MODEL_FILES.decisions), { force: true });
  const rules =
    version.decisions === undefined
      ? undefined
      : Buffer.from(JSON.stringify(rulesAlone(DecisionsSchema.parse(JSON.parse((await artifacts.getBytes(version.decisions)).toString('utf8'))))));
  if (rules !== undefined) await writeFile(join(folder, MODEL_FILES.decisions), rules);
  const hashes = (text: string): boolean => text.includes('"op":"hash"');
  const manifest: ModelFolder = {
    format: 'millrace-model/1',
    ...{ model: version.model, version: version.version, predictor: version.predictor },
    ...(rules === undefined ? {} : { decisions: sha256(rules) }),
    exportedBy,
    needsHashKey: hashes(JSON.stringify(predictor.signature.transforms)) || hashes(rules?.toString('utf8') ?? ''),
    files: [
      { path: MODEL_FILES.onnx, sha256: predictor.onnx, sizeBytes: predictor.onnxSizeBytes },
      { path: MODEL_FILES.predictor, sha256: version.predictor, sizeBytes: predictorBytes.length },
      { path: MODEL_FILES.signature, sha256: sha256(signature), sizeBytes: signature.length },
      ...(rules === undefined ? [] : [{ path: MODEL_FILES.decisions, sha256: sha256(rules), sizeBytes: rules.length }]),
    ],
  };
  await writeFile(join(folder, MODEL_FILES.manifest), `${JSON.stringify(manifest, null, 2)}\n`);
  return manifest;
}

/** What an exported folder holds. @throws MillraceError SOURCE_NOT_FOUND where there is no such folder, MODEL_INVALID where it is none */
export async function readModelFolder(folder: string): Promise<ModelFolder> {
  let text: string;
  try {
    text = await readFile(join(folder, MODEL_FILES.manifest), 'utf8');
  } catch {
    throw new MillraceError('SOURCE_NOT_FOUND', `There is no exported model in ${folder}.`, { fix: 'Write one: millrace models export MODEL --out FOLDER.' });
  }
  try {
    return ModelFolderSchema.parse(JSON.parse(text));
  } catch {
    throw new MillraceError('MODEL_INVALID', `${MODEL_FILES.manifest} in ${folder} is not that of an exported model.`, { fix: 'Export the model anew.' });
  }
}

/** The folder's files by their hash, each held against it. */
export function modelFolderFiles(folder: string, manifest: ModelFolder): Pick<Artifacts, 'getBytes'> {
  return {
    async getBytes(name) {
      const file = manifest.files.find((entry) => entry.sha256 === name);
      if (file === undefined) throw new MillraceError('ARTIFACT_MISSING', 'A file that the model needs is not in its folder.');
      const bytes = await readFile(join(folder, file.path)).catch(() => undefined);
      if (bytes === undefined) throw new MillraceError('ARTIFACT_MISSING', `${file.path} is not in the model's folder.`);
      if (sha256(bytes) !== name) throw new MillraceError('ARTIFACT_CORRUPT', `${file.path} is not what was exported.`, { fix: 'Export the model anew.' });
      return bytes;
    },
  };
}
