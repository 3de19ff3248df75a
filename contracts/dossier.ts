import type { AuditEntry, AuditHead } from './audit.ts';

/** Everything that is known of a version, for someone from outside who has to judge it. */
export interface Dossier {
  readonly format: 'millrace-dossier/1';
  readonly model: string;
  readonly version: number;
  /** UTC ISO. */
  readonly madeAt: string;
  /** The version's record: hashes, metrics, status, owner, tags. */
  readonly record: unknown;
  /** The model card's facts; null where it has none. */
  readonly card: unknown;
  /** The report of its evaluation; null for a model that was brought from outside. */
  readonly evaluation: unknown;
  /** The run that made it, with its stages: parameters, code, inputs, outputs. */
  readonly run: unknown;
  /** Where it comes from: stages, datasets, sources. */
  readonly lineage: unknown;
  readonly approvals: readonly unknown[];
  readonly comments: readonly unknown[];
  /** When which alias named it. */
  readonly aliases: readonly unknown[];
  /** When it answered requests, where, and why it stopped. */
  readonly production: readonly ProductionEntry[];
  readonly proof: AuditProof;
}

export interface ProductionEntry {
  readonly endpoint: string;
  readonly as: 'champion' | 'challenger' | 'standby';
  /** UTC ISO. */
  readonly from: string;
  readonly until: string | null;
  readonly percent: number | null;
  readonly by: string | null;
  readonly reason: string | null;
}

/**
 * What was written of the version in the audit log, with the hashes of all entries, so that it can be shown without Millrace
 * that these entries are among them, in this order, and were not changed: the SHA-256 of an entry's canonical JSON (RFC 8785)
 * without its `hash` is that hash, and stands as `prevHash` of the next.
 */
export interface AuditProof {
  readonly entries: readonly AuditEntry[];
  /** `[seq, hash]` of every entry of the log, the first one first. */
  readonly chain: readonly (readonly [number, string])[];
  readonly head: AuditHead;
  readonly whole: boolean;
}
