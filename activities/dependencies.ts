import type { Client } from '@temporalio/client';
import type { MillraceConfig } from '../config/config.ts';
import type { Artifacts } from '../store/artifacts.ts';
import type { Store } from '../store/store.ts';
import type { DeviceLeases } from '../contracts/devices.ts';
import type { BuildFiles } from './build-files.ts';

/** What activities are made with; put together in workers/. */
export interface ActivityDependencies {
  readonly config: MillraceConfig;
  readonly store: Store;
  readonly artifacts: Artifacts;
  readonly client: Client;
  readonly builds: BuildFiles;
  /** Hash of the bundled code of each kind of stage. */
  readonly codeVersions: ReadonlyMap<string, string>;
  /** The GPUs of this worker; only where it serves a GPU pool. */
  readonly devices?: DeviceLeases;
  /** This process, as records name it. */
  readonly worker: string;
  readonly log: (level: 'info' | 'warn' | 'error', message: string, details?: Readonly<Record<string, unknown>>) => void;
}
