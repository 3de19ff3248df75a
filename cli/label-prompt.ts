import type { LabelValue } from '../contracts/labels.ts';
import type { Store } from '../store/store.ts';
import { oneLine } from './table.ts';
import type { Terminal } from './terminal.ts';

/** One answer of a person: a key on a terminal, else a line. Null when there are no more. */
export type ReadAnswer = () => Promise<string | null>;

export interface LabelSession {
  readonly store: Pick<Store, 'labels'>;
  readonly queue: string;
  readonly by: string;
  readonly terminal: Terminal;
  readonly read: ReadAnswer;
}

export interface SessionOutcome {
  readonly answered: number;
  readonly skipped: number;
  readonly takenBack: number;
  /** Items that are open still, for anybody. */
  readonly open: number;
}

const MOST_LINES = 40;

/**
 * Shows one item after the other and takes the person's answers, until the queue has none for them or they quit. What was
 * answered is kept at once: quitting, or losing the terminal, loses nothing.
 */
export async function labelInteractively({ store, queue: name, by, terminal, read }: LabelSession): Promise<SessionOutcome> {
  const queue = await store.labels.queue(name);
  const choices = choicesOf(queue.classes);
  const counts = { answered: 0, skipped: 0, takenBack: 0 };
  const past: { item: string; skipped: boolean }[] = [];
  const openNow = async (): Promise<number> => (await store.labels.list()).find((other) => other.name === name)?.open ?? 0;
  const help = [...choices.map(({ key, value }) => `${terminal.paint('bold', key)} ${String(value)}`), 's skip', 'u undo', 'q quit'].join('   ');
  for (;;) {
    const item = await store.labels.next(name, by);
    if (item === null) {
      terminal.write('There is nothing more for you in this queue.\n');
      break;
    }
    const open = await openNow();
    terminal.write(`\n${terminal.paint('dim', `${name} · ${counts.answered.toLocaleString('en')} answered by you now, ${open.toLocaleString('en')} open`)}\n`);
    if (queue.question !== null) terminal.write(`${terminal.paint('bold', oneLine(queue.question, 1_000))}\n`);
    terminal.write(showItem(item.shown, terminal));
    let answer: string | null;
    for (;;) {
      terminal.write(`${help}\n> `);
      answer = await read();
      if (answer === null) break;
      terminal.write(`${oneLine(answer)}\n`);
      if (isQuit(answer) || isSkip(answer) || isUndo(answer) || choiceOf(choices, answer) !== undefined) break;
      terminal.write(`${terminal.paint('yellow', 'That is none of the answers.')}\n`);
    }
    if (answer === null || isQuit(answer)) break;
    if (isUndo(answer)) {
      const last = past.pop();
      if (last === undefined) {
        terminal.write('There is nothing to undo in this session.\n');
        continue;
      }
      try {
        await store.labels.takeBack(name, { item: last.item, by });
        counts.takenBack += 1;
        counts[last.skipped ? 'skipped' : 'answered'] -= 1;
        terminal.write('The last answer is taken back.\n');
      } catch (error) {
        terminal.write(`${terminal.paint('yellow', error instanceof Error ? error.message : String(error))}\n`);
      }
      continue;
    }
    const skipped = isSkip(answer);
    try {
      await store.labels.answer(name, { item: item.id, by, label: skipped ? null : (choiceOf(choices, answer) ?? null) });
      past.push({ item: item.id, skipped });
      counts[skipped ? 'skipped' : 'answered'] += 1;
    } catch (error) {
      // someone was quicker, or nobody waits any more: the next item is asked for
      if (!(error instanceof Error && 'code' in error && error.code === 'CONFLICT')) throw error;
      terminal.write(`${terminal.paint('yellow', error.message)}\n`);
    }
  }
  return { ...counts, open: await openNow() };
}

interface Choice {
  readonly key: string;
  readonly value: LabelValue;
}

const KEYS = '123456789abcdefghijklmnoprtvwxyz';
/** A key for each class; past those keys a number, which ends with the return key. */
const choicesOf = (classes: readonly LabelValue[]): readonly Choice[] =>
  classes.map((value, index) => ({ key: classes.length <= KEYS.length ? (KEYS[index] ?? '') : String(index + 1), value }));

/** By its key, or by the class itself written out. */
const choiceOf = (choices: readonly Choice[], answer: string): LabelValue | undefined =>
  choices.find(({ key }) => key === answer)?.value ?? choices.find(({ value }) => String(value).toLowerCase() === answer.toLowerCase())?.value;
const isQuit = (answer: string): boolean => answer === 'q' || answer === 'quit';
const isSkip = (answer: string): boolean => answer === 's' || answer === 'skip';
const isUndo = (answer: string): boolean => answer === 'u' || answer === 'undo';

/** The row, one column under the other; a long text wraps under its name. */
export function showItem(shown: Readonly<Record<string, LabelValue | null>>, terminal: Pick<Terminal, 'columns' | 'paint'>): string {
  const width = Math.min(24, Math.max(0, ...Object.keys(shown).map((name) => name.length)));
  const room = Math.max(20, terminal.columns - width - 4);
  return Object.entries(shown)
    .map(([name, value]) => {
      const lines = value === null ? ['–'] : wrap(String(value), room);
      const cut = lines.length > MOST_LINES ? [...lines.slice(0, MOST_LINES), `… ${String(lines.length - MOST_LINES)} more lines`] : lines;
      return `  ${terminal.paint('cyan', oneLine(name, 24).padEnd(width))}  ${cut.join(`\n${' '.repeat(width + 4)}`)}\n`;
    })
    .join('');
}

function wrap(text: string, width: number): readonly string[] {
  return text.split(/\r?\n/).flatMap((line) => {
    // a row must not move the cursor
    let rest = line.replaceAll(/[\u0000-\u001f\u007f-\u009f]+/g, ' ');
    const lines: string[] = [];
    while (rest.length > width) {
      const at = rest.lastIndexOf(' ', width);
      const end = at > width / 2 ? at : width;
      lines.push(rest.slice(0, end));
      rest = rest.slice(end).trimStart();
    }
    return [...lines, rest];
  });
}
