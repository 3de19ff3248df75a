import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { createProgram, runCommandLine } from '../../../cli/program.ts';
import { recordedTerminal } from './recorded-terminal.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace-cli-'));
beforeAll(() => {
  vi.stubEnv('MILLRACE_PROJECT', folder);
  vi.stubEnv('MILLRACE_HOME', join(folder, '.millrace'));
});
afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true, force: true });
});

async function run(...args: string[]): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
  const terminal = recordedTerminal();
  const code = await runCommandLine(args, terminal);
  return { code, out: terminal.out(), err: terminal.err() };
}

function leaves(command: Command, path: readonly string[] = []): readonly (readonly [string, Command])[] {
  const at = [...path, command.name()];
  return command.commands.length === 0 ? [[at.slice(1).join(' '), command]] : command.commands.flatMap((c) => leaves(c, at));
}

describe('every command', () => {
  const program = createProgram(recordedTerminal(), () => undefined);

  test.each(leaves(program).map(([name, command]) => ({ name, command })))('$name has a description, --json and --debug', ({ command }) => {
    expect(command.description()).not.toBe('');
    expect(command.options.map((o) => o.long)).toEqual(expect.arrayContaining(['--json', '--debug']));
  });

  test('the commands are those that the outside relies on', () => {
    const names = leaves(program).map(([name]) => name);
    const promised = [
      'up',
      'down',
      'status',
      'doctor',
      'run',
      'runs list',
      'runs show',
      'runs cancel',
      'runs retry',
      'runs pause',
      'runs resume',
      'pipelines list',
      'pipelines show',
    ];
    const more = [
      'datasets list',
      'datasets show',
      'models list',
      'models show',
      'endpoints list',
      'endpoints show',
      'endpoints rollback',
      'endpoints promote',
      'endpoints abort',
    ];
    const rest = [
      'predict',
      'approve',
      'reject',
      'retrain',
      'schedule create',
      'schedule list',
      'schedule pause',
      'schedule resume',
      'schedule delete',
      'schedule backfill',
      'init',
      'quickstart',
    ];
    expect(names).toEqual(expect.arrayContaining([...promised, ...more, ...rest]));
  });
});

describe('bad usage ends with exit code 2 and says what was meant', () => {
  test.each([
    [['rnus'], 'Did you mean runs?'],
    [['runs', 'shw'], 'Did you mean show?'],
    [['status', '--bogus'], "unknown option '--bogus'"],
    [['runs', 'show'], "missing required argument 'run'"],
    [['approve', 'abc123'], "required option '--reason <text>' not specified"],
    [['runs'], 'A command is missing.'],
    [['runs', 'list', '--limit', 'many'], '"many" is not a whole number'],
    [['schedule', 'create', 'flightDelay'], 'Give --cron or --every.'],
    [['schedule', 'create', 'flightDelay', '--every', '1h', '--cron', '0 6 * * *'], 'Give --cron or --every.'],
    [['retrainings', 'configure', 'flightDelay', '--cool-down', '5'], '"5" is not a duration'],
    [['retrainings', 'configure', 'flightDelay', '--quiet', '25:00-06:00'], 'must be a time of day'],
    [['retrainings', 'configure', 'flightDelay'], 'Nothing to configure'],
  ])('%j', async (args, said) => {
    const { code, err } = await run(...args);
    expect(code).toBe(2);
    expect(err).toContain(said);
    expect(err).toContain('How to fix it:');
  });

  test('as JSON for machines', async () => {
    const { code, out } = await run('status', '--bogus', '--json');
    expect(code).toBe(2);
    expect(JSON.parse(out)).toMatchObject({ error: { code: 'USAGE', fix: 'See millrace status --help.' } });
  });
});

describe('where no stack runs', () => {
  test.each([[['status']], [['runs', 'list']], [['run', 'flightDelay']], [['endpoints', 'show', 'flight-delay']]])(
    '%j ends with exit code 3 and says how to start one',
    async (args) => {
      const { code, err } = await run(...args);
      expect(code).toBe(3);
      expect(err).toMatch(/^NOT_RUNNING: No stack is running/);
      expect(err).toContain('millrace up');
    },
  );

  test('down is done', async () => {
    expect(await run('down', '--json')).toMatchObject({ code: 0, out: '{"stopped":false}\n' });
  });
});

test('a Temporal that the environment names and that does not answer is told, with exit code 3', async () => {
  vi.stubEnv('TEMPORAL_ADDRESS', '127.0.0.1:1');
  const { code, err } = await run('schedule', 'list');
  vi.stubEnv('TEMPORAL_ADDRESS', undefined);
  expect(code).toBe(3);
  expect(err).toContain('TEMPORAL_UNAVAILABLE: No Temporal answers at 127.0.0.1:1.');
});

test('help and version are no errors', async () => {
  expect(await run('--help')).toMatchObject({ code: 0, err: '' });
  expect((await run('runs', 'show', '--help')).out).toContain('--follow');
  expect((await run('--version')).out).toMatch(/^\d+\.\d+\.\d+\n$/);
});
