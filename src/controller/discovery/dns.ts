/**
 * Agents by repeated DNS lookups, for Docker Swarm (`tasks.NAME`), Nomad (SRV records) and others. DNS says nothing about the
 * node: the agent's own answer does.
 */
import { promises as dns, type LookupAddress, type SrvRecord } from 'node:dns';
import { callPeriodically, settleAll } from '../../async.ts';
import { messageOf } from '../../errors.ts';
import type { Logger } from '../../observe/log.ts';
import type { AgentEndpoint, Discovery } from './discovery.ts';

interface Resolver {
  /** All addresses of a name, as getaddrinfo(3) finds them: /etc/hosts counts. */
  readonly lookup: (name: string) => Promise<readonly LookupAddress[]>;
  readonly resolveSrv: (name: string) => Promise<readonly SrvRecord[]>;
}

interface DnsOptions {
  /** A name that begins with an underscore has SRV records, which contain the port. */
  readonly name: string;
  /** The port of all addresses; SRV records take precedence. */
  readonly port: number;
  readonly log: Logger;
  readonly resolver?: Resolver;
  readonly everyMs?: number;
}

const systemResolver: Resolver = {
  lookup: (name) => dns.lookup(name, { all: true }),
  resolveSrv: (name) => dns.resolveSrv(name),
};

/**
 * Looks the name up every 10 seconds. After a failed lookup, which includes a name without records, the last list stays: an
 * agent that is really gone does not answer either, and the others must not be dropped with the DNS server.
 */
export function dnsDiscovery(options: DnsOptions): Discovery {
  const { name, log, everyMs = 10_000 } = options;
  return {
    watch: (onChange) => {
      let last: string | undefined;
      let isFailing = false;
      let isClosed = false;
      const look = async (): Promise<number> => {
        try {
          const endpoints = await findEndpoints(options);
          isFailing = false;
          const text = JSON.stringify(endpoints);
          if (text !== last && !isClosed) onChange(endpoints);
          last = text;
        } catch (error) {
          const fields = { name, problem: messageOf(error) };
          if (!isFailing) log.warn(fields, 'the name was not resolved; the last list stays in use');
          isFailing = true;
        }
        return everyMs;
      };
      const stop = callPeriodically(look, 0);
      return {
        close: () => {
          isClosed = true;
          stop();
        },
      };
    },
  };
}

async function findEndpoints(options: DnsOptions): Promise<readonly AgentEndpoint[]> {
  const { name, port, resolver = systemResolver } = options;
  const targets = name.startsWith('_') ? await resolver.resolveSrv(name) : [{ name, port }];
  const addresses = await settleAll(
    targets.map(async (target) =>
      (await resolver.lookup(target.name)).map(({ address, family }) =>
        family === 6 ? `[${address}]:${target.port}` : `${address}:${target.port}`,
      ),
    ),
  );
  return [...new Set(addresses.flat())]
    .sort()
    .map((address) => ({ address, isServing: true, isTerminating: false }));
}
