import { setImmediate } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import test from 'ava';
import { pino } from 'pino';
import type { Agents, Node } from '../../../src/controller/agents.ts';
import type { ControllerContext } from '../../../src/controller/services/context.ts';
import { createVolume, makeCreateMemory } from '../../../src/controller/services/create-volume.ts';
import { nodeTagOf, volumeIdFor } from '../../../src/ids.ts';
import { StatusError } from '../../../src/rpc/status.ts';
import { aCapability } from '../../helpers/controller.ts';

const log = pino({ level: 'silent' });

test('of many creates at once, only so many ask each node as its agent takes, and all succeed', async (t) => {
  let asking = 0;
  let most = 0;
  const nodeOf = (name: string): Node => {
    const tag = nodeTagOf(name);
    const call = async ({ rpc, request }: { rpc: string; request: { name?: string } }) => {
      if (rpc === 'CreateVolume')
        return { volume: { volume_id: volumeIdFor(request.name ?? '', tag) } };
      asking += 1;
      most = Math.max(most, asking);
      await setImmediate();
      asking -= 1;
      throw new StatusError(status.NOT_FOUND, 'missing');
    };
    const agent = { name, call } as never;
    return {
      name,
      tag,
      segments: {},
      agent,
      absence: undefined,
      foreignIds: [],
      rank: undefined,
      addresses: [],
      hello: undefined,
    };
  };
  const nodes = [nodeOf('node-a'), nodeOf('node-b')];
  const agents = {
    nodes: () => nodes,
    nowMs: () => 0,
    syncedForMs: 600_000,
    isForgotten: () => false,
  };
  const context: ControllerContext = {
    agents: agents as unknown as Agents,
    driverName: 'loopcsi.io',
    version: '1',
    createdNames: makeCreateMemory(),
    snapshotSources: new Map(),
  };
  const create = async (name: string) =>
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
      { log: log.child({}), signal: new AbortController().signal, deadlineMs: Infinity },
    );
  const names = Array.from({ length: 200 }, (_, index) => `v${index}`);
  const made = await Promise.all(names.map(create));
  t.is(made.length, 200);
  // Two nodes, and 32 creates that ask at a time.
  t.is(most, 64);
});
