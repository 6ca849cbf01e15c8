/** The agents that the discovery names, and the nodes that they are on. */
import type { HelloResponse } from '../csi/agent-types.ts';
import { VolumeError } from '../errors.ts';
import { nodeTagOf } from '../ids.ts';
import { topologyOfNode } from '../rpc/topology.ts';
import { Agent, type AgentOptions, type AgentState } from './agent.ts';
import type { AgentEndpoint, Discovery } from './discovery/discovery.ts';
import { type Forgotten, nothingForgotten } from './nodes/records.ts';

/** Why a node cannot be called. */
export type Absence = Exclude<AgentState, { kind: 'ready' }>;

/** A node of the cluster, as far as its agents have told. */
export interface Node {
  /** Its id, or the address of its agent while it has never answered. */
  readonly name: string;
  /** The end of its ids; undefined while neither the discovery nor the agent has said which node it is. */
  readonly tag: string | undefined;
  /** Of its topology, with keys in lower case. */
  readonly segments: Readonly<Record<string, string>>;
  /** The agent that gets new calls, or why there is none. */
  readonly agent: Agent | undefined;
  readonly absence: Absence | undefined;
  readonly foreignIds: readonly string[];
  /** As of its endpoint. */
  readonly rank: number | undefined;
  /** HOST:PORT of its agents; empty if none is announced any more. */
  readonly addresses: readonly string[];
  /** What an agent of it last said when it was ready. */
  readonly hello: HelloResponse | undefined;
}

/** A node that an operator, or the policy of node loss, has declared lost for good. */
export interface ForgottenNode extends Node {
  /** When it was forgotten: ISO 8601. */
  readonly forgottenAt: string;
  /** Since when its agent can be reached again; undefined if it cannot. Of the monotonic clock. */
  readonly returnedSinceMs: number | undefined;
}

/**
 * A node without an endpoint stays known as unreachable for this time, so that lists are not incomplete while its agent is replaced. After
 * that it has left the cluster.
 */
const departedMs = 10 * 60_000;
/** After the start, nodes that have not been seen yet may still appear. */
const settlingMs = 2 * 60_000;

interface Departed {
  readonly hello: HelloResponse;
  readonly sinceMs: number;
  /** A new agent of the node is announced, but has not been ready yet: what the earlier one said stays known until it is. */
  readonly hasSuccessor: boolean;
}

export class Agents {
  readonly #options: Omit<AgentOptions, 'onChange'>;
  readonly #forgotten: Forgotten;
  readonly #agents = new Map<string, Agent>();
  /** By node tag. */
  readonly #departed = new Map<string, Departed>();
  /** Since when nodes are refused that are compared with others, by name. */
  #refusedSince = new Map<string, number>();
  /** Addresses of agents of forgotten nodes whose return is in the log. */
  readonly #loggedReturns = new Set<string>();
  #nodes: readonly Node[] | undefined;
  #listsMade = 0;
  #syncedAtMs: number | undefined;
  #stop: (() => void)[] = [];

  constructor(options: Omit<AgentOptions, 'onChange'>, forgotten: Forgotten = nothingForgotten) {
    this.#options = options;
    this.#forgotten = forgotten;
  }

