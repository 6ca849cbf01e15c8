/** The metrics of the controller for Prometheus. docs/controller.md lists them, and a test compares the lists. */
import * as library from 'prom-client';
import { callInstruments } from '../observe/metrics/events.ts';
import type { CallMeasurement } from '../observe/metrics.ts';
import type { AgentState } from './agent.ts';

/** The number of nodes with series of their own. The calls of others are counted under the label `other`. */
const maxNodes = 2_000;

export class ControllerMetrics {
  readonly #registry = new library.Registry();
  readonly #calls: ReturnType<typeof callInstruments>;
  readonly #agentCalls: library.Counter;
  readonly #nodes = new Set<string>();

  /** `countAgents` returns the number of nodes by the state of their agent, at each scrape. */
  constructor(options: {
    readonly version: string;
    readonly countAgents: () => ReadonlyMap<AgentState['kind'], number>;
  }) {
    const registers = [this.#registry];
    this.#calls = callInstruments(library, this.#registry);
    this.#agentCalls = new library.Counter({
      name: 'loopcsi_agent_calls_total',
      help: 'Completed calls to agents',
      labelNames: ['node', 'code'],
      registers,
    });
    new library.Gauge({
      name: 'loopcsi_agents',
      help: 'Nodes by the state of their agent',
      labelNames: ['state'],
      registers,
      collect() {
        for (const [state, count] of options.countAgents()) this.set({ state }, count);
      },
    });
    new library.Gauge({
      name: 'loopcsi_build_info',
      help: 'Version of the driver',
      labelNames: ['version'],
      registers,
    }).set({ version: options.version }, 1);
    library.collectDefaultMetrics({ register: this.#registry });
  }

  callEnded({ service, rpc, code, durationMs }: CallMeasurement): void {
    this.#calls.calls.inc({ service, rpc, code });
    this.#calls.callSeconds.observe({ service, rpc }, durationMs / 1000);
  }

  agentCallEnded({ node, code }: { readonly node: string; readonly code: string }): void {
    if (this.#nodes.size < maxNodes) this.#nodes.add(node);
    this.#agentCalls.inc({ node: this.#nodes.has(node) ? node : 'other', code });
  }

  /** Returns all metrics in the Prometheus text format. */
  async render(): Promise<{ readonly contentType: string; readonly body: string }> {
    return { contentType: this.#registry.contentType, body: await this.#registry.metrics() };
  }
}
