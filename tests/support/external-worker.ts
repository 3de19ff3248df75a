/** A worker's process for tests: trains by another program, and keeps checkpoints in a file, until it is killed. */
import { writeFileSync } from 'node:fs';
import { trainExternally } from '../../activities/external-trainer.ts';
import type { ActivityDependencies } from '../../activities/dependencies.ts';
import type { TrainJob } from '../../activities/compute-job.ts';
import type { StageCall } from '../../contracts/stages.ts';
import { openArtifacts } from '../../store/artifacts.ts';

const given = JSON.parse(process.argv[2] ?? '') as {
  readonly job: TrainJob;
  readonly config: unknown;
  readonly call: StageCall;
  readonly artifacts: string;
  readonly checkpoint: string;
};
await trainExternally(given.job, {
  call: given.call,
  deps: {
    config: given.config,
    artifacts: await openArtifacts(given.artifacts),
    store: { tokens: { lend: () => Promise.resolve(null) } },
    log: () => undefined,
  } as unknown as ActivityDependencies,
  signal: new AbortController().signal,
  progress: () => undefined,
  device: null,
  childUsed: () => undefined,
  resume: () => Promise.resolve(undefined),
  commitCheckpoint: (step, state) => {
    writeFileSync(given.checkpoint, JSON.stringify({ step, state: Buffer.from(state).toString('base64') }));
    return Promise.resolve();
  },
});
