import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import type { Command } from 'commander';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { RESOURCES } from '../../api/resources.ts';
import { createProgram } from '../../cli/program.ts';
import { processTerminal } from '../../cli/terminal.ts';
import { PORT_VARIABLES, VARIABLES } from '../../config/config.ts';
import { packageRoot } from '../../config/package-root.ts';
import { ERRORS } from '../../contracts/errors.ts';
import { TASK_VARIABLE } from '../../contracts/external-trainer.ts';
import { GbdtParametersSchema } from '../../ml/gbdt/parameters.ts';
import { LinearParametersSchema } from '../../ml/linear/parameters.ts';
import { MlpParametersSchema } from '../../ml/mlp/parameters.ts';
import { FlightDelayParams } from '../../pipelines/flight-delay/params.ts';

const PAGES = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', ...readdirSync(join(packageRoot, 'docs')).map((file) => `docs/${file}`)].filter((path) =>
  path.endsWith('.md'),
);
const TEXTS: ReadonlyMap<string, string> = new Map(PAGES.map((path) => [path, readFileSync(join(packageRoot, path), 'utf8')]));
const textOf = (path: string): string => TEXTS.get(path) ?? '';

interface Block {
  readonly language: string;
  readonly code: string;
}
const blocksOf = (text: string): readonly Block[] =>
  [...text.matchAll(/^```([^\n]*)\n([\s\S]*?)^```$/gm)].map(([, language, code]) => ({ language: language ?? '', code: code ?? '' }));
