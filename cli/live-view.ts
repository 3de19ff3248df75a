import type { RunProgress, StageView } from '../contracts/run.ts';
import type { RunSnapshot, StageSign } from './run-snapshot.ts';
import { oneLine, showDuration, showElapsed } from './table.ts';
import type { Style, Terminal } from './terminal.ts';

/** A view of a run that goes on. `end` leaves what is shown standing. */
export interface LiveView {
  show(snapshot: RunSnapshot, nowMs: number): void;
  end(): void;
}

const SIGNS: Readonly<Record<StageView['status'], { readonly sign: string; readonly style: Style }>> = {
  waiting: { sign: '·', style: 'dim' },
  running: { sign: '▶', style: 'cyan' },
  completed: { sign: '✓', style: 'green' },
  cached: { sign: '≡', style: 'green' },
  failed: { sign: '✗', style: 'red' },
  cancelled: { sign: '–', style: 'yellow' },
};
const BAR_WIDTH = 20;

/** A bar of a fixed width for a share from 0 to 1. */
export function progressBar(fraction: number): string {
  const filled = Math.round(Math.min(1, Math.max(0, fraction)) * BAR_WIDTH);
  return `${'█'.repeat(filled)}${'░'.repeat(BAR_WIDTH - filled)} ${String(Math.floor(fraction * 100)).padStart(3)} %`;
}

function signText(sign: StageSign | undefined): string {
  if (sign === undefined) return '';
  const again = sign.attempt > 1 ? `attempt ${sign.attempt}${sign.lastFailure === null ? '' : ` (before: ${oneLine(sign.lastFailure, 80)})`}` : '';
  if (!sign.started) return [again, 'waits for a worker'].filter(Boolean).join(', ');
  const { heartbeat } = sign;
  const bar = heartbeat === null || heartbeat.fraction === null ? '' : progressBar(heartbeat.fraction);
  return [bar, heartbeat?.message ?? '', again].filter(Boolean).join('  ');
}

function stageText(stage: StageView, sign: StageSign | undefined): string {
  if (stage.error) return `${stage.error.code}: ${stage.error.message}`;
  if (stage.status === 'running') return [signText(sign), stage.summary ?? ''].filter(Boolean).join('  ');
  return stage.summary ?? '';
}

/** The run's state in a word that people use. */
export function runState(snapshot: RunSnapshot): string {
  const { progress } = snapshot;
  if (progress === null) return snapshot.isOpen ? 'no worker answers yet' : snapshot.workflowStatus.toLowerCase().replaceAll('_', ' ');
  if (!snapshot.isOpen) return snapshot.workflowStatus === 'TERMINATED' ? 'terminated' : progress.status;
  return progress.paused ? 'paused' : progress.status === 'waiting' ? 'waiting for another run of this pipeline to end' : progress.status;
}

/** What a run that waits for people is waiting for, and how to decide. */
export function gateLines(progress: RunProgress): readonly string[] {
  return progress.gates.map(
    (gate) =>
      `Waits for approval of ${gate.gate}: ${gate.approvals.length} of ${gate.approversNeeded}${gate.expiresAt === null ? '' : `, until ${gate.expiresAt}`}. ` +
      `millrace approve ${progress.runId} ${gate.gate} --reason TEXT`,
  );
}

/** The run as lines of text: head, a line a stage, gates. */
export function runLines(snapshot: RunSnapshot, nowMs: number, paint: Terminal['paint'] = (_, text) => text): readonly string[] {
  const { progress } = snapshot;
  const elapsed = showElapsed(snapshot.startedAt, snapshot.endedAt, nowMs);
  const id = progress?.runId ? `run ${progress.runId}` : snapshot.workflowId;
  const head = `${paint('bold', snapshot.pipeline)}  ${id}  ${runState(snapshot)}  ${paint('dim', elapsed)}`;
  const stages = progress?.stages ?? [];
  const width = Math.max(0, ...stages.map((s) => s.name.length));
  const times = stages.map((s) => showElapsed(s.startedAt, s.endedAt, nowMs));
  const timeWidth = Math.max(0, ...times.map((t) => t.length));
  const lines = stages.map((stage, i) => {
    const { sign, style } = SIGNS[stage.status];
    return `  ${paint(style, sign)} ${stage.name.padEnd(width)}  ${paint('dim', (times[i] ?? '').padStart(timeWidth))}  ${oneLine(stageText(stage, snapshot.signs.get(stage.name)), 300)}`.trimEnd();
  });
  return [head, ...lines, ...(progress === null ? [] : gateLines(progress))];
}

