/** docs/monitoring.md, run. One `describe` a section of the page. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { loadProjectConfig } from '../../config/load-project-config.ts';
import { packageRoot } from '../../config/package-root.ts';
import type { AlertChannel, AlertLine } from '../../contracts/alerts.ts';
import { ChannelFailure, sendAlert } from '../../workers/alert-channels.ts';
import { guideProject } from '../support/guide-project.ts';

const PAGE = 'docs/monitoring.md';
let project: string;
beforeAll(async () => {
  project = await guideProject(PAGE);
});

describe('Alerts', () => {
  it('are configured as the page shows', async () => {
    const page = await readFile(join(packageRoot, PAGE), 'utf8');
    const config = /^```ts\n(import \{ defineConfig[\s\S]*?)^```$/m.exec(page)?.[1] ?? '';
    await writeFile(join(project, 'millrace.config.ts'), config);
    const { alerts } = await loadProjectConfig({ cwd: project, env: {} });
    expect(alerts).toMatchObject({ groupWaitSeconds: 10, coolDownHours: 24, coolDownHoursOf: { quality: 6 } });
    expect(alerts.channels.map(({ name, only }) => [name, only])).toEqual([
      ['webhook', undefined],
      ['slack', { endpoints: ['late'], severity: 'warning' }],
      ['email', { kinds: ['approval', 'labels', 'rollout'] }],
    ]);
  });

  it("are taken by the page's receiver when they are signed with its secret, once each", async () => {
    const receiver = spawn(process.execPath, [join(project, 'receiver.mjs')], {
      env: { PATH: process.env['PATH'], ALERT_SECRET: 'sesame', RECEIVER_PORT: '0' },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    onTestFinished(() => end(receiver));
    const lines: string[] = [];
    const output = createInterface(receiver.stdout);
    output.on('line', (line) => lines.push(line));
    await once(output, 'line');
    const port = /\d+$/.exec(lines.shift() ?? '')?.[0] ?? '';
    const channel: AlertChannel = { kind: 'webhook', name: 'webhook', url: `http://127.0.0.1:${port}/`, secretVariable: 'ALERT_SECRET', timeoutMs: 10_000 };
    const common = {
      kind: 'drift',
      what: 'origin drifted',
      since: '2026-01-01T00:00:00.000Z',
      until: null,
      look: '/x',
      command: 'millrace alerts list',
    } as const;
    const line: AlertLine = {
      ...common,
      id: 1,
      state: 'firing',
      severity: 'warning',
      endpoint: 'late',
      pipeline: null,
      subject: 'column origin',
      ended: null,
      against: null,
      sure: null,
    };
    const alert = { key: 'alert/1/1', message: { ...common, alerts: [line] }, apiUrl: 'http://127.0.0.1:7400' };
    await sendAlert(channel, alert, { ALERT_SECRET: 'sesame' });
    await sendAlert(channel, alert, { ALERT_SECRET: 'sesame' });
    const refused = sendAlert(channel, { ...alert, key: 'alert/2/1' }, { ALERT_SECRET: 'open' });
    await expect(refused).rejects.toThrow(ChannelFailure);
    await expect(refused).rejects.toThrow('The receiver answered 401.');
    await end(receiver);
    expect(lines).toEqual(['origin drifted', 'firing: origin drifted (millrace alerts list)']);
  });
});

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = once(child, 'close');
  child.kill();
  await closed;
}
