import { VolumeError } from '../../errors.ts';
import type { Volumes } from '../../volumes/api.ts';
import type { RemoteSource } from '../../volumes/model.ts';
import type { LogClass } from '../advertised.ts';
import type { ServerHooks } from '../call.ts';
import type { CsiContext } from '../context.ts';
import { makeService, type Service } from '../grpc-server.ts';
import { type Implementation, makeHandlers } from '../handlers.ts';
import { accessibleTopology } from '../topology.ts';
import { requireText } from '../validate.ts';
import { parseCopy } from './copy-message.ts';
import { groupPartCalls, groupPartMethods } from './group-parts.ts';
import type { SourcePlace } from './source-client.ts';
import type { Tickets } from './tickets.ts';

/** Version of loopcsi.agent.v1 that this driver speaks. */
export const agentApiVersion = 1;

const calls = new Map<string, { readonly logClass: LogClass; readonly offered: boolean }>([
  ['Hello', { logClass: 'polling', offered: true }],
  ['OpenSource', { logClass: 'read', offered: true }],
  ['OfferSource', { logClass: 'read', offered: true }],
  ['CloseSource', { logClass: 'read', offered: true }],
  ...groupPartCalls,
]);

/** What the calls of the controller change in an agent. */
export interface AgentParts {
  readonly tickets: Tickets;
  /** The source at that place, which is read with the certificates of this agent. */
  readonly sourceAt: (place: SourcePlace) => RemoteSource;
  /** IP addresses of this node, from which it connects to other agents. */
  readonly peerAddresses: () => readonly string[];
}

/** Creates the service `loopcsi.agent.v1.Agent`, which only the controller may call. */
export function agentService(context: CsiContext, parts: AgentParts, hooks: ServerHooks): Service {
  return makeService(
    'loopcsi.agent.v1.Agent',
    makeHandlers('loopcsi.agent.v1.Agent', agentMethods(context, parts), hooks, {
      calls,
      checksSizeLimits: false,
    }),
  );
}

export function agentMethods(
  context: CsiContext,
  parts: AgentParts,
): Implementation<'loopcsi.agent.v1.Agent'> {
  const { settings, version, volumes, thisNode } = context;
  return {
    async Hello({ api_version: theirs, controller_version }, call) {
      if (theirs < 1) {
        throw new VolumeError(
          'invalid',
          `api_version ${theirs} is not a version of loopcsi.agent.v1; this driver speaks ${agentApiVersion}`,
        );
      }
      call.log.trace({ apiVersion: theirs, controllerVersion: controller_version }, 'hello');
      const { nodeTag, pools, foreignIds, volumeCount, undecidedGroups } = volumes.inventory();
      return {
        api_version: agentApiVersion,
        version,
        driver_name: settings.driverName,
        node_id: thisNode.nodeId,
        node_tag: nodeTag,
        segments: accessibleTopology(thisNode).segments,
        pools,
        foreign_ids: foreignIds,
        volume_count: { value: BigInt(volumeCount) },
        undecided_groups: undecidedGroups.map(({ groupId, attempt }) => ({
          group_id: groupId,
          attempt,
        })),
        peer_addresses: volumes.allowsTransfers ? parts.peerAddresses() : [],
      };
    },

    ...copyMethods(context, parts),
    ...groupPartMethods(context),
  };
}

/** The calls by which the controller allows copies between nodes. */
function copyMethods(
  { volumes, remoteSources }: CsiContext,
  { tickets, sourceAt }: AgentParts,
): Implementation<'loopcsi.agent.v1.Agent'> {
  return {
    async OpenSource({ source, peer_addresses }) {
      requireTransfers(volumes);
      const copy = parseCopy(source);
      if (peer_addresses.length === 0)
        throw new VolumeError('invalid', 'peer_addresses is empty; name the node that may read');
      const { kind, id } = copy.source;
      await (kind === 'snapshot' ? volumes.getSnapshot(id) : volumes.getVolume(id));
      return { ticket: tickets.issue(copy, peer_addresses) };
    },

    async OfferSource({ source, node_id, address, ticket }) {
      requireTransfers(volumes);
      const copy = parseCopy(source);
      const place = {
        copy,
        nodeId: requireText(node_id, 'node_id'),
        address: requireText(address, 'address'),
        ticket: requireText(ticket, 'ticket'),
      };
      remoteSources.put(copy, sourceAt(place));
      return {};
    },

    async CloseSource({ source }) {
      await volumes.closeSource(parseCopy(source));
      return {};
    },
  };
}

function requireTransfers({ allowsTransfers }: Pick<Volumes, 'allowsTransfers'>): void {
  if (allowsTransfers) return;
  throw new VolumeError(
    'unsupported',
    'copies between nodes are disabled on this node; set --transfers',
  );
}
