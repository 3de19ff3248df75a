import { createInterface, emitKeypressEvents } from 'node:readline';
import type { ReadAnswer } from './label-prompt.ts';

interface AnswerInput {
  readonly read: ReadAnswer;
  readonly close: () => void;
}

/** Answers from standard input: single keys on a terminal, else line by line. Ctrl-C and Ctrl-D end them. */
export function openAnswers(stdin: NodeJS.ReadStream, keys: boolean): AnswerInput {
  return stdin.isTTY && keys ? keyAnswers(stdin) : lineAnswers(stdin);
}

function lineAnswers(stdin: NodeJS.ReadableStream): AnswerInput {
  const reader = createInterface({ input: stdin, crlfDelay: Number.POSITIVE_INFINITY });
  const lines = reader[Symbol.asyncIterator]();
  const read: ReadAnswer = async () => {
    for (;;) {
      const next = await lines.next();
      if (next.done === true) return null;
      const line = next.value.trim();
      if (line !== '') return line;
    }
  };
  return {
    read,
    close: () => {
      reader.close();
    },
  };
}

function keyAnswers(stdin: NodeJS.ReadStream): AnswerInput {
  emitKeypressEvents(stdin);
  stdin.setRawMode(true);
  stdin.resume();
  const waiting: ((answer: string | null) => void)[] = [];
  const typed: (string | null)[] = [];
  const onKey = (text: string | undefined, key: { readonly name?: string; readonly ctrl?: boolean }): void => {
    const ended = key.ctrl === true && (key.name === 'c' || key.name === 'd');
    if (!ended && (text === undefined || text.trim() === '')) return;
    const answer = ended ? null : (text ?? '').toLowerCase();
    const next = waiting.shift();
    if (next) next(answer);
    else typed.push(answer);
  };
  stdin.on('keypress', onKey);
  return {
    read: () =>
      new Promise((resolve) => {
        const answer = typed.shift();
        if (answer === undefined) waiting.push(resolve);
        else resolve(answer);
      }),
    close: () => {
      stdin.off('keypress', onKey);
      stdin.setRawMode(false);
      stdin.pause();
    },
  };
}
