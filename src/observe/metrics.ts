/** Metrics for Prometheus. docs/monitoring.md lists them, and a test compares the lists. */
import type { Registry } from 'prom-client';
import {
  type CallMeasurement,
  type CommandMeasurement,
  type DomainObserver,
  type EventInstruments,
  type GuardAction,
  guardActions,
  makeEventInstruments,
} from './metrics/events.ts';
import { nodeMetrics } from './metrics/node-metrics.ts';
import type { Observed } from './metrics/observed.ts';
import { registerObserved } from './metrics/observed-metric.ts';
import { poolMetrics } from './metrics/pool-metrics.ts';
import { volumeMetrics } from './metrics/volume-metrics.ts';

export type { CallMeasurement } from './metrics/events.ts';

interface MetricsOptions {
  readonly version: string;
  /** Collects the values for a scrape. Must have its own time limit. */
  readonly observe: () => Promise<Observed>;
}

interface Loaded {
  readonly registry: Registry;
  readonly events: EventInstruments;
}

/**
 * Records measurements from the first call on. Loading prom-client takes 50 ms and happens after start; until then,
 * measurements are queued in memory.
 */
export class Metrics implements DomainObserver {
  readonly #options: MetricsOptions;
  #pending: ((events: EventInstruments) => void)[] = [];
  #loaded: Loaded | undefined;
  #loading: Promise<Loaded> | undefined;
  /** Concurrent scrapes share one collection. */
  #observing: Promise<Observed> | undefined;
  #observed: Observed = nothing;
  #isClosed = false;

  constructor(options: MetricsOptions) {
    this.#options = options;
  }

  callEnded({ service, rpc, code, durationMs }: CallMeasurement): void {
    this.#record(({ calls, callSeconds }) => {
      // PromQL sees no increase in the first sample of a series, so codes that alerts watch begin at 0.
      for (const failure of alertedCodes) calls.inc({ service, rpc, code: failure }, 0);
      calls.inc({ service, rpc, code });
      callSeconds.observe({ service, rpc }, durationMs / 1000);
    });
  }

  /** A connection to the network address of the agent was refused. */
  connectionRefused(reason: string): void {
    this.#record(({ refusedConnections }) => {
      refusedConnections.inc({ reason });
    });
  }

  commandEnded({ file, result, durationMs }: CommandMeasurement): void {
    this.#record(({ commands, commandSeconds }) => {
      commands.inc({ file, result });
      commandSeconds.observe({ file }, durationMs / 1000);
    });
  }

  guardActed(pool: string, action: GuardAction): void {
    this.#record(({ guardActions }) => {
      guardActions.inc({ pool, action });
    });
  }

  freezeEnded({ cause, durationMs }: Parameters<DomainObserver['freezeEnded']>[0]): void {
    this.#record(({ freezeSeconds }) => {
      freezeSeconds.observe({ cause }, durationMs / 1000);
    });
  }

  trimEnded({ pool, durationMs }: Parameters<DomainObserver['trimEnded']>[0]): void {
    this.#record(({ trimSeconds }) => {
      trimSeconds.observe({ pool }, durationMs / 1000);
    });
  }

  transferred(direction: 'sent' | 'received', bytes: number): void {
    this.#record(({ transferBytes }) => {
      transferBytes.inc({ direction }, bytes);
    });
  }

  /** Loads prom-client. Call this soon after start, because measurements are queued in memory until then. */
  async load(): Promise<Loaded> {
    this.#loading ??= this.#load();
    return this.#loading;
  }

  async #load(): Promise<Loaded> {
    const library = await import('prom-client');
    const registry = new library.Registry();
    const events = makeEventInstruments(library, registry);
    for (const metric of [...nodeMetrics, ...poolMetrics, ...volumeMetrics]) {
      registerObserved(library, registry, metric, () => this.#observed);
    }
    new library.Gauge({
      name: 'loopcsi_build_info',
      help: 'Version of the driver',
      labelNames: ['version'],
      registers: [registry],
    }).set({ version: this.#options.version }, 1);
    library.collectDefaultMetrics({ register: registry });
    this.#loaded = { registry, events };
    for (const record of this.#pending) record(events);
    this.#pending = [];
    return this.#loaded;
  }

  /** Returns all metrics in the Prometheus text format. */
  async render(): Promise<{ readonly contentType: string; readonly body: string }> {
    const { registry, events } = this.#loaded ?? (await this.load());
    this.#observing ??= this.#options.observe().finally(() => {
      this.#observing = undefined;
    });
    this.#observed = await this.#observing;
    for (const { name: pool } of this.#observed.pools) {
      for (const action of guardActions) events.guardActions.inc({ pool, action }, 0);
    }
    return { contentType: registry.contentType, body: await registry.metrics() };
  }

  /** Stops recording. Also called if the driver serves no metrics, so that nothing accumulates in memory. */
  close(): void {
    this.#isClosed = true;
    this.#pending = [];
  }

  #record(record: (events: EventInstruments) => void): void {
    if (this.#isClosed) return;
    if (this.#loaded === undefined) this.#pending.push(record);
    else record(this.#loaded.events);
  }
}

const alertedCodes = ['INTERNAL', 'UNAVAILABLE'];

const nothing: Observed = {
  pools: [],
  stuckLanes: 0,
  runningOperations: 0,
  kernelCalls: { running: 0, waiting: 0 },
  leftoverDevices: undefined,
  healthCheckedAtMs: undefined,
};
