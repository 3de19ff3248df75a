import type { Purpose, RunProgress } from '../contracts/run.ts';

const SIGNS: Readonly<Record<string, string>> = { waiting: '·', running: '▶', completed: '✓', cached: '≡', failed: '✗', cancelled: '–' };

/** A run as Markdown, for Temporal's own UI. */
export function runDetails(progress: RunProgress, purpose: Purpose | undefined): string {
  const lines = [`**${progress.pipeline}** · run \`${progress.runId}\` · ${progress.paused ? 'paused' : progress.status}`];
  if (purpose) lines.push('', `${purpose.task}${purpose.decision ? ` Decision: ${purpose.decision}.` : ''}${purpose.owner ? ` Owner: ${purpose.owner}.` : ''}`);
  for (const gate of progress.gates) {
    lines.push(
      '',
      `Waits for approval **${gate.gate}**: ${String(gate.approvals.length)} of ${String(gate.approversNeeded)}${gate.expiresAt ? `, expires ${gate.expiresAt}` : ''}.`,
    );
  }
  lines.push('', '| | stage | pool | result |', '|---|---|---|---|');
  for (const stage of progress.stages) {
    lines.push(
      `| ${SIGNS[stage.status] ?? ''} | ${stage.name} | ${stage.pool} | ${cell(stage.error ? `${stage.error.code}: ${stage.error.message}` : (stage.summary ?? stage.status))} |`,
    );
  }
  for (const problem of progress.undoProblems) lines.push('', `Could not be taken back: ${problem}`);
  return lines.join('\n');
}

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ').slice(0, 300);
