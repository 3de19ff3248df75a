import { createHash } from 'node:crypto';
import { and, asc, desc, eq, gt, lt, type SQL, sql } from 'drizzle-orm';
import type { AuditEntry, AuditHead, AuditProblem, AuditVerdict } from '../contracts/audit.ts';
import { canonicalJson } from '../contracts/canonical-json.ts';
import type { AuditProof } from '../contracts/dossier.ts';
import { actingName } from './acting.ts';
import { type Database, type Executor, onlyRow, storable } from './database.ts';
import { auditLog } from './schema.ts';

/**
 * The log of decisions and changes.
 *
 * Invariants:
 * 1. An entry is written in the transaction of what it tells of: neither is there without the other.
 * 2. Entries are numbered without a gap. Each holds the hash of the one before, and its own over all that it says: who changes
 *    or takes one out has to write all later ones anew, and their last hash is another one.
 * 3. One entry is written at a time; the lock is held to the end of the transaction. It is therefore taken last.
 */
export interface AuditToWrite {
  /** Verb after noun: `alias.move`. */
  readonly action: string;
  /** What it is of, as the API addresses it: `models/flight-delay/versions/3`. */
  readonly subject: string;
  readonly details?: Readonly<Record<string, unknown>>;
  /** Default: in whose name the store is called. */
  readonly who?: string | undefined;
}

/** Before the first entry. */
export const NO_ENTRY: AuditHead = { seq: 0, hash: '0'.repeat(64) };
/** Any number: nothing else takes this lock. */
const AUDIT_LOCK = 7_401_009;
const VERIFY_PAGE = 2_000;
const MOST_PROBLEMS = 100;

/** SHA-256 over the canonical JSON of everything but the hash itself. */
export function auditHash(entry: Omit<AuditEntry, 'hash'>): string {
  const { seq, at, who, action, subject, details, prevHash } = entry;
  return createHash('sha256').update(canonicalJson({ seq, at, who, action, subject, details, prevHash })).digest('hex');
}

/**
 * Writes an entry with whatever transaction `tx` belongs to. Call it after every other statement: what is locked after it may
 * be waited for by someone who waits for this lock.
 */
export async function writeAudit(tx: Executor, { action, subject, details = {}, who = actingName() }: AuditToWrite): Promise<void> {
  await tx.execute(sql`select pg_advisory_xact_lock(${AUDIT_LOCK})`);
  const { rows } = await tx.execute<{ seq: string | null; hash: string | null; now: Date | string }>(
    sql`select (select seq from audit_log order by seq desc limit 1) as seq, (select hash from audit_log order by seq desc limit 1) as hash, clock_timestamp()::timestamptz(3) as now`,
  );
  const before = onlyRow(rows);
  const entry = {
    seq: Number(before.seq ?? NO_ENTRY.seq) + 1,
    at: new Date(before.now).toISOString(),
    ...storable({ who, action, subject, details }),
    prevHash: before.hash ?? NO_ENTRY.hash,
  };
  await tx.insert(auditLog).values({ ...entry, hash: auditHash(entry) });
}

