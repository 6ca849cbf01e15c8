/** The values that the domain measures for a scrape. A value that could not be measured in time is undefined. */
export interface Observed {
  readonly pools: readonly ObservedPool[];
  /** Volumes and pools with a kernel call that has exceeded its time limit. */
  readonly stuckLanes: number;
  readonly runningOperations: number;
  /** Blocking kernel calls, by state (host/kernel/gate.ts). */
  readonly kernelCalls: { readonly running: number; readonly waiting: number };
  /** Loop devices of the driver that no volume uses. */
  readonly leftoverDevices: number | undefined;
  /** When the last complete check of the health of all volumes ended. */
  readonly healthCheckedAtMs: number | undefined;
}

export interface ObservedPool {
  readonly name: string;
  readonly isServed: boolean;
  /** By kind: total, free, promised, etc. */
  readonly bytes: Readonly<Record<string, bigint>>;
  readonly freeInodes: bigint | undefined;
  readonly frozenVolumes: number;
  /** Totals since the driver started: number of trims by result, and bytes that they freed. */
  readonly trims: { readonly runs: Readonly<Record<string, number>>; readonly bytes: bigint };
  readonly volumes: Readonly<Record<string, number>>;
  /** Reasons for which the pool itself is unhealthy. */
  readonly conditions: readonly string[];
  /** Number of unhealthy volumes, by reason. */
  readonly unhealthy: Readonly<Record<string, number>>;
  /** A limited number of volumes, because every volume adds label values. */
  readonly images: readonly ObservedVolume[];
  /** Number of volumes beyond that limit. */
  readonly volumesNotListed: number;
}

export interface ObservedVolume {
  readonly volumeId: string;
  /** `block` for a raw block volume. */
  readonly fsType: string;
  /** undefined for a volume without a claim. */
  readonly claim: ObservedClaim | undefined;
  readonly sizeBytes: bigint;
  readonly allocatedBytes: bigint;
  /** undefined unless the volume's filesystem is mounted. */
  readonly filesystem: ObservedFilesystem | undefined;
  /** undefined unless the volume is attached. */
  readonly io: ObservedIo | undefined;
  /** undefined if the volume has none. */
  readonly snapshots: ObservedSnapshots | undefined;
  readonly lastTrimAtMs: number | undefined;
  /** Reasons for which it is unhealthy. */
  readonly conditions: readonly string[];
}

export interface ObservedClaim {
  readonly namespace: string;
  readonly claim: string;
  readonly persistentVolume: string;
}

export interface ObservedFilesystem {
  readonly sizeBytes: bigint;
  readonly usedBytes: bigint;
  readonly availableBytes: bigint;
  readonly inodes: bigint;
  readonly usedInodes: bigint;
}

/** Totals since the volume was attached, or since the driver started if that was later. */
export interface ObservedIo {
  readonly reads: number;
  readonly readBytes: bigint;
  readonly readMs: number;
  readonly writes: number;
  readonly writtenBytes: bigint;
  readonly writeMs: number;
  /** Time during which at least one request was in progress. */
  readonly busyMs: number;
  /** Requests in progress. */
  readonly inFlight: number;
}

export interface ObservedSnapshots {
  readonly count: number;
  readonly allocatedBytes: bigint;
  /** Of the newest one that is complete. */
  readonly newestAtMs: number | undefined;
}
