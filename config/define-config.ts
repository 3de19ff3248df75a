import type { AlertsSettings } from '../contracts/alerts.ts';
import type { OpenLineageSettings } from '../contracts/open-lineage.ts';

/** One worker pool: a task queue `millrace-<name>` and the processes that poll it. */
export interface PoolSettings {
  /** Activities at once. Default: the number of cores for a CPU pool, of devices for a GPU pool. */
  readonly slots?: number;
  /** Whether each slot holds a GPU. Default false; the pool `gpu` always does. */
  readonly gpu?: boolean;
  /** Most JavaScript heap of one stage's work, in MiB; what runs over is OUT_OF_MEMORY. Default: what Node gives. */
  readonly heapMib?: number;
}

/** What a project's millrace.config.ts may set. The environment wins over every field. */
export interface ProjectSettings {
  /** The folder with a folder for each pipeline, relative to the project. Default `pipelines`. `MILLRACE_PIPELINES` wins. */
  readonly pipelines?: string;
  /** Worker pools by name, lower case. `cpu` and `gpu` exist without being named. `MILLRACE_CPU_SLOTS` and `MILLRACE_GPU_SLOTS` win. */
  readonly pools?: Readonly<Record<string, PoolSettings>>;
  /** Where artifacts are kept: a `file://` address, or `s3://BUCKET/PREFIX`. Default `<home>/artifacts`. `MILLRACE_ARTIFACTS` wins. */
  readonly artifacts?: string;
  /** Where people are told that something waits for them or was noticed, and how often. Default: nowhere. */
  readonly alerts?: AlertsSettings;
  /** Where OpenLineage events of every run go: to a receiver's address, or as lines into a file. Default: nowhere. `OPENLINEAGE_URL` wins. */
  readonly openLineage?: OpenLineageSettings;
  /** How long things are kept. */
  readonly retention?: {
    /** What `millrace datasets gc` takes when it is told nothing else. */
    readonly datasets?: {
      /** The newest of each name that stay. Default 3. */
      readonly keepLast?: number;
      /** Older ones go when they were not used for so long: `90 days`. Default 90 days. */
      readonly olderThan?: string;
    };
    /** Logged predictions, and the labels and outcomes that came for them. Default: they stay. */
    readonly predictions?: {
      /** Older ones are removed by themselves: `90 days`. */
      readonly keep: string;
    };
    /** Figures of what was served, by hour once they are a week old, and what labels and outcomes said of it. */
    readonly figures?: {
      /** `400 days`, the default. */
      readonly keep: string;
    };
    /** Alerts that are over, the messages that told of them, and silences that have ended. What goes on stays. */
    readonly alerts?: {
      /** Since when they are over: `90 days`. Default 365 days. */
      readonly keep: string;
    };
  };
  /** What an hour costs. With them every stage records its cost. */
  readonly rates?: {
    /** Three letters, as ISO 4217 has them. */
    readonly currency: string;
    /** Of one core. Default 0. */
    readonly cpuHour?: number;
    /** Of one device. Default 0. */
    readonly gpuHour?: number;
    /** Where a pool's machines cost another rate. */
    readonly pools?: Readonly<Record<string, { readonly cpuHour?: number; readonly gpuHour?: number }>>;
  };
  /** Defaults for schedules that a pipeline or the command line makes. */
  readonly schedules?: {
    /** How late a missed start may still be made up for, in seconds. Default: one interval of the schedule, so that a stack left down does not flood on `up`. */
    readonly catchupWindowSeconds?: number;
    /** The time zone in which calendar schedules are read. Default UTC. */
    readonly timeZone?: string;
  };
}

/**
 * Types a project's settings; returns them as they are.
 *
 * @example
 * // millrace.config.ts
 * import { defineConfig } from 'millrace/config';
 * export default defineConfig({ pools: { cpu: { slots: 4 }, large: { slots: 1 } } });
 */
export function defineConfig(settings: ProjectSettings): ProjectSettings {
  return settings;
}
