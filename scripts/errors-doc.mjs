// Writes docs/errors.md from the error table:  node scripts/errors-doc.mjs
// tests/architecture/errors.test.ts holds the committed page against the table.
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { tsImport } from 'tsx/esm/api';

const TABLE = fileURLToPath(new URL('../contracts/errors.ts', import.meta.url));
const PAGE = fileURLToPath(new URL('../docs/errors.md', import.meta.url));
const EXIT = { 1: 'the work failed', 2: 'bad usage or input', 3: 'a needed service is not reachable' };

/** Returns the page's text; the table's own section comments (`// training`) become its headings. */
export async function errorsPage() {
  const { ERRORS } = await tsImport(TABLE, import.meta.url);
  const sections = sectionOf(readFileSync(TABLE, 'utf8'), Object.keys(ERRORS));
  const lines = [
    '# Errors',
    '',
    'Every failure that Millrace shows has one of these codes: in the terminal, in the body of an HTTP response (`{code, message, fix, problems}`) and as the failure type in Temporal. "Retried" says whether the same thing is tried again without anybody doing something.',
    '',
    `Exit codes of \`millrace\`: 0 done, ${Object.entries(EXIT)
      .map(([code, meaning]) => `${code} ${meaning}`)
      .join(', ')}.`,
    '',
    'This page is written from `contracts/errors.ts` by `node scripts/errors-doc.mjs`.',
  ];
  let section;
  for (const [code, { http, exit, retryable, summary, fix }] of Object.entries(ERRORS)) {
    if (sections[code] !== section) {
      section = sections[code];
      lines.push(
        '',
        `## ${section[0].toUpperCase()}${section.slice(1)}`,
        '',
        '| Code | What it means | How to fix it | HTTP | Exit | Retried |',
        '|---|---|---|---|---|---|',
      );
    }
    lines.push(`| \`${code}\` | ${cell(summary)} | ${cell(fix)} | ${http} | ${exit} | ${retryable ? 'yes' : 'no'} |`);
  }
  return `${lines.join('\n')}\n`;
}

const cell = (text) => text.replaceAll('|', '\\|');

function sectionOf(source, codes) {
  const sections = {};
  let section = 'general';
  for (const line of source.split('\n')) {
    const heading = /^ {2}\/\/ (.+)$/.exec(line);
    if (heading) section = heading[1];
    const code = /^ {2}([A-Z][A-Z0-9_]*):/.exec(line)?.[1];
    if (code && codes.includes(code)) sections[code] = section;
  }
  return sections;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(PAGE, await errorsPage());