  /** Follows the discovery until `close`. */
  follow(discovery: Discovery): void {
    const watch = discovery.watch((endpoints) => {
      this.#update(endpoints);
    });
    const unwatch = this.#options.credentials.watch(() => {
      for (const agent of this.#agents.values()) agent.reconnect();
    });
    this.#stop = [
      () => {
        watch.close();
      },
      unwatch,
    ];
  }

  /** Milliseconds since the discovery named the agents for the first time; undefined if it never has. */
  get syncedForMs(): number | undefined {
    return this.#syncedAtMs === undefined ? undefined : this.#options.nowMs() - this.#syncedAtMs;
  }

  /** Whether the controller has known the agents for so short that nodes which have not been seen may still appear. */
  get isSettling(): boolean {
    return (this.syncedForMs ?? 0) < settlingMs;
  }

  /** The monotonic clock of the controller, in milliseconds. */
  nowMs(): number {
    return this.#options.nowMs();
  }

  /** Why the nodes are not known; undefined once the discovery has named their agents for the first time. */
  get unsyncedReason(): string | undefined {
    if (this.#syncedAtMs !== undefined) return undefined;
    return (
      this.#forgotten.problem ??
      'the source of --agents has not given its first list yet, so no node is known; retry later'
    );
  }

  /** Throws `unavailable` while the nodes are not known: an empty list would hide all entries. */
  requireSynced(): void {
    const reason = this.unsyncedReason;
    if (reason !== undefined) throw new VolumeError('unavailable', reason);
  }

  isForgotten(tag: string): boolean {
    return this.#forgotten.find(tag) !== undefined;
  }

  /** Whether only a forgotten node has the topology. Keys are case-insensitive (CSI spec, "Topology"). */
  isForgottenPlace(segments: Readonly<Record<string, string>>): boolean {
    const { driverName } = this.#options;
    const { key } = topologyOfNode(driverName, '');
    const asked = Object.entries(segments).find(([one]) => one.toLowerCase() === key.toLowerCase());
    return this.#forgotten.names.some(
      (name) => topologyOfNode(driverName, name).value === asked?.[1],
    );
  }

  /** How often the list of all nodes was built, which takes time that grows with their number. */
  get listsMade(): number {
    return this.#listsMade;
  }

  /** Has to be called when other nodes are forgotten than before. */
  forgottenChanged(): void {
    this.#nodes = undefined;
    for (const agent of this.#agents.values()) this.#compareWithForgotten(agent);
  }

  /** Milliseconds for which the node has not been there. */
  absentForMs(absence: Absence): number {
    return this.#options.nowMs() - absence.sinceMs;
  }

  /** The number of agents in each state. */
  countStates(): ReadonlyMap<AgentState['kind'], number> {
    const counts = new Map<AgentState['kind'], number>();
    for (const kind of ['connecting', 'ready', 'unreachable', 'refused'] as const)
      counts.set(kind, 0);
    for (const { agent, absence } of this.nodes()) {
      const kind = agent === undefined ? (absence?.kind ?? 'unreachable') : 'ready';
      counts.set(kind, (counts.get(kind) ?? 0) + 1);
    }
    const returned = this.forgottenNodes().filter((node) => node.returnedSinceMs !== undefined);
    counts.set('refused', (counts.get('refused') ?? 0) + returned.length);
    return counts;
  }

  /** All nodes that are not forgotten, in the order of their tags. Those of unknown tags are last. */
  nodes(): readonly Node[] {
    return this.#allNodes().filter(({ tag }) => tag === undefined || !this.isForgotten(tag));
  }

  /** The forgotten nodes that are announced, or were a moment ago. One that returns gets no call, and keeps its data. */
  forgottenNodes(): readonly ForgottenNode[] {
    return this.#allNodes().flatMap((node) => {
      const forgotten = node.tag === undefined ? undefined : this.#forgotten.find(node.tag);
      if (forgotten === undefined) return [];
      const state = node.agent?.state;
      const returnedSinceMs = state?.kind === 'ready' ? state.sinceMs : undefined;
      return [{ ...node, agent: undefined, forgottenAt: forgotten.at, returnedSinceMs }];
    });
  }

  #allNodes(): readonly Node[] {
    for (const [tag, { sinceMs, hasSuccessor }] of this.#departed) {
      if (hasSuccessor || this.#options.nowMs() - sinceMs < departedMs) continue;
      this.#departed.delete(tag);
      this.#nodes = undefined;
    }
    this.#nodes ??= this.#makeNodes();
    return this.#nodes;
  }

  /** Is called whenever an agent changes, so it looks at no other: with a thousand nodes, all change when certificates do. */
  #compareWithForgotten({ state, endpoint: { address }, acceptedHello }: Agent): void {
    const name = state.kind === 'ready' ? acceptedHello?.node_id : undefined;
    if (name === undefined || this.#forgotten.isEmpty) {
      this.#loggedReturns.delete(address);
      return;
    }
    const earlier = this.#forgotten.nameAt(address);
    if (earlier !== undefined && earlier !== name) this.#forgotten.addressTaken(address);
    if (!this.isForgotten(nodeTagOf(name))) {
      this.#loggedReturns.delete(address);
    } else if (!this.#loggedReturns.has(address)) {
      this.#loggedReturns.add(address);
      const remedy = `to use it again: loopcsi node remember ${name}`;
      this.#options.log.warn({ node: name, address, remedy }, 'a forgotten node was refused');
    }
  }

  close(): void {
    for (const stop of this.#stop) stop();
    for (const agent of this.#agents.values()) agent.close();
  }

  #update(endpoints: readonly AgentEndpoint[]): void {
    this.#syncedAtMs ??= this.#options.nowMs();
    const found = new Map(endpoints.map((endpoint) => [endpoint.address, endpoint]));
    for (const [address, agent] of this.#agents) {
      if (!found.has(address)) this.#remove(address, agent);
    }
    for (const [address, endpoint] of found) {
      const known = this.#agents.get(address);
      if (known === undefined) this.#agents.set(address, this.#makeAgent(endpoint));
      else known.update(endpoint);
    }
    this.#nodes = undefined;
  }

  #makeAgent(endpoint: AgentEndpoint): Agent {
    const onChange = (): void => {
      this.#nodes = undefined;
      const agent = this.#agents.get(endpoint.address);
      if (agent !== undefined) this.#compareWithForgotten(agent);
    };
    return new Agent(endpoint, { ...this.#options, onChange });
  }

  #remove(address: string, agent: Agent): void {
    this.#agents.delete(address);
    this.#loggedReturns.delete(address);
    agent.close();
    const { nodeName } = agent.endpoint;
    const earlier =
      nodeName === undefined ? undefined : this.#departed.get(nodeTagOf(nodeName))?.hello;
    const hello = agent.acceptedHello ?? earlier;
    if (hello === undefined) return;
    const sinceMs = this.#options.nowMs();
    this.#departed.set(hello.node_tag, { hello, sinceMs, hasSuccessor: false });
  }

  #makeNodes(): readonly Node[] {
    this.#listsMade += 1;
    const earlier = this.#refusedSince;
    this.#refusedSince = new Map();
    const byName = new Map<string, Agent[]>();
    for (const agent of this.#agents.values()) {
      const name = this.#nodeIdOf(agent) ?? agent.name;
      const others = byName.get(name);
      if (others === undefined) byName.set(name, [agent]);
      else others.push(agent);
    }
    const nodes = [...byName.values()].map((agents) => this.#nodeOf(agents, earlier));
    const byNodeTag = new Map(nodes.map((node) => [node.tag, node]));
    for (const [tag, departed] of this.#departed) {
      const successor = byNodeTag.get(tag);
      if (successor?.agent !== undefined) this.#departed.delete(tag);
      else this.#departed.set(tag, { ...departed, hasSuccessor: successor !== undefined });
      if (successor === undefined) nodes.push(departedNode(departed));
    }
    return this.#withoutSharedTags(nodes, earlier).toSorted(byTag);
  }

  /** The node of agents with the same name. */
  #nodeOf(agents: readonly Agent[], refusedSince: ReadonlyMap<string, number>): Node {
    const [best, ...others] = agents.toSorted((a, b) => preferenceOf(b) - preferenceOf(a));
    if (best === undefined) throw new Error('a node has an agent');
    const hello = best.hello ?? others.find((agent) => agent.hello !== undefined)?.hello;
    const nodeId = best.endpoint.nodeName ?? hello?.node_id ?? this.#nodeIdOf(best);
    const tag = nodeId === undefined ? undefined : nodeTagOf(nodeId);
    const accepted =
      agents.find(({ acceptedHello }) => acceptedHello !== undefined)?.acceptedHello ??
      (tag === undefined ? undefined : this.#departed.get(tag)?.hello);
    const expected =
      nodeId === undefined ? undefined : topologyOfNode(this.#options.driverName, nodeId);
    const node: Node = {
      name: nodeId ?? best.name,
      tag,
      segments: withLowerKeys(
        hello?.segments ?? (expected === undefined ? {} : { [expected.key]: expected.value }),
      ),
      agent: best.state.kind === 'ready' ? best : undefined,
      absence: best.state.kind === 'ready' ? undefined : best.state,
      foreignIds: (best.acceptedHello ?? accepted ?? hello)?.foreign_ids ?? [],
      rank: best.endpoint.rank,
      addresses: agents.map(({ endpoint }) => endpoint.address),
      hello: best.acceptedHello ?? accepted,
    };
    return isOneNode(agents) ? node : this.#refused(node, twinText(agents), refusedSince);
  }

  /** The node of an agent. One that has never said which it is counts as the forgotten node that had its address. */
  #nodeIdOf({ endpoint: { nodeName, address }, hello }: Agent): string | undefined {
    return nodeName ?? hello?.node_id ?? this.#forgotten.nameAt(address);
  }

  /** An id with a tag that two nodes have could reach the wrong node, which would call an existing volume missing. */
  #withoutSharedTags(
    nodes: readonly Node[],
    refusedSince: ReadonlyMap<string, number>,
  ): readonly Node[] {
    const namesOf = new Map<string, string[]>();
    for (const { name, tag } of nodes) {
      if (tag !== undefined) namesOf.set(tag, [...(namesOf.get(tag) ?? []), name]);
    }
    return nodes.map((node) => {
      const sharing = node.tag === undefined ? [] : (namesOf.get(node.tag) ?? []);
      if (sharing.length < 2) return node;
      const why = `nodes ${sharing.map((name) => `'${name}'`).join(' and ')} have the same tag ${node.tag ?? ''} by chance; give one of them another --node-id while it has no volumes`;
      return this.#refused(node, why, refusedSince);
    });
  }

  /** A node that is refused for what is only visible when all nodes are compared. It counts as unreachable since that was first so. */
  #refused(node: Node, why: string, refusedSince: ReadonlyMap<string, number>): Node {
    const sinceMs = refusedSince.get(node.name) ?? this.#options.nowMs();
    this.#refusedSince.set(node.name, sinceMs);
    return { ...node, agent: undefined, absence: { kind: 'refused', sinceMs, why } };
  }
}

