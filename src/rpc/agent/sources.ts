import type { DescribeResponse, ReadResponse } from '../../csi/agent-types.ts';
import { VolumeError } from '../../errors.ts';
import type { Volumes } from '../../volumes/api.ts';
import type { End, Piece, SourceFacts } from '../../volumes/model.ts';
import type { ServerHooks } from '../call.ts';
import { makeService, type Service } from '../grpc-server.ts';
import { type Implementation, makeHandlers } from '../handlers.ts';
import { parseCopy } from './copy-message.ts';
import type { Tickets } from './tickets.ts';

const calls = new Map([
  ['Describe', { logClass: 'read', offered: true }],
  ['Read', { logClass: 'read', offered: true }],
] as const);

const digestBytes = 32;
const nothing = Buffer.alloc(0);

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

    async *Read({ ticket, source, state, offset, digest }, call) {
      const copy = parseCopy(source);
      tickets.require(ticket, { copy, peer: call.peer });
      if (digest.length !== digestBytes)
        throw new VolumeError('invalid', `digest must have ${digestBytes} bytes`);
      const request = { copy, state, from: { offset, digest } };
      for await (const step of volumes.readSource(call, request)) yield readMessage(step);
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

function readMessage(step: Piece | End): ReadResponse {
  if ('data' in step) return { ...step, end: null };
  const { sizeBytes: size_bytes, digest } = step;
  return { offset: 0n, digest: nothing, data: nothing, end: { size_bytes, digest } };
}
