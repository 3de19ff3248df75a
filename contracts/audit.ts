/** A decision or change, as the log keeps it. */
export interface AuditEntry {
  /** 1, 2, 3 … without a gap. */
  readonly seq: number;
  /** UTC ISO. */
  readonly at: string;
  readonly who: string;
  readonly action: string;
  /** What it is of, as the API addresses it: `models/flight-delay/versions/3`. */
  readonly subject: string;
  readonly details: Readonly<Record<string, unknown>>;
  /** `hash` of the entry before; 64 zeros for the first one. */
  readonly prevHash: string;
  /** SHA-256 of the canonical JSON (RFC 8785) of all the other fields. */
  readonly hash: string;
}

/** The last entry of the log, at some time. */
export interface AuditHead {
  readonly seq: number;
  readonly hash: string;
}

export interface AuditProblem {
  /** The entry that does not fit, or the first that is missing. */
  readonly seq: number;
  readonly what: string;
}

export interface AuditVerdict {
  readonly ok: boolean;
  readonly entries: number;
  readonly head: AuditHead;
  readonly problems: readonly AuditProblem[];
}