/** Whether agents that are ready and name the same node are on the same machine: two drivers of a node have the same pools. */
function isOneNode(agents: readonly Agent[]): boolean {
  const pools = agents.flatMap(({ state, hello }) =>
    state.kind === 'ready' && hello !== undefined && hello.pools.length > 0
      ? [new Set(hello.pools.map(({ uuid }) => uuid))]
      : [],
  );
  const [first, ...others] = pools;
  return first === undefined || others.every((uuids) => [...uuids].some((uuid) => first.has(uuid)));
}

function twinText(agents: readonly Agent[]): string {
  const addresses = agents.map(({ endpoint }) => endpoint.address);
  return `the agents at ${addresses.join(' and ')} are on different machines and have the same node id; give each machine its own --node-id`;
}

/** Which of two agents of a node gets new calls: the one with the greater number. */
function preferenceOf({ state, endpoint }: Agent): number {
  return (
    (state.kind === 'ready' ? 8 : 0) +
    (endpoint.isTerminating ? 0 : 4) +
    (endpoint.isServing ? 2 : 0) +
    (state.kind === 'refused' ? 0 : 1)
  );
}

function departedNode({ hello, sinceMs }: Departed): Node {
  return {
    name: hello.node_id,
    tag: hello.node_tag,
    segments: withLowerKeys(hello.segments),
    agent: undefined,
    absence: { kind: 'unreachable', sinceMs, problem: 'its agent is not announced any more' },
    foreignIds: hello.foreign_ids,
    rank: undefined,
    addresses: [],
    hello,
  };
}

function withLowerKeys(segments: Node['segments']): Node['segments'] {
  return Object.fromEntries(
    Object.entries(segments).map(([key, value]) => [key.toLowerCase(), value]),
  );
}

function byTag(a: Node, b: Node): number {
  if (a.tag === b.tag) return a.name < b.name ? -1 : 1;
  if (a.tag === undefined || b.tag === undefined) return a.tag === undefined ? 1 : -1;
  return a.tag < b.tag ? -1 : 1;
}
