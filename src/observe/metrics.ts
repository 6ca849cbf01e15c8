/** What can be scraped (docs/operations.md lists it; a test compares). */
import type * as Library from 'prom-client';
import type { Counter, Histogram, Registry } from 'prom-client';

export interface CallMeasure {
  readonly service: string;
  readonly rpc: string;
  readonly code: string;
  readonly durationMs: number;
}

export interface CommandMeasure {
  readonly file: string;
  /** `ok`, an exit code, or how it failed. */
  readonly result: string;
  readonly durationMs: number;
}

/** What is looked up when somebody scrapes. Byte counts by kind: total, free, promised and so on. */
export interface Observed {
  readonly pools: readonly {
    readonly name: string;
    readonly isServed: boolean;
    readonly bytes: Readonly<Record<string, bigint>>;
    readonly freeInodes: bigint | undefined;
    readonly frozenVolumes: number;
    /** Since the start: how trims of volumes ended, and what they gave back. */
    readonly trims: { readonly runs: Readonly<Record<string, number>>; readonly bytes: bigint };
    readonly volumes: Readonly<Record<string, number>>;
    /** A bounded number of volumes, each a label. */
    readonly images: readonly {
      readonly volumeId: string;
      readonly sizeBytes: bigint;
      readonly allocatedBytes: bigint;
    }[];
  }[];
  /** Owners whose kernel call has not returned within its bound. */
  readonly stuckOwners: number;
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
export type MetricName = (typeof metricNames)[number];

interface Instruments {
  readonly registry: Registry;
  readonly refresh: () => Promise<void>;
  readonly calls: Counter;
  readonly callSeconds: Histogram;
  readonly commands: Counter;
  readonly commandSeconds: Histogram;
}

const lagSampleMs = 1000;
/** From a bind mount to a thick volume of a terabyte. */
const buckets = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];

export interface MetricsOptions {
  readonly version: string;
  /** Must answer within a bound. */
  readonly observe: () => Promise<Observed>;
}

/**
 * Counters from the first call on; the library behind them takes 50 ms to load, so it is loaded after start-up, and what
 * was counted before is kept until then.
 */
export class Metrics {
  readonly #options: MetricsOptions;
  #early: ((instruments: Instruments) => void)[] = [];
  #instruments: Instruments | undefined;
  #loading: Promise<Instruments> | undefined;
  #lagMs = 0;
  #isClosed = false;
  #sampler: NodeJS.Timeout | undefined;

  constructor(options: MetricsOptions) {
    this.#options = options;
  }