/** Cuts a line to a number of columns; colour codes take none. */
export function cutToWidth(line: string, columns: number): string {
  let shown = 0;
  let out = '';
  // biome-ignore format: escape sequences of colours
  for (const part of line.split(/(\u001b\[[0-9;]*m)/)) {
    if (part.startsWith('\u001b[')) out += part;
    else {
      const room = Math.max(0, columns - shown);
      out += part.length <= room ? part : `${part.slice(0, Math.max(0, room - 1))}${room > 0 ? '…' : ''}`;
      shown += part.length;
    }
  }
  return out;
}

/** Redraws in place: for a terminal. */
function redrawn(terminal: Terminal): LiveView {
  let drawn = 0;
  return {
    show(snapshot, nowMs) {
      const lines = runLines(snapshot, nowMs, terminal.paint).map((line) => cutToWidth(line, terminal.columns - 1));
      terminal.write(`${drawn > 0 ? `\u001b[${drawn}A` : ''}\u001b[J${lines.join('\n')}\n`);
      drawn = lines.length;
    },
    end() {
      drawn = 0;
    },
  };
}

/** How far a stage's bar moves before another line is worth it. */
const PRINT_EVERY_FRACTION = 0.25;

/** One line a change: for logs and pipes. */
function appended(terminal: Terminal): LiveView {
  const told = new Map<string, string>();
  const fractions = new Map<string, number>();
  const tell = (key: string, state: string, line: string): void => {
    if (told.get(key) === state) return;
    told.set(key, state);
    terminal.write(`${line}\n`);
  };
  return {
    show(snapshot, nowMs) {
      const { progress } = snapshot;
      const at = showDuration(Math.max(0, nowMs - Date.parse(snapshot.startedAt))).padStart(10);
      const tellRun = (): void => {
        tell('run', runState(snapshot), `${at}  ${snapshot.pipeline}  ${progress?.runId ? progress.runId : snapshot.workflowId}  ${runState(snapshot)}`);
      };
      if (snapshot.isOpen) tellRun();
      for (const stage of progress?.stages ?? []) {
        const sign = snapshot.signs.get(stage.name);
        const text = stageText(stage, sign);
        tell(`stage ${stage.name}`, `${stage.status} ${sign?.attempt ?? 1}`, `${at}  ${stage.name}  ${stage.status}  ${oneLine(text, 300)}`.trimEnd());
        const fraction = sign?.heartbeat?.fraction ?? null;
        if (stage.status !== 'running' || fraction === null) continue;
        const step = Math.floor(fraction / PRINT_EVERY_FRACTION);
        if (step > (fractions.get(stage.name) ?? 0)) {
          fractions.set(stage.name, step);
          terminal.write(`${at}  ${stage.name}  ${oneLine(text, 300)}\n`);
        }
      }
      for (const line of progress === null ? [] : gateLines(progress)) tell(`gate ${line}`, '', `${at}  ${line}`);
      // An ending stands last, after the stages that led to it.
      if (!snapshot.isOpen) tellRun();
    },
    end: () => undefined,
  };
}

/** Shows a run while it goes on: redrawn on a terminal, one line a change elsewhere. */
export function createLiveView(terminal: Terminal): LiveView {
  return terminal.isInteractive ? redrawn(terminal) : appended(terminal);
}