const withoutBlocks = (text: string): string => text.replaceAll(/^```[\s\S]*?^```$/gm, '');
const inlineCode = (text: string): readonly string[] => [...withoutBlocks(text).matchAll(/`([^`\n]+)`/g)].map((match) => match[1] ?? '');

/** A heading's anchor, as GitHub makes it. */
const anchorsOf = (text: string): readonly string[] =>
  [...withoutBlocks(text).matchAll(/^#+ (.+)$/gm)].map((match) =>
    (match[1] ?? '')
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );

function brokenLinks(page: string, text: string): readonly string[] {
  return [...withoutBlocks(text).matchAll(/\]\(([^)\s]+)\)/g)]
    .map((match) => match[1] ?? '')
    .filter((target) => !/^https?:/.test(target))
    .filter((target) => {
      const [path = '', anchor] = target.split('#');
      const file = path === '' ? page : posix.join(posix.dirname(page), path);
      if (!existsSync(join(packageRoot, file))) return true;
      return anchor !== undefined && !anchorsOf(TEXTS.get(file) ?? text).includes(anchor);
    });
}

const program = createProgram(processTerminal(), () => undefined);

/** A command line of a shell as words; what follows a pipe, `&&` or a comment is left out. */
function wordsOf(line: string): readonly string[] {
  const words = [...line.matchAll(/'([^']*)'|"([^"]*)"|([^\s'"]+)/g)].map((match) => match[1] ?? match[2] ?? match[3] ?? '');
  const end = words.findIndex((word) => ['|', '&&', '>', '#'].includes(word));
  return end === -1 ? words : words.slice(0, end);
}

/** What is wrong with a line that starts with `millrace`; `complete`: all of its arguments have to be there. */
function commandProblem(line: string, complete: boolean): string | undefined {
  let words = wordsOf(line).slice(1);
  let at: Command = program;
  while (words[0] !== undefined && !words[0].startsWith('-')) {
    const next = at.commands.find((command) => command.name() === words[0]);
    if (next === undefined) break;
    at = next;
    words = words.slice(1);
  }
  if (at.commands.length > 0) return words.length === 0 && !complete ? undefined : `there is no command ${words[0] ?? '(none)'} in ${at.name()}`;
  let positional = 0;
  for (let i = 0; i < words.length; i++) {
    const word = words[i] ?? '';
    if (!word.startsWith('--')) {
      positional += 1;
      continue;
    }
    const option = at.options.find((o) => o.long === word);
    if (option === undefined && word !== '--help') return `${at.name()} has no option ${word}`;
    if (option?.required === true) i += 1;
  }
  const needed = at.registeredArguments.filter((argument) => argument.required).length;
  if (positional > at.registeredArguments.length) return `${at.name()} takes ${at.registeredArguments.length} arguments`;
  if (!complete) return undefined;
  const missing = at.options.filter((option) => option.mandatory && !words.includes(option.long ?? ''));
  if (missing.length > 0) return `${at.name()} needs ${missing.map((option) => option.long).join(', ')}`;
  return positional < needed ? `${at.name()} needs ${needed} arguments` : undefined;
}

/** Each `millrace …` that a page shows: whole lines of shell blocks, and code within a sentence, which may be a part of a line. */
function commandsOf(text: string): readonly { readonly line: string; readonly complete: boolean }[] {
  const command = /(?:^|\s)(?:npx )?(millrace(?: .*)?)$/;
  const shell = blocksOf(text)
    .filter(({ language }) => language === 'sh')
    .flatMap(({ code }) => code.replaceAll('\\\n', ' ').split('\n'))
    .filter((line) => /^(?:npx )?millrace /.test(line));
  const inline = inlineCode(text).filter((code) => /^(?:npx )?millrace [a-z]/.test(code));
  const lineOf = (code: string): string => command.exec(code)?.[1] ?? code;
  return [...shell.map((code) => ({ line: lineOf(code), complete: true })), ...inline.map((code) => ({ line: lineOf(code), complete: false }))];
}

/** Names of environment variables of ours and of Temporal's; one that ends in `…` stands for many. */
const variablesIn = (text: string): readonly string[] =>
  [...text.matchAll(/(?<![\w$])(MILLRACE_[A-Z_]+|TEMPORAL_[A-Z_]+|DATABASE_URL)(?![\w…])/g)].map((match) => match[1] ?? '');

const rowsUnder = (text: string, heading: string): readonly (readonly string[])[] => {
  const from = text.indexOf(`\n${heading}\n`);
  const lines = text.slice(from + heading.length + 2).split('\n');
  const end = lines.findIndex((line) => /^#+ /.test(line));
  return lines
    .slice(0, end === -1 ? undefined : end)
    .filter((line) => line.startsWith('| '))
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    )
    .slice(1);
};
const codeIn = (cell: string): string => /`([^`]+)`/.exec(cell)?.[1] ?? '';

/** Type-checks the blocks as files of a project; the first line may name the file: `// pipelines/x/steps.ts`. */
function typeProblems(pages: ReadonlyMap<string, string>): readonly string[] {
  const files = new Map<string, string>();
  for (const [page, text] of pages) {
    blocksOf(text)
      .filter(({ language }) => language === 'ts')
      .forEach(({ code }, index) => {
        const named = /^\/\/ (\S+\.ts)\n/.exec(code)?.[1];
        const folder = join(packageRoot, '.docs-blocks', page.replaceAll('/', '-'));
        files.set(join(folder, named ?? `block-${index}.ts`), `${code}\nexport {};\n`);
      });
  }
  const { config } = ts.readConfigFile(join(packageRoot, 'tsconfig.json'), (path) => ts.sys.readFile(path)) as { config: object };
  const { options } = ts.parseJsonConfigFileContent({ ...config, include: [], files: [] }, ts.sys, packageRoot);
  const disk = ts.createCompilerHost(options, true);
  const folders = new Set([...files.keys()].flatMap((path) => [dirname(path), dirname(dirname(path)), dirname(dirname(dirname(path)))]));
  const host: ts.CompilerHost = {
    ...disk,
    fileExists: (path) => files.has(path) || disk.fileExists(path),
    readFile: (path) => files.get(path) ?? disk.readFile(path),
    directoryExists: (path) => folders.has(path) || (disk.directoryExists?.(path) ?? true),
    getSourceFile: (path, version, onError) => {
      const text = files.get(path);
      return text === undefined ? disk.getSourceFile(path, version, onError) : ts.createSourceFile(path, text, version, true);
    },
  };
  const checked = ts.createProgram([...files.keys()], { ...options, noEmit: true, noUnusedLocals: true, skipLibCheck: true }, host);
  return [...files.keys()]
    .flatMap((path) => {
      const source = checked.getSourceFile(path);
      return source === undefined ? [] : [...checked.getSyntacticDiagnostics(source), ...checked.getSemanticDiagnostics(source)];
    })
    .map(
      (found) => `${posix.relative(join(packageRoot, '.docs-blocks'), found.file?.fileName ?? '')}: ${ts.flattenDiagnosticMessageText(found.messageText, ' ')}`,
    );
}

describe('the documents', () => {
  test.each(PAGES)('%s links only to what is there', (page) => {
    expect(brokenLinks(page, textOf(page))).toEqual([]);
  });

  test.each(PAGES)('%s shows only commands, options and arguments that millrace takes', (page) => {
    const problems = commandsOf(textOf(page)).flatMap(({ line, complete }) => {
      const problem = commandProblem(line, complete);
      return problem === undefined ? [] : [`${line}: ${problem}`];
    });
    expect(problems).toEqual([]);
  });

  test.each(PAGES)('%s names only variables that the configuration reads', (page) => {
    expect(variablesIn(textOf(page)).filter((name) => !(name in VARIABLES) && !(name in ERRORS) && name !== TASK_VARIABLE)).toEqual([]);
  });

  test.each(PAGES)('%s names only scripts of package.json and files that are there', (page) => {
    const { scripts } = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as { scripts: Readonly<Record<string, string>> };
    const named = [...textOf(page).matchAll(/npm run ([\w:-]+)/g)].map((match) => match[1] ?? '');
    expect(named.filter((name) => !(name in scripts))).toEqual([]);
    const paths = inlineCode(textOf(page)).filter((code) =>
      /^(?:tests|docs|scripts|deploy|contracts|config|data|ml|store|workflows|activities|workers|serving|api|cli|stack|testing|bench|bin)\/[\w./-]+\.(?:ts|mjs|md|ya?ml|example)$/.test(
        code,
      ),
    );
    expect(paths.filter((path) => !existsSync(join(packageRoot, path)))).toEqual([]);
  });

  test.each(PAGES)('%s holds no path of one machine', (page) => {
    expect(textOf(page).match(/(?<![\w.~-])\/(?:home|root|Users|work|opt|tmp)\/[\w.]+/g)).toBeNull();
  });

  test('compile: every ts block is a module that type-checks, and a planted one that does not is found', () => {
    expect([...TEXTS.values()].flatMap(blocksOf).filter(({ language }) => language === 'ts').length).toBeGreaterThan(5);
    const planted = "```ts\nimport { gbdt } from 'millrace';\nexport const t = gbdt({ tress: 1 });\n```\n";
    const problems = typeProblems(new Map([...TEXTS, ['planted.md', planted]]));
    expect(problems.filter((problem) => !problem.startsWith('planted.md/'))).toEqual([]);
    expect(problems.join()).toContain('tress');
  }, 180_000);
});

describe('the pipeline of the README', () => {
  const shown = blocksOf(textOf('README.md')).find(({ code }) => code.includes('definePipeline'))?.code ?? '';
  const real = readFileSync(join(packageRoot, 'pipelines/flight-delay/pipeline.ts'), 'utf8');
  const stagesOf = (code: string): readonly string[] =>
    [...code.matchAll(/(?<=await |^ +)(ingest|validate|split|train|select|evaluate|register|approval|deploy|monitor)\(/gm)].map((match) => match[1] ?? '');
  const featuresOf = (code: string): string => /^const features = \{[\s\S]*?^\};/m.exec(code)?.[0] ?? '';

  test('has the stages and features of flightDelay', () => {
    expect(stagesOf(shown)).toHaveLength(11);
    expect(stagesOf(shown)).toEqual(stagesOf(real));
    expect(featuresOf(shown)).not.toBe('');
    expect(featuresOf(shown)).toBe(featuresOf(real));
  });

  test('has its defaults', () => {
    const { trees, treeRows, networkRows, leastAuc, bakeSeconds, delayedAfterMinutes } = FlightDelayParams.parse({});
    const number = (pattern: RegExp): readonly number[] => [...shown.matchAll(pattern)].map((match) => Number(match[1]?.replaceAll('_', '')));
    expect(number(/sampleRows: ([\d_]+)/g)).toEqual([treeRows, networkRows]);
    expect(number(/trees: (\d+)/g)).toEqual([trees]);
    expect(number(/auc: ([\d.]+)/g)).toEqual([leastAuc]);
    expect(number(/bake: '(\d+) seconds'/g)).toEqual([bakeSeconds]);
    expect(number(/col\('delay'\), (\d+)/g)).toEqual([delayedAfterMinutes]);
  });
});

describe('the tables', () => {
  test('of variables has every variable of the configuration, once', () => {
    const listed = rowsUnder(textOf('docs/operating.md'), '## Variables').map(([cell = '']) => codeIn(cell));
    expect(listed.filter((name) => /^[A-Z]/.test(name)).sort()).toEqual(Object.keys(VARIABLES).sort());
  });

  test('of ports has every port with its default and its variable', () => {
    const listed = rowsUnder(textOf('README.md'), '## Ports');
    expect(listed.map(([, port, variable = '']) => `${port ?? ''} ${codeIn(variable)}`).sort()).toEqual(
      Object.values(PORT_VARIABLES)
        .map(({ variable, defaultPort }) => `${defaultPort} ${variable}`)
        .sort(),
    );
  });

  test('of routes has every route of the prediction server', () => {
    const source = readdirSync(join(packageRoot, 'serving'))
      .map((file) => readFileSync(join(packageRoot, 'serving', file), 'utf8'))
      .join('\n');
    const served = [...source.matchAll(/\bapp\.(get|post)(?:<[^(]*>)?\('([^']+)'/g)].map(([, method, path]) => `${(method ?? '').toUpperCase()} ${path ?? ''}`);
    const listed = rowsUnder(textOf('docs/serving.md'), '## Routes').map(([cell = '']) => codeIn(cell));
    expect(served.length).toBeGreaterThan(10);
    expect(listed.filter((route) => route !== '').sort()).toEqual(served.sort());
  });

  test('of the API has every resource', () => {
    const listed = rowsUnder(textOf('docs/operating.md'), '## API').map(([cell = '']) => codeIn(cell));
    expect(listed.filter((path) => path !== '').sort()).toEqual(RESOURCES.map(({ method, path }) => (method === 'post' ? `POST ${path}` : path)).sort());
  });

  test('of benchmarks has every benchmark', () => {
    const list = /const BENCHMARKS[\s\S]*?^};/m.exec(readFileSync(join(packageRoot, 'bench/main.ts'), 'utf8'))?.[0] ?? '';
    const benchmarks = [...list.matchAll(/^ {2}'?([\w-]+)'?: \(\)/gm)].map((match) => match[1] ?? '');
    const listed = rowsUnder(textOf('docs/benchmarks.md'), '# Benchmarks').map(([cell = '']) => codeIn(cell));
    expect(benchmarks.length).toBeGreaterThan(4);
    expect(listed.filter((name) => name !== '').sort()).toEqual(benchmarks.sort());
  });

  test.each([
    ['gbdt', GbdtParametersSchema],
    ['linear', LinearParametersSchema],
    ['mlp', MlpParametersSchema],
  ] as const)('of the trainer %s have every parameter with its default', (name, schema) => {
    const { properties = {} } = z.toJSONSchema(schema, { io: 'input' });
    const standardOf = (value: unknown): string =>
      value === undefined ? '–' : typeof value === 'string' ? value : JSON.stringify(value).replace(/^\[(.*)\]$/, '$1');
    const wanted = Object.entries(properties).map(([parameter, property]) => `${parameter} ${standardOf((property as { default?: unknown }).default)}`);
    const listed = rowsUnder(textOf('docs/pipelines.md'), `#### ${name}`);
    expect(
      listed.map(([parameter = '', standard = '']) => `${codeIn(parameter)} ${String(Number.isNaN(Number(standard)) ? standard : Number(standard))}`),
    ).toEqual(wanted);
  });
});

describe('these checks', () => {
  test('find a planted link, command, option and variable that is wrong', () => {
    expect(brokenLinks('README.md', '[a](docs/none.md) [b](README.md#no-such-heading) [c](LICENSE)')).toEqual(['docs/none.md', 'README.md#no-such-heading']);
    expect(commandProblem('millrace teleport', true)).toContain('teleport');
    expect(commandProblem('millrace run x --teleport', true)).toContain('--teleport');
    expect(commandProblem('millrace runs show', true)).toContain('needs');
    expect(commandProblem('millrace approve RUN', true)).toContain('--reason');
    expect(commandProblem("millrace approve RUN --reason 'seen'", true)).toBeUndefined();
    expect(commandsOf('`npx millrace runs show RUN`\n```sh\nmillrace up # x\n```\n').map(({ line }) => line)).toEqual([
      'millrace up # x',
      'millrace runs show RUN',
    ]);
    expect(variablesIn('`MILLRACE_PLANTED` and TEMPORAL_TLS_…')).toEqual(['MILLRACE_PLANTED']);
  });
});