export function createAuditStore({ orm }: Database) {
  const head = async (): Promise<AuditHead> => {
    const [row] = await orm.select({ seq: auditLog.seq, hash: auditLog.hash }).from(auditLog).orderBy(desc(auditLog.seq)).limit(1);
    return row ?? NO_ENTRY;
  };

  const verify = async (anchors: readonly AuditHead[], visit?: (entry: AuditEntry) => void): Promise<AuditVerdict> => {
    const problems: AuditProblem[] = [];
    const kept = new Map<number, string>();
    for (const { seq, hash } of anchors) {
      if ((kept.get(seq) ?? hash) !== hash)
        problems.push({ seq, what: 'two heads that were kept elsewhere have two hashes: the log was written anew between them' });
      kept.set(seq, hash);
    }
    let last = NO_ENTRY;
    for (;;) {
      const page = await orm.select().from(auditLog).where(gt(auditLog.seq, last.seq)).orderBy(asc(auditLog.seq)).limit(VERIFY_PAGE);
      for (const entry of page) {
        if (entry.seq !== last.seq + 1) problems.push({ seq: last.seq + 1, what: missing(last.seq + 1, entry.seq - 1) });
        else if (entry.prevHash !== last.hash) problems.push({ seq: entry.seq, what: 'does not follow the entry before: that one was changed, or exchanged' });
        if (auditHash(entry) !== entry.hash) problems.push({ seq: entry.seq, what: 'was changed: its hash is another one' });
        const anchor = kept.get(entry.seq);
        if (anchor !== undefined && anchor !== entry.hash)
          problems.push({ seq: entry.seq, what: 'was written anew: a hash that was kept elsewhere is another one' });
        visit?.(entry);
        last = { seq: entry.seq, hash: entry.hash };
      }
      if (page.length < VERIFY_PAGE) break;
    }
    const furthest = Math.max(0, ...kept.keys());
    if (furthest > last.seq) problems.push({ seq: last.seq + 1, what: `${missing(last.seq + 1, furthest)} at the end: entry ${String(furthest)} was seen` });
    return { entries: last.seq, head: last, ok: problems.length === 0, problems: problems.slice(0, MOST_PROBLEMS) };
  };

  return {
    /** As `writeAudit`, in a transaction of its own: for what changes nothing in the store. */
    async write(entry: AuditToWrite): Promise<void> {
      await orm.transaction((tx) => writeAudit(tx, entry));
    },

    /** The last entry's number and hash: kept elsewhere, they show later that nothing before was changed or taken out. */
    head,

    /** Newest first. Default limit 50, at most 1,000; `before` is the `seq` of the last one of the page before. */
    async list(input: {
      readonly who?: string;
      readonly action?: string;
      /** This one and what is below it. */
      readonly subject?: string;
      readonly limit?: number;
      readonly before?: number;
    }): Promise<readonly AuditEntry[]> {
      return orm
        .select()
        .from(auditLog)
        .where(
          and(
            input.who === undefined ? undefined : eq(auditLog.who, input.who),
            input.action === undefined ? undefined : eq(auditLog.action, input.action),
            input.subject === undefined ? undefined : of(input.subject),
            input.before === undefined ? undefined : lt(auditLog.seq, input.before),
          ),
        )
        .orderBy(desc(auditLog.seq))
        .limit(Math.min(input.limit ?? 50, 1_000));
    },

    /**
     * Reads the whole log and says what does not fit: an entry that was changed, one that is missing in the middle, and, by
     * `anchors` that were kept elsewhere, missing or rewritten ones at the end. At most 100 problems are listed.
     */
    verify: (anchors: readonly AuditHead[] = []): Promise<AuditVerdict> => verify(anchors),

    /** What was written of these subjects and of what is below them, with the hashes of the whole log, in one pass. */
    async proof(subjects: readonly string[]): Promise<Pick<AuditProof, 'entries' | 'chain'> & { readonly verdict: AuditVerdict }> {
      const entries: AuditEntry[] = [];
      const chain: (readonly [number, string])[] = [];
      const verdict = await verify([], (entry) => {
        chain.push([entry.seq, entry.hash]);
        if (subjects.some((subject) => entry.subject === subject || entry.subject.startsWith(`${subject}/`))) entries.push(entry);
      });
      return { entries, chain, verdict };
    },
  };
}
export type AuditStore = ReturnType<typeof createAuditStore>;

const missing = (from: number, to: number): string =>
  from === to ? `entry ${String(from)} is missing` : `entries ${String(from)} to ${String(to)} are missing`;
const of = (subject: string): SQL => sql`(${auditLog.subject} = ${subject} or starts_with(${auditLog.subject}, ${`${subject}/`}))`;
