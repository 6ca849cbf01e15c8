import { setImmediate } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import test from 'ava';
import { getCapacity } from '../../../src/controller/services/capacity.ts';
import type { ControllerContext } from '../../../src/controller/services/context.ts';
import { createVolume } from '../../../src/controller/services/create-volume.ts';
import { snapshotMethods } from '../../../src/controller/services/snapshots.ts';
import { nodeTagOf, snapshotIdFor, volumeIdFor } from '../../../src/ids.ts';
import { StatusError } from '../../../src/rpc/status.ts';
import { aCall, aContext, aCreateRequest, aNode } from '../../helpers/controller-context.ts';

const questions = new Set(['ControllerGetVolume', 'GetSnapshot', 'GetCapacity']);

/** A node whose agent counts the questions that it is asked at a time. */
function countingNode(name: string) {
  const tag = nodeTagOf(name);
  let asking = 0;
  const counted = { most: 0 };
  const call = async ({ rpc, request }: { rpc: string; request: { name?: string } }) => {
    const { name: asked = '' } = request;
    if (rpc === 'CreateVolume') return { volume: { volume_id: volumeIdFor(asked, tag) } };
    if (rpc === 'CreateSnapshot') return { snapshot: { snapshot_id: snapshotIdFor(asked, tag) } };
    if (!questions.has(rpc)) throw new Error(`${rpc} was called`);
    asking += 1;
    counted.most = Math.max(counted.most, asking);
    await setImmediate();
    asking -= 1;
    if (rpc === 'GetCapacity')
      return { available_capacity: 1n, maximum_volume_size: null, minimum_volume_size: null };
    throw new StatusError(status.NOT_FOUND, 'missing');
  };
  const node = aNode(name, { agent: { name, call } as never });
  return { node, counted };
}

const create = async (context: ControllerContext, name: string) =>
  createVolume(context, aCreateRequest(name), aCall());

const names = Array.from({ length: 200 }, (_, index) => `v${index}`);

test('of many creates at once, only so many ask each node as its agent takes, and all succeed', async (t) => {
  const [a, b] = [countingNode('node-a'), countingNode('node-b')];
  const context = aContext(() => [a.node, b.node]);
  const made = await Promise.all(names.map((name) => create(context, name)));
  t.is(made.length, 200);
  t.deepEqual([a.counted.most, b.counted.most], [32, 32]);
});

test('creates, snapshots and capacities of all nodes together ask a node for at most half of the calls that its agent takes', async (t) => {
  const [a, b] = [countingNode('node-a'), countingNode('node-b')];
  const context = aContext(() => [a.node, b.node]);
  const { CreateSnapshot } = snapshotMethods(context);
  const source_volume_id = volumeIdFor('source', nodeTagOf('node-a'));
  const made = await Promise.all(
    names.flatMap((name): readonly Promise<unknown>[] => [
      create(context, name),
      Promise.resolve(
        CreateSnapshot?.(
          {
            name,
            source_volume_id,
            secrets: {},
            parameters: {},
            accessibility_requirements: null,
          },
          aCall(),
        ),
      ),
      getCapacity(
        context,
        {
          volume_capabilities: [],
          parameters: {},
          accessible_topology: null,
        },
        aCall(),
      ),
    ]),
  );
  t.is(made.length, 600);
  // No snapshot is of a volume on this node.
  t.is(b.counted.most, 32);
});
