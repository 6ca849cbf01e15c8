/** How the controller learns the addresses of the agents. */

/** The network address of an agent. A node can have two of them while its driver is being replaced. */
export interface AgentEndpoint {
  /** `HOST:PORT`, with an IPv6 address in brackets. It identifies the endpoint. */
  readonly address: string;
  /** The node that the discovery says the agent runs on. An agent with another node id is refused. */
  readonly nodeName?: string;
  /** Whether the agent is ready to serve. One that is not gets calls only if its node has no other. */
  readonly isServing: boolean;
  /**
   * Its place in a list that an operator wrote, from 0 on. A volume for which no topology is asked is made on the first node of that
   * list that has room. Absent if the source has no order.
   */
  readonly rank?: number;
  /** Whether the agent is being stopped. It gets calls only if its node has no other. */
  readonly isTerminating: boolean;
}

export interface Discovery {
  /**
   * Calls `onChange` with the complete list at each change. The first call says that the discovery has synced, even if the list is
   * empty. A discovery that loses its source keeps the last list and does not call.
   */
  watch(onChange: (endpoints: readonly AgentEndpoint[]) => void): { close(): void };
}
