/**
 * What stages use of the process that runs them.
 *
 * Invariants:
 * 1. All stages together are charged what the process used while at least one of them ran, no more: time that several
 *    share is divided evenly among them.
 * 2. Memory cannot be told apart within a process: each stage's peak is that of the whole process while it ran.
 * 3. Child processes say for themselves what they used.
 */
const LOOK_EVERY_MS = 500;

export interface Usage {
  /** Charges what a child process used. `peakMib` counts beside this process's own memory at that time. */
  readonly addChild: (used: { readonly cpuSeconds: number; readonly peakMib: number }) => void;
  /** What was used so far, and not taken before. */
  readonly take: () => { readonly cpuSeconds: number; readonly peakMib: number };
  /** Charges end here. */
  readonly end: () => void;
}

export interface ResourceMeter {
  readonly begin: () => Usage;
}

/** The meter of this process; `cpuMicros` and `residentMib` can be given for tests. */
export function createResourceMeter({
  cpuMicros = () => {
    const { user, system } = process.cpuUsage();
    return user + system;
  },
  residentMib = () => process.memoryUsage.rss() / 1_048_576,
}: {
  readonly cpuMicros?: () => number;
  readonly residentMib?: () => number;
} = {}): ResourceMeter {
  interface Open {
    micros: number;
    peakMib: number;
  }
  const open = new Set<Open>();
  let chargedMicros = 0;
  let timer: NodeJS.Timeout | undefined;

  const charge = (): void => {
    const now = cpuMicros();
    const share = open.size === 0 ? 0 : (now - chargedMicros) / open.size;
    const resident = residentMib();
    for (const usage of open) {
      usage.micros += share;
      usage.peakMib = Math.max(usage.peakMib, resident);
    }
    chargedMicros = now;
  };

  return {
    begin: () => {
      charge();
      const usage: Open = { micros: 0, peakMib: residentMib() };
      open.add(usage);
      timer ??= setInterval(charge, LOOK_EVERY_MS).unref();
      return {
        addChild: ({ cpuSeconds, peakMib }) => {
          usage.micros += cpuSeconds * 1e6;
          usage.peakMib = Math.max(usage.peakMib, residentMib() + peakMib);
        },
        take: () => {
          charge();
          const taken = { cpuSeconds: usage.micros / 1e6, peakMib: Math.round(usage.peakMib) };
          usage.micros = 0;
          return taken;
        },
        end: () => {
          charge();
          open.delete(usage);
          if (open.size > 0) return;
          clearInterval(timer);
          timer = undefined;
        },
      };
    },
  };
}
