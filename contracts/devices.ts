/** A GPU that a stage holds for itself, or shares where a pool has more slots than devices. */
export interface DeviceLease {
  /** As `CUDA_VISIBLE_DEVICES` of the worker counts: what a child process is given. */
  readonly index: number;
  /** Place of the device among those that this process sees: what a library inside it is given. */
  readonly ordinal: number;
  readonly name: string;
  /** What was seen of the device while it was held. Undefined where `nvidia-smi` does not answer. */
  readonly figures: () => DeviceFigures | undefined;
  /** One line for people: use and memory, as last seen. */
  readonly shown: () => string;
  readonly release: () => Promise<void>;
}

export interface DeviceFigures {
  /** Mean share of the time in use, 0 … 1. */
  readonly utilisation: number;
  readonly peakMib: number;
}

/** The devices of one worker. */
export interface DeviceLeases {
  /** Waits until one is free. `onWait` hears, once a second, that it is waited for. @throws the signal's reason */
  readonly acquire: (signal: AbortSignal, onWait: () => void) => Promise<DeviceLease>;
}
