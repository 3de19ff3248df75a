import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SCRIPT_RUNNER } from '../../../activities/script-runner.ts';

let folder: string;
let child: ChildProcess | undefined;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-script-'));
});
afterEach(async () => {
  child?.kill('SIGKILL');
  await rm(folder, { recursive: true, force: true });
});

const task = (): string => join(folder, 'task.json');

/** Starts a script without its task. */
function start(...args: string[]): { readonly ended: Promise<{ readonly code: number | null; readonly out: string; readonly errors: string }> } {
  const running = spawn('python3', ['-c', SCRIPT_RUNNER, join(folder, 'script.py'), ...args], {
    env: { PATH: process.env['PATH'] ?? '', MILLRACE_TASK: task(), PYTHONUNBUFFERED: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  child = running;
  let [out, errors] = ['', ''];
  running.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  running.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
  return { ended: once(running, 'close').then(([code]) => ({ code: code as number | null, out, errors })) };
}

async function runScript(text: string, ...args: string[]) {
  await writeFile(join(folder, 'script.py'), text);
  const { ended } = start(...args);
  await writeFile(task(), '{"rows": 3}');
  return ended;
}

describe('a script under the runner', () => {
  it('finds itself as `python script` would have it: its name, file, arguments, folder, and nothing of the runner', async () => {
    await writeFile(join(folder, 'beside.py'), 'WORD = "own"\n');
    const { code, out } = await runScript(
      `
"""What it is for."""
from __future__ import annotations
import json, os, sys
import beside
with open(os.environ["MILLRACE_TASK"]) as file:
    rows = json.load(file)["rows"]
names = sorted(name for name in globals() if not name.startswith("__"))
print(json.dumps([__name__, os.path.basename(__file__), sys.argv[1:], beside.WORD, rows, names, sys.modules["__main__"].rows]))
sys.exit(3)
`,
      'first',
      '--second',
    );
    expect(code).toBe(3);
    expect(JSON.parse(out)).toEqual([
      '__main__',
      'script.py',
      ['first', '--second'],
      'own',
      3,
      ['annotations', 'beside', 'file', 'json', 'os', 'rows', 'sys'],
      3,
    ]);
  });

  it('has imported what it begins with before its task is there, but for modules of its own', async () => {
    await writeFile(join(folder, 'own.py'), 'import os\nprint("own:", os.path.exists(os.environ["MILLRACE_TASK"]))\n');
    // `this` prints a poem when it is imported
    await writeFile(join(folder, 'script.py'), 'import this\nimport own\nprint("script")\n');
    const { ended } = start();
    await new Promise<void>((resolve) => {
      child?.stdout?.once('data', () => {
        resolve();
      });
    });
    await writeFile(task(), '{}');
    const { code, out } = await ended;
    expect(code).toBe(0);
    expect(out).toMatch(/^The Zen of Python[\s\S]*own: True\nscript\n$/);
  });

  it('imports nothing ahead that stands behind another statement', async () => {
    await writeFile(join(folder, 'script.py'), 'import os\nprint("task:", os.path.exists(os.environ["MILLRACE_TASK"]))\nimport this\n');
    const { ended } = start();
    await writeFile(task(), '{}');
    expect((await ended).out).toMatch(/^task: True\nThe Zen of Python/);
  });

  it('fails as it would by itself: its traceback begins in it, and what it cannot import is said once', async () => {
    const raised = await runScript('import json\ndef deep():\n    raise ValueError("planted")\ndeep()\n');
    expect(raised.code).toBe(1);
    expect(raised.errors).toMatch(/^Traceback \(most recent call last\):\n {2}File ".*script\.py", line 4, in <module>\n/);
    expect(raised.errors).toContain('ValueError: planted');
    const unknown = await runScript('import no_such_package\n');
    expect(unknown.code).toBe(1);
    expect(unknown.errors.match(/No module named/g)).toHaveLength(1);
    const broken = await runScript('def (\n');
    expect(broken.code).toBe(1);
    expect(broken.errors).toMatch(/script\.py", line 1[\s\S]*SyntaxError/);
  });
});
