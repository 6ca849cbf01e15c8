import type { AgentEndpoint, Discovery } from './discovery.ts';

/** A fixed list of addresses (`static:HOST:PORT,…`). Its order is that in which nodes are chosen (docs/decisions/0027). */
export function staticDiscovery(addresses: readonly string[]): Discovery {
  return {
    watch: (onChange) => {
      onChange(
        addresses.map(
          (address, rank): AgentEndpoint => ({
            address,
            rank,
            isServing: true,
            isTerminating: false,
          }),
        ),
      );
      return { close: () => undefined };
    },
  };
}
