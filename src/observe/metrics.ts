/** Metrics for Prometheus. docs/operations.md lists them, and a test compares the lists. */
import type * as Library from 'prom-client';
import type { Counter, Histogram, Registry } from 'prom-client';

export interface CallMeasurement {
  readonly service: string;
  readonly rpc: string;
  /** The name of a gRPC code, even for calls of other protocols. */
  readonly code: string;
  readonly durationMs: number;
}

interface CommandMeasurement {
  readonly file: string;
  /** The exit code, or `none` for a program that was killed or never ran. */
  readonly result: string;
  readonly durationMs: number;
}

/** Values that are collected at every scrape. */
export interface Observed {
  readonly pools: readonly {
    readonly name: string;
    readonly isServed: boolean;
    /** By kind: total, free, promised, etc. */
    readonly bytes: Readonly<Record<string, bigint>>;
    readonly freeInodes: bigint | undefined;
    readonly frozenVolumes: number;
    /** Totals since the driver started: number of trims by result, and bytes that they freed. */
    readonly trims: { readonly runs: Readonly<Record<string, number>>; readonly bytes: bigint };
    readonly volumes: Readonly<Record<string, number>>;
    /** A limited number of images, because every volume adds a label value. */
    readonly images: readonly {
      readonly volumeId: string;
      readonly sizeBytes: bigint;
      readonly allocatedBytes: bigint;
    }[];
  }[];
  /** Volumes and pools with a kernel call that has exceeded its time limit. */
  readonly stuckLanes: number;
  readonly runningOperations: number;
}

export const metricNames = [
  'loopcsi_calls_total',
  'loopcsi_call_duration_seconds',
  'loopcsi_commands_total',
  'loopcsi_command_duration_seconds',
  'loopcsi_pool_served',
  'loopcsi_pool_free_inodes',
  'loopcsi_pool_frozen_volumes',
  'loopcsi_pool_bytes',
  'loopcsi_trim_runs_total',
  'loopcsi_trim_bytes_total',
  'loopcsi_volumes',
  'loopcsi_volume_bytes',
  'loopcsi_stuck_owners',
  'loopcsi_running_operations',
  'loopcsi_event_loop_lag_seconds',
  'loopcsi_build_info',
  'process_resident_memory_bytes',
  'process_cpu_seconds_total',
  'process_start_time_seconds',
] as const;
type MetricName = (typeof metricNames)[number];

interface Instruments {
  readonly registry: Registry;
  readonly refresh: () => Promise<void>;
  readonly calls: Counter;
  readonly callSeconds: Histogram;
  readonly commands: Counter;
  readonly commandSeconds: Histogram;
}

const lagSampleMs = 1000;
/** Histogram buckets, in seconds. A bind mount takes about 1 ms, creating a thick volume of 1 TB several minutes. */
const buckets = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];

interface MetricsOptions {
  readonly version: string;
  /** Collects the values for a scrape. Must have its own time limit. */
  readonly observe: () => Promise<Observed>;
}

/**
 * Records measurements from the first call on. Loading prom-client takes 50 ms and happens after start; until then,
 * measurements are queued in memory.
 */
export class Metrics {
  readonly #options: MetricsOptions;
  #pending: ((instruments: Instruments) => void)[] = [];
  #instruments: Instruments | undefined;
  #loading: Promise<Instruments> | undefined;
  #lagMs = 0;
  #isClosed = false;
  #sampler: NodeJS.Timeout | undefined;

  constructor(options: MetricsOptions) {
    this.#options = options;
  }

  callEnded({ service, rpc, code, durationMs }: CallMeasurement): void {
    this.#record(({ calls, callSeconds }) => {
      calls.inc({ service, rpc, code });
      callSeconds.observe({ service, rpc }, durationMs / 1000);
    });
  }

  commandEnded({ file, result, durationMs }: CommandMeasurement): void {
    this.#record(({ commands, commandSeconds }) => {
      commands.inc({ file, result });
      commandSeconds.observe({ file }, durationMs / 1000);
    });
  }

  /** Loads prom-client. Call this soon after start, because measurements are queued in memory until then. */
  async load(): Promise<Instruments> {
    this.#loading ??= this.#load();
    return this.#loading;
  }

  async #load(): Promise<Instruments> {
    const library = await import('prom-client');
    const instruments = makeInstruments(library, this.#options, () => this.#takeLag());
    this.#instruments = instruments;
    for (const record of this.#pending) record(instruments);
    this.#pending = [];
    this.#startSampling();
    return instruments;
  }

  /** Returns all metrics in the Prometheus text format. */
  async render(): Promise<{ readonly contentType: string; readonly body: string }> {
    const { registry, refresh } = this.#instruments ?? (await this.load());
    await refresh();
    return { contentType: registry.contentType, body: await registry.metrics() };
  }

  /** Stops recording. Also called if the driver serves no metrics, so that nothing accumulates in memory. */
  close(): void {
    this.#isClosed = true;
    this.#pending = [];
    clearInterval(this.#sampler);
  }

  #record(record: (instruments: Instruments) => void): void {
    if (this.#isClosed) return;
    if (this.#instruments === undefined) this.#pending.push(record);
    else record(this.#instruments);
  }

  /** Measures how late a timer fires, which is how long the event loop was blocked. */
  #startSampling(): void {
    let expectedMs = performance.now() + lagSampleMs;
    this.#sampler = setInterval(() => {
      const nowMs = performance.now();
      this.#lagMs = Math.max(this.#lagMs, nowMs - expectedMs);
      expectedMs = nowMs + lagSampleMs;
    }, lagSampleMs);
    this.#sampler.unref();
  }

  #takeLag(): number {
    const lagMs = this.#lagMs;
    this.#lagMs = 0;
    return lagMs;
  }
}

