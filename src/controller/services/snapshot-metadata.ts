import { VolumeError } from '../../errors.ts';
import { parseAllocatedForm, parseDeltaForm } from '../../rpc/forms.ts';
import type { Implementation } from '../../rpc/handlers.ts';
import type { Node } from '../agents.ts';
import { agentOf, routeOf } from '../route.ts';
import { type ControllerContext, forwardStream } from './context.ts';

const service = 'csi.v1.SnapshotMetadata';

/** Implements the SnapshotMetadata service (CSI spec, "Snapshot Metadata Service RPCs"). The streams are passed on. */
export function snapshotMetadataMethods({
  agents,
}: ControllerContext): Implementation<'csi.v1.SnapshotMetadata'> {
  const nodeOf = (id: string): Node | undefined => {
    const route = routeOf(id, agents);
    return route.kind === 'node' ? route.node : undefined;
  };
  return {
    async *GetMetadataAllocated(request, call) {
      const { snapshotId } = parseAllocatedForm(request);
      const agent = agentOf(snapshotId, 'snapshot', agents);
      yield* forwardStream(agent, { service, rpc: 'GetMetadataAllocated', request }, call);
    },

    async *GetMetadataDelta(request, call) {
      const { baseSnapshotId, targetSnapshotId } = parseDeltaForm(request);
      const agent = agentOf(targetSnapshotId, 'snapshot', agents);
      const [base, target] = [nodeOf(baseSnapshotId), nodeOf(targetSnapshotId)];
      // Throws if no node has it, or the node is not known. The node itself checks that both are snapshots of one volume.
      if (base === undefined) agentOf(baseSnapshotId, 'snapshot', agents);
      else if (target !== undefined && base !== target) {
        throw new VolumeError(
          'wrong-state',
          `base_snapshot_id '${baseSnapshotId}' is on node '${base.name}', and target_snapshot_id '${targetSnapshotId}' on node '${target.name}'; snapshots of different nodes cannot be compared: make a full backup`,
        );
      }
      yield* forwardStream(agent, { service, rpc: 'GetMetadataDelta', request }, call);
    },
  };
}
