import { setImmediate } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import test from 'ava';
import { pino } from 'pino';
import type { Agents, Node } from '../../../src/controller/agents.ts';
import { getCapacity } from '../../../src/controller/services/capacity.ts';
import {
  type ControllerContext,
  makeQuestionLimit,
} from '../../../src/controller/services/context.ts';
import { createVolume, makeCreateMemory } from '../../../src/controller/services/create-volume.ts';
import { snapshotMethods } from '../../../src/controller/services/snapshots.ts';
import { nodeTagOf, snapshotIdFor, volumeIdFor } from '../../../src/ids.ts';
import type { RpcCall } from '../../../src/rpc/call.ts';
import { StatusError } from '../../../src/rpc/status.ts';
import { aCapability } from '../../helpers/controller.ts';

const log = pino({ level: 'silent' });

const callNow = (): RpcCall => ({
  log: log.child({}),
  signal: new AbortController().signal,
  deadlineMs: Infinity,
});

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
  const node: Node = {
    name,
    tag,
    segments: {},
    agent: { name, call } as never,
    absence: undefined,
    foreignIds: [],
    rank: undefined,
    addresses: [],
    hello: undefined,
  };
  return { node, counted };
}

function contextOf(nodes: readonly Node[]): ControllerContext {
  const agents = {
    nodes: () => nodes,
    nowMs: () => 0,
    isSettling: false,
    requireSynced: () => undefined,
    isForgotten: () => false,
  };
  return {
    agents: agents as unknown as Agents,
    driverName: 'loopcsi.io',
    version: '1',
    createdNames: makeCreateMemory(),
    questions: makeQuestionLimit(),
    snapshotSources: new Map(),
  };
}

const create = async (context: ControllerContext, name: string) =>
  createVolume(
    context,
    {
      name,
      capacity_range: null,
      volume_capabilities: [aCapability],
      parameters: {},
      secrets: {},
      volume_content_source: null,
      accessibility_requirements: null,
      mutable_parameters: {},
    },
    callNow(),
  );

const names = Array.from({ length: 200 }, (_, index) => `v${index}`);

test('of many creates at once, only so many ask each node as its agent takes, and all succeed', async (t) => {
  const [a, b] = [countingNode('node-a'), countingNode('node-b')];
  const context = contextOf([a.node, b.node]);
  const made = await Promise.all(names.map((name) => create(context, name)));
  t.is(made.length, 200);
  t.deepEqual([a.counted.most, b.counted.most], [32, 32]);
});

test('creates, snapshots and capacities of all nodes together ask a node for at most half of the calls that its agent takes', async (t) => {
  const [a, b] = [countingNode('node-a'), countingNode('node-b')];
  const context = contextOf([a.node, b.node]);
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
          callNow(),
        ),
      ),
      getCapacity(
        context,
        {
          volume_capabilities: [],
          parameters: {},
          accessible_topology: null,
        },
        callNow(),
      ),
    ]),
  );
  t.is(made.length, 600);
  // No snapshot is of a volume on this node.
  t.is(b.counted.most, 32);
});