function makeInstruments(
  library: typeof Library,
  { version, observe }: MetricsOptions,
  takeLagMs: () => number,
): Instruments {
  const registry = new library.Registry();
  const make = instrumentFactories(library, registry);
  const updatePools = makePoolInstruments(make);
  const stuck = make.gauge('loopcsi_stuck_owners', 'Volumes and pools with a hung kernel call');
  const running = make.gauge('loopcsi_running_operations', 'Operations in progress');
  const updateProcess = makeProcessInstruments(make, version, takeLagMs);
  return {
    registry,
    refresh: async () => {
      const { pools, stuckLanes, runningOperations } = await observe();
      updatePools(pools);
      stuck.set(stuckLanes);
      running.set(runningOperations);
      updateProcess();
    },
    calls: make.counter('loopcsi_calls_total', 'Completed calls', ['service', 'rpc', 'code']),
    callSeconds: make.histogram('loopcsi_call_duration_seconds', 'Duration of calls', [
      'service',
      'rpc',
    ]),
    commands: make.counter('loopcsi_commands_total', 'Completed programs', ['file', 'result']),
    commandSeconds: make.histogram('loopcsi_command_duration_seconds', 'Duration of programs', [
      'file',
    ]),
  };
}

function instrumentFactories(library: typeof Library, registry: Registry) {
  const config = (name: MetricName, help: string, labelNames: readonly string[] = []) => ({
    name,
    help,
    labelNames: [...labelNames],
    registers: [registry],
  });
  type Config = Parameters<typeof config>;
  return {
    counter: (...args: Config) => new library.Counter(config(...args)),
    gauge: (...args: Config) => new library.Gauge(config(...args)),
    histogram: (...args: Config) => new library.Histogram({ ...config(...args), buckets }),
  };
}
type InstrumentFactories = ReturnType<typeof instrumentFactories>;

/** Returns a function that replaces all values, so that those of a removed pool or volume disappear. */
function makePoolInstruments({ gauge, counter }: InstrumentFactories) {
  const served = gauge('loopcsi_pool_served', 'Whether the pool can be used', ['pool']);
  const bytes = gauge('loopcsi_pool_bytes', 'Bytes of a pool', ['pool', 'kind']);
  const inodes = gauge('loopcsi_pool_free_inodes', "Free inodes of the pool's filesystem", [
    'pool',
  ]);
  const frozen = gauge('loopcsi_pool_frozen_volumes', 'Volumes that the guard keeps frozen', [
    'pool',
  ]);
  const trims = counter('loopcsi_trim_runs_total', 'Completed trims', ['pool', 'result']);
  const trimmed = counter('loopcsi_trim_bytes_total', 'Trimmed bytes', ['pool']);
  const volumes = gauge('loopcsi_volumes', 'Volumes of a pool', ['pool', 'kind']);
  const images = gauge('loopcsi_volume_bytes', 'Bytes of a volume', ['pool', 'volume', 'kind']);
  const all = [served, bytes, inodes, frozen, trims, trimmed, volumes, images];
  return (pools: Observed['pools']): void => {
    for (const instrument of all) instrument.reset();
    for (const { name: pool, ...observed } of pools) {
      served.set({ pool }, observed.isServed ? 1 : 0);
      frozen.set({ pool }, observed.frozenVolumes);
      for (const [result, runs] of Object.entries(observed.trims.runs)) {
        trims.inc({ pool, result }, runs);
      }
      trimmed.inc({ pool }, Number(observed.trims.bytes));
      if (observed.freeInodes !== undefined) inodes.set({ pool }, Number(observed.freeInodes));
      for (const [kind, value] of Object.entries(observed.bytes)) {
        bytes.set({ pool, kind }, Number(value));
      }
      for (const [kind, value] of Object.entries(observed.volumes)) {
        volumes.set({ pool, kind }, value);
      }
      for (const { volumeId: volume, sizeBytes, allocatedBytes } of observed.images) {
        images.set({ pool, volume, kind: 'size' }, Number(sizeBytes));
        images.set({ pool, volume, kind: 'allocated' }, Number(allocatedBytes));
      }
    }
  };
}

function makeProcessInstruments(
  { gauge, counter }: InstrumentFactories,
  version: string,
  takeLagMs: () => number,
) {
  const lag = gauge(
    'loopcsi_event_loop_lag_seconds',
    'Maximum delay of the event loop since the last scrape',
  );
  const memory = gauge('process_resident_memory_bytes', 'Resident memory');
  const started = gauge('process_start_time_seconds', 'Start time, in seconds since 1970');
  const build = gauge('loopcsi_build_info', 'Version of the driver', ['version']);
  const cpu = counter('process_cpu_seconds_total', 'Processor time');
  started.set(Math.round(Date.now() / 1000 - process.uptime()));
  build.set({ version }, 1);
  return (): void => {
    lag.set(takeLagMs() / 1000);
    memory.set(process.memoryUsage.rss());
    const { user, system } = process.cpuUsage();
    cpu.reset();
    cpu.inc((user + system) / 1e6);
  };
}
