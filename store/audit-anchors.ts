import { appendFile, mkdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import type { AuditHead } from '../contracts/audit.ts';
import { MillraceError } from '../contracts/errors.ts';

/**
 * Heads of the audit log, kept beside the database: a line a head, only ever added to. Who rewrites the log, or takes its last
 * entries away, would have to rewrite this file, too, and every copy of it.
 */
const AnchorSchema = z.object({ seq: z.int().positive(), hash: z.string().regex(/^[0-9a-f]{64}$/), at: z.iso.datetime() });

/** Where a state folder keeps them. */
export function auditAnchorFile(home: string): string {
  return join(home, 'audit', 'heads.jsonl');
}

/** @throws AUDIT_BROKEN for a file that is not one of heads */
export async function readAuditAnchors(file: string): Promise<readonly AuditHead[]> {
  const text = await readFile(file, 'utf8').catch(() => '');
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line, i) => {
      try {
        return AnchorSchema.parse(JSON.parse(line));
      } catch {
        throw new MillraceError('AUDIT_BROKEN', `Line ${String(i + 1)} of ${file} is not a head of the audit log.`);
      }
    });
}

/** Adds a head, when it is another one than the last; none where nothing was written to the log yet. */
export async function keepAuditAnchor(file: string, head: AuditHead): Promise<void> {
  if (head.seq === 0) return;
  const last = (await readAuditAnchors(file)).at(-1);
  if (last?.seq === head.seq && last.hash === head.hash) return;
  await mkdir(dirname(file), { recursive: true });
  await appendFile(file, `${JSON.stringify({ ...head, at: new Date().toISOString() })}\n`, { mode: 0o600 });
}
