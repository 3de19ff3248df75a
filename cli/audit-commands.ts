import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { AuditHead } from '../contracts/audit.ts';
import { MillraceError } from '../contracts/errors.ts';
import { auditAnchorFile, keepAuditAnchor, readAuditAnchors } from '../store/audit-anchors.ts';
import { withClients } from './clients.ts';
import { addCommand, addGroup, invocationOf, print, type Program } from './command.ts';
import { parseCount } from './duration.ts';
import { oneLine, renderTable } from './table.ts';

interface Common {
  readonly json?: boolean;
}

/** `12:HASH`, as `audit verify` prints it. */
function parseHead(text: string): AuditHead {
  const [, seq, hash] = /^(\d{1,15}):([0-9a-f]{64})$/.exec(text) ?? [];
  if (seq === undefined || hash === undefined)
    throw new MillraceError('USAGE', '--head: is not a number and a hash, like 12:9f86d0…', {
      fix: 'Give the head as an earlier `millrace audit verify` printed it.',
    });
  return { seq: Number(seq), hash };
}

/** `millrace audit …`: what was decided and changed, by whom, and whether the log is whole. */
export function addAuditCommands(program: Program): void {
  const audit = addGroup(program, 'audit', 'what was decided and changed, and whether the log of it is whole');

  addCommand(program, audit, 'list', 'the log, newest first')
    .option('--who <name>', 'by this person or run')
    .option('--action <action>', 'of this kind: alias.move, gate.approve, token.create …')
    .option('--subject <subject>', 'of this, and of what is below it: models/NAME, endpoints/NAME, runs/ID')
    .option('--limit <count>', 'at most so many', '50')
    .action(async (options: Common & { who?: string; action?: string; subject?: string; limit: string }) => {
      const input = {
        limit: parseCount('--limit', options.limit),
        ...(options.who === undefined ? {} : { who: options.who }),
        ...(options.action === undefined ? {} : { action: options.action }),
        ...(options.subject === undefined ? {} : { subject: options.subject }),
      };
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const found = await (await clients.store()).audit.list(input);
        print(invocation, found, () =>
          found.length === 0
            ? 'Nothing was decided or changed.\n'
            : renderTable(
                ['entry', 'at', 'who', 'action', 'of', 'details'],
                found.map((e) => [String(e.seq), e.at, e.who, e.action, e.subject, oneLine(JSON.stringify(e.details), 100)]),
              ),
        );
      });
    });

  addCommand(program, audit, 'verify', 'read the whole log: was an entry changed, or is one missing? Exit code 1 when one is')
    .option('--head <head>', 'a head that was kept elsewhere, as an earlier verify printed it: what was before it must be as it was')
    .action(async (options: Common & { head?: string }) => {
      const given = options.head === undefined ? [] : [parseHead(options.head)];
      const invocation = invocationOf(program, options);
      await withClients(async (clients) => {
        const store = await clients.store();
        const file = auditAnchorFile(clients.config.home);
        const kept = await readAuditAnchors(file);
        const verdict = await store.audit.verify([...kept, ...given]);
        if (verdict.ok) await keepAuditAnchor(file, verdict.head);
        else invocation.exit(1);
        print(invocation, { ...verdict, anchors: kept.length + given.length }, () =>
          verdict.ok
            ? `The log is whole: ${String(verdict.entries)} entries, looked at against ${String(kept.length + given.length)} heads that were kept.\nHead: ${String(verdict.head.seq)}:${verdict.head.hash}\n`
            : `The log is not whole:\n${verdict.problems.map(({ seq, what }) => `  entry ${String(seq)}: ${what}\n`).join('')}`,
        );
      });
    });

  addCommand(
    program,
    audit,
    'export <model>',
    'everything of a version for a regulator, as a folder: MODEL (the champion, or the newest), MODEL@3 or MODEL@ALIAS',
  )
    .option('--out <folder>', 'where it is written (default: MODEL-VERSION-dossier)')
    .action(async (text: string, options: Common & { out?: string }) => {
      const invocation = invocationOf(program, options);
      const [, model = text, name] = /^(.*)@([^@]*)$/.exec(text) ?? [];
      await withClients(async (clients) => {
        const [{ createArtifacts }, { readDossier }, { dossierPage }] = await Promise.all([
          import('../store/artifacts.ts'),
          import('../store/dossier.ts'),
          import('../reports/dossier-page.ts'),
        ]);
        const store = await clients.store();
        const { version } = await store.models.versionNamed(model, name);
        const dossier = await readDossier(store, createArtifacts({ root: clients.config.artifacts.folder }), { model, version });
        const folder = resolve(options.out ?? `${model.replaceAll(/[^\p{L}\p{N}._-]+/gu, '-')}-${String(version)}-dossier`);
        if (existsSync(folder)) throw new MillraceError('CONFLICT', `${folder} is there already.`, { fix: 'Give another folder: --out FOLDER.' });
        await mkdir(folder, { recursive: true });
        await writeFile(join(folder, 'dossier.json'), `${JSON.stringify(dossier, null, 2)}\n`);
        await writeFile(join(folder, 'dossier.html'), dossierPage(dossier));
        await store.audit.write({
          action: 'version.export',
          subject: `models/${model}/versions/${String(version)}`,
          who: (await clients.actor(model)).who,
          details: { model, version, head: dossier.proof.head.seq },
        });
        print(invocation, { folder, model, version, head: dossier.proof.head }, () => `${folder}\n`);
      });
    });
}
