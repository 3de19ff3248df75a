import { abTest, approval, blueGreen, canary, definePipeline, deploy, importModel, monitor, onRollback, register, replace, shadow, steps } from 'millrace';
import { z } from 'zod';
import type * as releaseSteps from './steps.ts';

const { note, breakDown } = steps<typeof releaseSteps>({ cache: false });

/** Everything that publishes, without a training: a bare ONNX file is registered, approved, deployed, watched. */
export const release = definePipeline(
  {
    params: z.object({
      path: z.string().default('models/double.onnx'),
      model: z.string().default('multiplier'),
      endpoint: z.string().default('multiplier'),
      gate: z.boolean().default(false),
      approvers: z.number().int().min(1).max(5).default(1),
      expiresMs: z.number().int().min(1).optional(),
      rollout: z.enum(['none', 'replace', 'canary', 'blueGreen', 'shadow', 'shadowOnly', 'abTest']).default('none'),
      percent: z.array(z.union([z.number(), z.literal('hold')])).default([50]),
      hold: z.boolean().default(false),
      soakMs: z.number().optional(),
      metric: z.string().optional(),
      whenBusy: z.enum(['queue', 'refuse']).default('queue'),
      bakeMs: z.number().default(500),
      watch: z.boolean().default(false),
      /** A file in which undos leave a line. */
      notes: z.string().optional(),
      undoThrows: z.boolean().default(false),
      failAfter: z.enum(['nothing', 'register', 'deploy', 'monitor']).default('nothing'),
      waitAfterDeploy: z.boolean().default(false),
    }),
    purpose: { task: 'Multiply a number.', decision: 'Nothing', owner: 'the tests' },
  },
  async (p) => {
    const undoNote = (line: string): void => {
      const { notes } = p;
      if (notes !== undefined) onRollback(() => note(notes, line));
    };
    const candidate = await importModel({ path: p.path });
    undoNote('before register');
    const version = await register(candidate, { model: p.model });
    undoNote('between register and deploy');
    if (p.undoThrows) onRollback(() => breakDown('this undo is broken'));
    if (p.failAfter === 'register') await breakDown('broken after register');
    await approval('production', { version, when: p.gate, approvers: p.approvers, ...(p.expiresMs === undefined ? {} : { expiresAfter: p.expiresMs }) });
    if (p.rollout !== 'none') {
      await deploy(version, { endpoint: p.endpoint, rollout: strategyOf(p), whenBusy: p.whenBusy });
      undoNote('after deploy');
    }
    if (p.failAfter === 'deploy') await breakDown('broken after deploy');
    if (p.watch) await monitor(p.endpoint, { every: '1 hour', leastRows: 50, retrainOn: { psi: 0.25, windows: 2 } });
    if (p.failAfter === 'monitor') await breakDown('broken after monitor');
    if (p.waitAfterDeploy) await approval('afterwards');
    return { model: version.model, version: version.version };
  },
);

function strategyOf(p: {
  readonly rollout: string;
  readonly percent: readonly (number | 'hold')[];
  readonly bakeMs: number;
  readonly hold: boolean;
  readonly soakMs?: number | undefined;
  readonly metric?: string | undefined;
}) {
  const watched = {
    ...(p.soakMs === undefined ? {} : { soak: p.soakMs }),
    guards: { errorRate: 0.02, latency: { p95: { maxRatio: 3 } }, ...(p.metric === undefined ? {} : { quality: { metric: p.metric } }) },
  };
  if (p.rollout === 'blueGreen') return blueGreen({ keep: p.bakeMs, hold: p.hold, ...watched });
  if (p.rollout === 'shadow') return shadow({ for: p.bakeMs, hold: p.hold, next: replace() });
  if (p.rollout === 'shadowOnly') return shadow({ for: p.bakeMs, next: 'nothing' });
  if (p.rollout === 'abTest')
    return abTest({ stickyBy: 'header', for: p.bakeMs, ...(p.metric === undefined ? {} : { decideBy: { metric: p.metric } }), ...watched });
  return p.rollout === 'replace' ? replace(watched) : canary({ percent: p.percent, bake: p.bakeMs, ...watched });
}

/** Has the predictions that an endpoint is least sure of put before people. */
export const reviewed = definePipeline(
  { params: z.object({ endpoint: z.string().default('late'), queue: z.string().default('review') }) },
  async ({ endpoint, queue }) => {
    await monitor(endpoint, { every: '1 hour', leastRows: 50, review: { queue, between: [0.4, 0.6], atMost: 5 } });
  },
);
