/** Bytes named by their SHA-256, as the artifact store keeps them. All that data/ knows of the store. */
export interface StoredArtifact {
  readonly sha256: string;
  readonly sizeBytes: number;
}

/**
 * What data/ asks of the artifact store.
 *
 * Invariants:
 * 1. `pathOf` answers only for content that was verified against its name; it throws ARTIFACT_MISSING or ARTIFACT_CORRUPT.
 * 2. `putFile` adopts a temporary file: after it, the given path may be gone. The same content put twice is one artifact.
 * 3. Files under `temporaryFile` lie on the store's own disk, so that adopting one is a rename.
 */
export interface ArtifactPort {
  /** A local path to read the artifact from. */
  pathOf(sha256: string): Promise<string>;
  putFile(path: string): Promise<StoredArtifact>;
  /** Stores the value as JSON text; equal values with keys in equal order give the same name. */
  putJson(value: unknown): Promise<StoredArtifact>;
  getJson(sha256: string): Promise<unknown>;
  /** A path of a file that does not exist yet, ending with `suffix`. Whoever asks for it removes it when it is not put. */
  temporaryFile(suffix: string): Promise<string>;
}
