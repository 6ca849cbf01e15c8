import type { AgentEndpoint, Discovery } from './discovery.ts';

/** A fixed list of addresses (`static:HOST:PORT,…`). */
export function staticDiscovery(addresses: readonly string[]): Discovery {
  return {
    watch: (onChange) => {
      onChange(
        addresses.map(
          (address): AgentEndpoint => ({ address, isServing: true, isTerminating: false }),
        ),
      );
      return { close: () => undefined };
    },
  };
}
