import { status } from '@grpc/grpc-js';
import test from 'ava';
import fc from 'fast-check';
import type { Node } from '../../../src/controller/agents.ts';
import { controllerMethods } from '../../../src/controller/services/controller.ts';
import { VolumeError } from '../../../src/errors.ts';
import { nodeTagOf, volumeIdFor } from '../../../src/ids.ts';
import { StatusError } from '../../../src/rpc/status.ts';
import { aCall, aContext, aCreateRequest, aNode } from '../../helpers/controller-context.ts';

/** What happens to the next call of an agent. */
const mishaps = ['none', 'fails before', 'fails after', 'unreachable'] as const;
type Mishap = (typeof mishaps)[number];

/** A node with the volumes that its driver has made. Its room only shrinks while volumes are created. */
interface ModelNode {
  readonly name: string;
  readonly tag: string;
  readonly ids: Set<string>;
  room: number;
}

/** Decides the order of all steps. */
type Step = (label: string) => Promise<void>;

interface World {
  readonly nodes: readonly ModelNode[];
  readonly step: Step;
  /** `node` is unreachable for one controller, but perhaps not for the other. */
  readonly nextMishap: () => Mishap;
}

/** What the driver of the node does. */
function answer(
  node: ModelNode,
  rpc: string,
  request: { readonly name?: string; readonly volume_id?: string },
) {
  const id = request.volume_id ?? volumeIdFor(request.name ?? '', node.tag);
  switch (rpc) {
    case 'CreateVolume':
      if (!node.ids.has(id) && node.room === 0)
        throw new StatusError(status.RESOURCE_EXHAUSTED, 'full');
      if (!node.ids.has(id)) node.room -= 1;
      node.ids.add(id);
      return { volume: { volume_id: id } };
    case 'DeleteVolume':
      node.ids.delete(id);
      return {};
    default:
      if (!node.ids.has(id)) throw new StatusError(status.NOT_FOUND, 'missing');
      return { volume: { volume_id: id }, status: null };
  }
}

/** The methods of a controller of its own, whose agents are the nodes of the world. */
function makeController({ nodes, step, nextMishap }: World) {
  const agentOf = (node: ModelNode) => ({
    name: node.name,
    call: async ({ rpc, request }: { rpc: string; request: object }) => {
      await step(`${rpc} arrives at ${node.name}`);
      const mishap = nextMishap();
      const lost = new StatusError(status.UNAVAILABLE, 'lost');
      if (mishap === 'fails before') throw lost;
      const response = answer(node, rpc, request);
      await step(`${rpc} leaves ${node.name}`);
      if (mishap === 'fails after') throw lost;
      return response;
    },
  });
  const view = (): readonly Node[] =>
    nodes.map((node) => {
      const isUnreachable = nextMishap() === 'unreachable';
      return aNode(node.name, {
        segments: { node: node.name },
        agent: isUnreachable ? undefined : (agentOf(node) as never),
        absence: isUnreachable ? { kind: 'unreachable', sinceMs: 0, problem: 'cut' } : undefined,
      });
    });
  // Its absences are shorter than the time after which a node that is unreachable is passed over.
  return controllerMethods(aContext(view));
}

/** Codes after which a caller repeats its call. */
const isTransient = (error: unknown): boolean =>
  (error instanceof StatusError && error.code === status.UNAVAILABLE) ||
  (error instanceof VolumeError && ['unavailable', 'busy'].includes(error.reason));

/** Calls until the call succeeds, or `attempts` times. Returns undefined if it never did. */
async function repeatedly<T>(attempts: number, call: () => Promise<T>): Promise<T | undefined> {
  for (let attempt = 0; attempt < attempts; attempt += 1) {
    try {
      return await call();
    } catch (error) {
      if (!isTransient(error)) throw error;
    }
  }
  return undefined;
}

const names = ['v1', 'v2', 'v3'];
const nodeNames = ['node-a', 'node-b', 'node-c'];

test('two controllers with the same calls, in any order and with any failures: no volume twice, none lost', async (t) => {
  const property = fc.asyncProperty(
    fc.scheduler(),
    fc.array(fc.constantFrom(...mishaps, 'none' as const, 'none' as const), {
      minLength: 1,
      maxLength: 60,
    }),
    fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 3, maxLength: 3 }),
    fc.array(fc.tuple(fc.constantFrom(...names), fc.boolean()), { minLength: 2, maxLength: 8 }),
    async (scheduler, failures, rooms, calls) => {
      const nodes = nodeNames.map((name, index) => ({
        name,
        tag: nodeTagOf(name),
        ids: new Set<string>(),
        // The last one always has room, so that every call ends.
        room: index === 2 ? names.length : (rooms[index] ?? 0),
      }));
      let next = 0;
      let isCalm = false;
      const world: World = {
        nodes,
        step: async (label) => (isCalm ? undefined : scheduler.schedule(Promise.resolve(), label)),
        nextMishap: () => {
          next += 1;
          return isCalm ? 'none' : (failures[next % failures.length] ?? 'none');
        },
      };
      const controllers = [makeController(world), makeController(world)];
      const answers = new Map<string, Set<string>>();
      const create = async (name: string, index: number, attempts: number) => {
        const response = await repeatedly(attempts, async () =>
          controllers[index]?.CreateVolume?.(aCreateRequest(name), aCall()),
        );
        const id = response?.volume?.volume_id;
        if (id !== undefined) answers.set(name, (answers.get(name) ?? new Set()).add(id));
      };
      const running = calls.map(([name, isFirst]) => create(name, isFirst ? 0 : 1, 4));
      await scheduler.waitFor(Promise.all(running));
      isCalm = true;
      const asked = new Set(calls.map(([name]) => name));
      for (const name of asked) await create(name, 1, 3);
      for (const name of asked) {
        const found = nodes.flatMap(({ ids, tag }) =>
          [...ids].filter((id) => id === volumeIdFor(name, tag)),
        );
        if (found.length !== 1 || answers.get(name)?.size !== 1) return false;
        if (!answers.get(name)?.has(found[0] ?? '')) return false;
      }
      // Deletes reach the same node, and leave nothing.
      isCalm = false;
      const deletes = [...answers.values()].flatMap((ids) =>
        [...ids].map((volume_id) =>
          repeatedly(200, async () =>
            controllers[next % 2]?.DeleteVolume?.({ volume_id, secrets: {} }, aCall()),
          ),
        ),
      );
      await scheduler.waitFor(Promise.all(deletes));
      isCalm = true;
      for (const ids of answers.values())
        for (const volume_id of ids)
          await controllers[0]?.DeleteVolume?.({ volume_id, secrets: {} }, aCall());
      return nodes.every(({ ids }) => ids.size === 0);
    },
  );
  t.timeout(300_000);
  await t.notThrowsAsync(fc.assert(property, { numRuns: 1_500 }));
});
