import { and, eq, isNull, ne, sql } from 'drizzle-orm';
import { writeAudit } from './audit.ts';
import type { Executor } from './database.ts';
import { storable } from './database.ts';
import { approvals, decisions, raisedAlerts } from './schema.ts';

/**
 * Something became known of a model while people decide on it: votes before it are void, the gate says so, and those who may
 * decide are told anew. With whatever transaction `tx` belongs to.
 */
export async function changeEvidence(tx: Executor, change: { readonly model: string; readonly what: string; readonly exceptRun?: string }): Promise<void> {
  const waiting = await tx
    .select()
    .from(approvals)
    .where(
      and(
        eq(approvals.model, change.model),
        eq(approvals.status, 'pending'),
        change.exceptRun === undefined ? undefined : ne(approvals.runId, change.exceptRun),
      ),
    )
    .orderBy(approvals.runId, approvals.gate)
    .for('update');
  for (const { runId, gate, evidenceChanges } of waiting) {
    const what = storable(change.what);
    if (evidenceChanges.some((known) => known.what === what)) continue;
    await tx
      .update(approvals)
      .set({ evidenceChanges: [...evidenceChanges, { at: new Date().toISOString(), what }] })
      .where(and(eq(approvals.runId, runId), eq(approvals.gate, gate)));
    const voided = await tx
      .update(decisions)
      .set({ voidedAt: sql`now()`, voidReason: what })
      .where(and(eq(decisions.runId, runId), eq(decisions.gate, gate), isNull(decisions.voidedAt)))
      .returning({ who: decisions.who });
    const votes = voided.length === 0 ? '' : ` The votes of ${voided.map(({ who }) => who).join(', ')} are void.`;
    await tx
      .update(raisedAlerts)
      .set({ what: `Run ${runId.slice(0, 8)} waits at the gate ${gate}: ${what}.${votes}`, severity: 'warning', toldAt: null, lastAt: sql`now()` })
      .where(and(eq(raisedAlerts.kind, 'approval'), eq(raisedAlerts.subject, `run ${runId} gate ${gate}`), ne(raisedAlerts.status, 'resolved')));
    await writeAudit(tx, {
      action: 'gate.evidence',
      subject: `runs/${runId}/gates/${gate}`,
      who: 'millrace',
      details: { model: change.model, what, voided: voided.map(({ who }) => who) },
    });
  }
}