  callEnded({ service, rpc, code, durationMs }: CallMeasure): void {
    this.#record(({ calls, callSeconds }) => {
      calls.inc({ service, rpc, code });
      callSeconds.observe({ service, rpc }, durationMs / 1000);
    });
  }

  commandEnded({ file, result, durationMs }: CommandMeasure): void {
    this.#record(({ commands, commandSeconds }) => {
      commands.inc({ file, result });
      commandSeconds.observe({ file }, durationMs / 1000);
    });
  }

  /** Loads the library. Until then what is counted waits in memory, so it is to be called soon. */
  async load(): Promise<Instruments> {
    this.#loading ??= this.#load();
    return this.#loading;
  }

  async #load(): Promise<Instruments> {
    const library = await import('prom-client');
    const instruments = makeInstruments(library, this.#options, () => this.#takeLag());
    this.#instruments = instruments;
    for (const record of this.#early) record(instruments);
    this.#early = [];
    this.#startSampling();
    return instruments;
  }

  /** The text format of Prometheus. */
  async render(): Promise<{ readonly contentType: string; readonly body: string }> {
    const { registry, refresh } = this.#instruments ?? (await this.load());
    await refresh();
    return { contentType: registry.contentType, body: await registry.metrics() };
  }

  /** Nothing is counted from here on; also for a driver that nobody can scrape. */
  close(): void {
    this.#isClosed = true;
    this.#early = [];
    clearInterval(this.#sampler);
  }

  #record(record: (instruments: Instruments) => void): void {
    if (this.#isClosed) return;
    if (this.#instruments === undefined) this.#early.push(record);
    else record(this.#instruments);
  }

  /** How late a timer fires is how long something kept the event loop. */
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
  options: MetricsOptions,
  takeLagMs: () => number,
): Instruments {
  const registry = new library.Registry();
  const registers = [registry];
  const named = (name: MetricName, help: string, labelNames: readonly string[] = []) => ({
    name,
    help,
    labelNames: [...labelNames],
    registers,
  });
  return {
    registry,
    refresh: makeGauges(library, registry, { ...options, takeLagMs }),
    calls: new library.Counter(
      named('loopcsi_calls_total', 'Calls that ended', ['service', 'rpc', 'code']),
    ),
    callSeconds: new library.Histogram({
      ...named('loopcsi_call_duration_seconds', 'Duration of calls', ['service', 'rpc']),
      buckets,
    }),
    commands: new library.Counter(
      named('loopcsi_commands_total', 'Programs that ended', ['file', 'result']),
    ),
    commandSeconds: new library.Histogram({
      ...named('loopcsi_command_duration_seconds', 'Duration of programs', ['file']),
      buckets,
    }),
  };
}

/** Gauges, and how to look everything up anew before a scrape is answered. */
function makeGauges(
  library: typeof Library,
  registry: Registry,
  { observe, version, takeLagMs }: MetricsOptions & { readonly takeLagMs: () => number },
): () => Promise<void> {
  const gauge = (name: MetricName, help: string, labelNames: readonly string[] = []) =>
    new library.Gauge({ name, help, labelNames: [...labelNames], registers: [registry] });
  const served = gauge('loopcsi_pool_served', 'Whether a pool can be used', ['pool']);
  const bytes = gauge('loopcsi_pool_bytes', 'Bytes of a pool', ['pool', 'kind']);
  const inodes = gauge('loopcsi_pool_free_inodes', 'Free inodes of a pool', ['pool']);
  const frozen = gauge('loopcsi_pool_frozen_volumes', 'Volumes that wait for room', ['pool']);
  const counter = (name: MetricName, help: string, labelNames: readonly string[] = []) =>
    new library.Counter({ name, help, labelNames: [...labelNames], registers: [registry] });
  const trims = counter('loopcsi_trim_runs_total', 'Trims of volumes that ended', [
    'pool',
    'result',
  ]);
  const trimmed = counter('loopcsi_trim_bytes_total', 'Bytes that volumes gave back by trims', [
    'pool',
  ]);
  const volumes = gauge('loopcsi_volumes', 'Volumes of a pool', ['pool', 'kind']);
  const images = gauge('loopcsi_volume_bytes', 'Bytes of a volume', ['pool', 'volume', 'kind']);
  const stuck = gauge('loopcsi_stuck_owners', 'Volumes or pools with a hung kernel call');
  const running = gauge('loopcsi_running_operations', 'Operations under way');
  const lag = gauge('loopcsi_event_loop_lag_seconds', 'Longest delay since the last scrape');
  const memory = gauge('process_resident_memory_bytes', 'Resident memory');
  const started = gauge('process_start_time_seconds', 'Start of the process since 1970');
  const build = gauge('loopcsi_build_info', 'Version of the driver', ['version']);
  const cpu = counter('process_cpu_seconds_total', 'Processor time used');
  started.set(Math.round(Date.now() / 1000 - process.uptime()));
  build.set({ version }, 1);
  return async () => {
    const observed = await observe();
    for (const one of [served, bytes, inodes, frozen, trims, trimmed, volumes, images]) one.reset();
    for (const pool of observed.pools) {
      served.set({ pool: pool.name }, pool.isServed ? 1 : 0);
      frozen.set({ pool: pool.name }, pool.frozenVolumes);
      for (const [result, runs] of Object.entries(pool.trims.runs)) {
        trims.inc({ pool: pool.name, result }, runs);
      }
      trimmed.inc({ pool: pool.name }, Number(pool.trims.bytes));
      if (pool.freeInodes !== undefined) {
        inodes.set({ pool: pool.name }, Number(pool.freeInodes));
      }
      for (const [kind, value] of Object.entries(pool.bytes)) {
        bytes.set({ pool: pool.name, kind }, Number(value));
      }
      for (const [kind, value] of Object.entries(pool.volumes)) {
        volumes.set({ pool: pool.name, kind }, value);
      }
      for (const { volumeId: volume, sizeBytes, allocatedBytes } of pool.images) {
        images.set({ pool: pool.name, volume, kind: 'size' }, Number(sizeBytes));
        images.set({ pool: pool.name, volume, kind: 'allocated' }, Number(allocatedBytes));
      }
    }
    stuck.set(observed.stuckOwners);
    running.set(observed.runningOperations);
    lag.set(takeLagMs() / 1000);
    memory.set(process.memoryUsage.rss());
    const { user, system } = process.cpuUsage();
    cpu.reset();
    cpu.inc((user + system) / 1e6);
  };
}
