import type * as Library from 'prom-client';
import type { Registry } from 'prom-client';

export interface CallMeasurement {
  readonly service: string;
  readonly rpc: string;
  /** The name of a gRPC code, even for calls of other protocols. */
  readonly code: string;
  readonly durationMs: number;
}

export interface CommandMeasurement {
  readonly file: string;
  /** The exit code, or `none` for a program that was killed or never ran. */
  readonly result: string;
  readonly durationMs: number;
}

/** What the space guard does to a volume, or to a pool for `trim`. `expire`: a freeze reached its time limit. */
export const guardActions = ['trim', 'freeze', 'thaw', 'expire'] as const;
export type GuardAction = (typeof guardActions)[number];

/** Receives events of the domain. Its methods never throw. */
export interface DomainObserver {
  guardActed(pool: string, action: GuardAction): void;
  /** A filesystem was thawed by the one who had frozen it. */
  freezeEnded(freeze: { readonly cause: 'guard' | 'snapshot'; readonly durationMs: number }): void;
  trimEnded(trim: { readonly pool: string; readonly durationMs: number }): void;
  /** Data of a copy between nodes was sent or received. */
  transferred(direction: 'sent' | 'received', bytes: number): void;
}

/** Used where nothing counts events. */
export const noObserver: DomainObserver = {
  guardActed: () => undefined,
  freezeEnded: () => undefined,
  trimEnded: () => undefined,
  transferred: () => undefined,
};

/** The instruments that events increment. */
export type EventInstruments = ReturnType<typeof makeEventInstruments>;

/** Histogram buckets, in seconds. A bind mount takes about 1 ms, creating a thick volume of 1 TB several minutes. */
const buckets = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];

/** The instruments that calls of any server increment. */
export function callInstruments(library: typeof Library, registry: Registry) {
  const { counter, histogram } = makersFor(library, registry);
  return {
    calls: counter('loopcsi_calls_total', 'Completed calls', ['service', 'rpc', 'code']),
    callSeconds: histogram('loopcsi_call_duration_seconds', 'Duration of calls', [
      'service',
      'rpc',
    ]),
  };
}

function makersFor(library: typeof Library, registry: Registry) {
  const config = (name: string, help: string, labelNames: readonly string[]) => ({
    name,
    help,
    labelNames: [...labelNames],
    registers: [registry],
  });
  type Config = Parameters<typeof config>;
  const counter = (...args: Config) => new library.Counter(config(...args));
  const histogram = (...args: Config) => new library.Histogram({ ...config(...args), buckets });
  return { counter, histogram };
}

export function makeEventInstruments(library: typeof Library, registry: Registry) {
  const { counter, histogram } = makersFor(library, registry);
  return {
    ...callInstruments(library, registry),
    refusedConnections: counter(
      'loopcsi_agent_refused_connections_total',
      'Refused connections to the address of the agent',
      ['reason'],
    ),
    commands: counter('loopcsi_commands_total', 'Completed programs', ['file', 'result']),
    commandSeconds: histogram('loopcsi_command_duration_seconds', 'Duration of programs', ['file']),
    guardActions: counter('loopcsi_guard_actions_total', 'Actions of the space guard', [
      'pool',
      'action',
    ]),
    freezeSeconds: histogram('loopcsi_freeze_duration_seconds', 'Duration of freezes', ['cause']),
    transferBytes: counter('loopcsi_transfer_bytes_total', 'Bytes of copies between nodes', [
      'direction',
    ]),
    trimSeconds: histogram('loopcsi_trim_duration_seconds', 'Duration of trims', ['pool']),
  };
}
