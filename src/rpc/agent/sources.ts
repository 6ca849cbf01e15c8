import type { DescribeResponse } from '../../csi/agent-types.ts';
import type { Volumes } from '../../volumes/api.ts';
import type { SourceFacts } from '../../volumes/model.ts';
import type { ServerHooks } from '../call.ts';
import { makeService, type Service } from '../grpc-server.ts';
import { type Implementation, makeHandlers } from '../handlers.ts';
import { parseCopy } from './copy-message.ts';
import type { Tickets } from './tickets.ts';

const calls = new Map([['Describe', { logClass: 'read', offered: true }]] as const);

/** Creates the service `loopcsi.agent.v1.Sources`, which other agents call, with a ticket for each copy. */
export function sourcesService(volumes: Volumes, tickets: Tickets, hooks: ServerHooks): Service {
  return makeService(
    'loopcsi.agent.v1.Sources',
    makeHandlers('loopcsi.agent.v1.Sources', sourcesMethods(volumes, tickets), hooks, {
      calls,
      checksSizeLimits: false,
    }),
  );
}

function sourcesMethods(
  volumes: Volumes,
  tickets: Tickets,
): Implementation<'loopcsi.agent.v1.Sources'> {
  return {
    async Describe({ ticket, source, state }, call) {
      const copy = parseCopy(source);
      tickets.require(ticket, { copy, peer: call.peer });
      const options = { state: state === '' ? undefined : state };
      return describeMessage(await volumes.describeSource(call, copy, options));
    },
  };
}

function describeMessage(facts: SourceFacts): DescribeResponse {
  const { growthLimit } = facts;
  return {
    state: facts.state,
    kind: facts.kind,
    fs_type: facts.fsType ?? '',
    sector_size: facts.sectorSize,
    provisioning: facts.provisioning,
    size_bytes: facts.sizeBytes,
    allocated_bytes: facts.allocatedBytes,
    growth_limit:
      growthLimit === undefined
        ? null
        : { max_bytes: growthLimit.maxBytes, factor: Number(growthLimit.factor) },
  };
}
