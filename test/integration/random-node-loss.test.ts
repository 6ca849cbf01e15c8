/**
 * Eight clients of two controllers, while nodes are killed, stopped and cut off at random and controllers are killed. Each client knows what
 * must be true of its own volumes and snapshots. LOOPCSI_TEST_RANDOM_SEED repeats a run, as far as its calls; LOOPCSI_TEST_RANDOM_SECONDS
 * makes it longer.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import type { Client } from '../../src/csi/client.ts';
import { nodeTagOf, snapshotIdFor, volumeIdFor } from '../../src/ids.ts';
import { topologyOfNode } from '../../src/rpc/topology.ts';
import { MiB } from '../../src/units.ts';
import { makeRandom, type Random, seedOf } from '../crash/random.ts';
import { endOf } from '../helpers/controller.ts';
import { clientAt, inLab, type Lab, type LabNode, untilAllReady } from '../helpers/lab.ts';
import { onNode } from '../helpers/on-node.ts';
import { scaledMs } from '../helpers/slowness.ts';

type Controller = Client<'csi.v1.Controller'>;

const seed = seedOf(process.env['LOOPCSI_TEST_RANDOM_SEED']);
const seconds = Number(process.env['LOOPCSI_TEST_RANDOM_SECONDS'] ?? 40);
const clientCount = 8;

/** Nodes that are not there, each with a number that no other loss has. */
class Losses {
  readonly #lost = new Map<string, number>();
  #count = 0;

  begin({ id }: LabNode): void {
    this.#count += 1;
    this.#lost.set(id, this.#count);
  }

  end({ id }: LabNode): void {
    this.#lost.delete(id);
  }

  current(): ReadonlyMap<string, number> {
    return new Map(this.#lost);
  }
}

/** Codes with which a call may fail while nodes and controllers come and go. After them, its effect is not known. */
const transient = ['UNAVAILABLE', 'ABORTED', 'DEADLINE_EXCEEDED', 'CANCELLED'];

type Known = 'there' | 'gone' | 'unknown';

interface Entry {
  readonly kind: 'volume' | 'snapshot';
  readonly name: string;
  readonly id: string;
  readonly node: LabNode;
  state: Known;
}

const aVolume = {
  capacity_range: { required_bytes: 16n * MiB },
  volume_capabilities: [
    {
      access_mode: { mode: 'SINGLE_NODE_WRITER' as const },
      access_type: 'block' as const,
      block: {},
    },
  ],
};

class RandomClient {
  readonly #t: ExecutionContext;
  readonly #controller: Controller;
  readonly #losses: Losses;
  readonly #random: Random;
  readonly entries: readonly Entry[];
  /** Calls that succeeded, by RPC. */
  readonly successes = new Map<string, number>();

  constructor(
    t: ExecutionContext,
    given: {
      readonly controller: Controller;
      readonly lab: Lab;
      readonly losses: Losses;
      readonly index: number;
    },
  ) {
    this.#t = t;
    this.#controller = given.controller;
    this.#losses = given.losses;
    this.#random = makeRandom(seed * 100 + given.index);
    this.entries = given.lab.nodes.flatMap((node) => {
      const tag = nodeTagOf(node.id);
      const name = `client-${given.index}`;
      const snapshot = `${name}-on-${node.id}`;
      return [
        { kind: 'volume', name, id: volumeIdFor(name, tag), node, state: 'gone' },
        { kind: 'snapshot', name: snapshot, id: snapshotIdFor(snapshot, tag), node, state: 'gone' },
      ] satisfies Entry[];
    });
  }

  /** One random call. */
  async step(): Promise<void> {
    const entry = this.entries[this.#random.below(this.entries.length)];
    if (entry === undefined) return;
    switch (this.#random.below(6)) {
      case 0:
      case 1:
        return this.create(entry);
      case 2:
        return this.remove(entry);
      case 3:
        return this.#get(entry);
      case 4:
        await this.list(entry.kind);
        return;
      default:
        return this.#expand(entry);
    }
  }

  async create(entry: Entry): Promise<void> {
    const { kind, name, node } = entry;
    const volume = this.#volumeOn(node);
    if (kind === 'snapshot' && volume.state !== 'there') return;
    const { key, value } = topologyOfNode('loopcsi.io', node.id);
    const topology = { segments: { [key]: value } };
    const accessibility_requirements = { requisite: [topology], preferred: [topology] };
    const code = await this.#call(
      kind === 'volume' ? 'CreateVolume' : 'CreateSnapshot',
      [node],
      async (limits) => {
        const id =
          kind === 'volume'
            ? (
                await this.#controller.CreateVolume(
                  { ...aVolume, name, accessibility_requirements },
                  limits,
                )
              ).volume?.volume_id
            : (await this.#controller.CreateSnapshot({ name, source_volume_id: volume.id }, limits))
                .snapshot?.snapshot_id;
        this.#t.is(id, entry.id);
      },
    );
    // A volume that was grown is another one than the request asks for.
    if (code === 'ALREADY_EXISTS' && kind === 'volume') this.#t.not(entry.state, 'gone');
    else this.#require(code, ['OK'], entry);
    entry.state = code === 'OK' || code === 'ALREADY_EXISTS' ? 'there' : worse(entry, 'gone');
  }

  async remove(entry: Entry): Promise<void> {
    const { kind, id, node } = entry;
    const code = await this.#call(
      kind === 'volume' ? 'DeleteVolume' : 'DeleteSnapshot',
      [node],
      async (limits) =>
        kind === 'volume'
          ? this.#controller.DeleteVolume({ volume_id: id }, limits)
          : this.#controller.DeleteSnapshot({ snapshot_id: id }, limits),
    );
    this.#require(code, ['OK'], entry);
    entry.state = code === 'OK' ? 'gone' : worse(entry, 'there');
  }

  async #get(entry: Entry): Promise<void> {
    const { kind, id, node } = entry;
    const code = await this.#call(
      kind === 'volume' ? 'ControllerGetVolume' : 'GetSnapshot',
      [node],
      async (limits) =>
        kind === 'volume'
          ? this.#controller.ControllerGetVolume({ volume_id: id }, limits)
          : this.#controller.GetSnapshot({ snapshot_id: id }, limits),
    );
    this.#require(code, allowed(entry), entry);
  }

  async #expand(entry: Entry): Promise<void> {
    const { id, node, kind } = entry;
    if (kind === 'snapshot') return this.#findSnapshot(entry);
    const required_bytes = 32n * MiB;
    const code = await this.#call('ControllerExpandVolume', [node], async (limits) =>
      this.#controller.ControllerExpandVolume(
        { volume_id: id, capacity_range: { required_bytes } },
        limits,
      ),
    );
    this.#require(code, allowed(entry), entry);
  }

  /** As a snapshotter asks whether a snapshot is there. */
  async #findSnapshot(entry: Entry): Promise<void> {
    let found: number | undefined;
    const code = await this.#call('ListSnapshots', [entry.node], async (limits) => {
      const { entries } = await this.#controller.ListSnapshots({ snapshot_id: entry.id }, limits);
      found = entries.length;
    });
    if (code !== 'OK') return this.#require(code, [], entry);
    if (entry.state !== 'unknown') this.#t.is(found, entry.state === 'there' ? 1 : 0, entry.id);
  }

  /** A list that succeeds is complete, and has nothing twice. */
  async list(kind: Entry['kind'], all = this.entries): Promise<readonly string[]> {
    const ids: string[] = [];
    const nodes = [...new Set(this.entries.map(({ node }) => node))];
    const code = await this.#call(`List${kind}s`, nodes, async (limits) => {
      let starting_token = '';
      do {
        const page = { max_entries: 5, starting_token };
        if (kind === 'volume') {
          const { entries, next_token } = await this.#controller.ListVolumes(page, limits);
          ids.push(...entries.map(({ volume }) => volume?.volume_id ?? ''));
          starting_token = next_token;
        } else {
          const { entries, next_token } = await this.#controller.ListSnapshots(page, limits);
          ids.push(...entries.map(({ snapshot }) => snapshot?.snapshot_id ?? ''));
          starting_token = next_token;
        }
      } while (starting_token !== '');
    });
    this.#require(code, ['OK'], { id: `list of ${kind}s` });
    if (code !== 'OK') return ids;
    this.#t.is(new Set(ids).size, ids.length, `twice in ${ids.join(' ')}`);
    for (const { id, state } of all.filter((one) => one.kind === kind && one.state !== 'unknown'))
      this.#t.is(ids.includes(id), state === 'there', `${id} is ${state}, seed ${seed}`);
    return ids;
  }

  #volumeOn(node: LabNode): Entry {
    const found = this.entries.find((one) => one.kind === 'volume' && one.node === node);
    if (found === undefined) throw new Error('each node has a volume');
    return found;
  }

  /** The code of a call. It must not succeed or find nothing if one of its nodes was unreachable all the time. */
  async #call(
    rpc: string,
    nodes: readonly LabNode[],
    work: (limits: { readonly timeoutMs: number }) => Promise<unknown>,
  ): Promise<string> {
    const before = this.#losses.current();
    const { code, message } = await endOf(work({ timeoutMs: scaledMs(30_000) }));
    const after = this.#losses.current();
    const unreachable = nodes.find(({ id }) => before.has(id) && before.get(id) === after.get(id));
    if (unreachable !== undefined)
      this.#t.true(
        transient.includes(code),
        `${rpc} while ${unreachable.id} is unreachable: ${code} ${message}`,
      );
    if (code === 'OK') this.successes.set(rpc, (this.successes.get(rpc) ?? 0) + 1);
    return code;
  }

  #require(code: string, also: readonly string[], { id }: Pick<Entry, 'id'>): void {
    this.#t.true([...transient, ...also].includes(code), `${id}: ${code}, seed ${seed}`);
  }
}

/** What is known after a call that may or may not have had its effect, if the opposite of `effectless` is its effect. */
function worse({ state }: Entry, effectless: Known): Known {
  return state === effectless || state === 'unknown' ? 'unknown' : state;
}

function allowed({ state }: Entry): readonly string[] {
  if (state === 'unknown') return ['OK', 'NOT_FOUND'];
  return state === 'there' ? ['OK'] : ['NOT_FOUND'];
}

/** Takes nodes and controllers away and gives them back, one after the other, until the time is over. */
async function disturb({ nodes, controllers }: Lab, losses: Losses, endMs: number): Promise<void> {
  const random = makeRandom(seed);
  while (Date.now() < endMs) {
    await delay(500 + random.below(2_000));
    const node = nodes[random.below(nodes.length)];
    const controller = controllers[random.below(controllers.length)];
    if (node === undefined || controller === undefined) return;
    switch (random.below(7)) {
      case 0:
        await controller.kill();
        await controller.start();
        break;
      case 1:
      case 2:
        await node.kill();
        losses.begin(node);
        await delay(random.below(5_000));
        losses.end(node);
        await node.start();
        break;
      case 3:
      case 4:
        node.hang();
        losses.begin(node);
        await delay(random.below(20_000));
        losses.end(node);
        node.resume();
        break;
      default:
        await node.cut();
        losses.begin(node);
        await delay(random.below(20_000));
        losses.end(node);
        await node.mend();
    }
  }
}

async function countOn(t: ExecutionContext, node: LabNode): Promise<number> {
  const local = clientAt(t, 'csi.v1.Controller', node.driver().endpoint);
  const volumes = await local.ListVolumes({});
  const snapshots = await local.ListSnapshots({});
  return volumes.entries.length + snapshots.entries.length;
}

onNode(
  `nodes and controllers that come and go under eight clients: nothing is lost, found twice or left, and a node that is unreachable is never called empty`,
  inLab({ nodeCount: 3, controllerCount: 2 }, async (t, lab) => {
    t.log(`LOOPCSI_TEST_RANDOM_SEED=${seed}`);
    t.timeout(scaledMs(seconds * 1_000 + 10 * 60_000));
    const channels = lab.controllers.map(({ endpoint }) =>
      clientAt(t, 'csi.v1.Controller', endpoint),
    );
    for (const channel of channels) await untilAllReady(channel);
    const losses = new Losses();
    const clients = Array.from({ length: clientCount }, (_, index) => {
      const controller = channels[index % channels.length];
      if (controller === undefined) throw new Error('there are controllers');
      return new RandomClient(t, { controller, lab, losses, index });
    });
    const endMs = Date.now() + scaledMs(seconds * 1_000);
    await Promise.all([
      disturb(lab, losses, endMs),
      ...clients.map(async (client) => {
        while (Date.now() < endMs) await client.step();
      }),
    ]);

    for (const channel of channels) await untilAllReady(channel);
    const successes = clients.flatMap((client) => [...client.successes.values()]);
    t.true(successes.reduce((sum, one) => sum + one, 0) > clientCount, 'calls succeeded');
    const entries = clients.flatMap((client) => client.entries);
    // Calls that got no answer are repeated, as an orchestrator does.
    for (const client of clients)
      for (const entry of client.entries)
        while (entry.state === 'unknown') await client.remove(entry);
    for (const client of clients)
      for (const kind of ['volume', 'snapshot'] as const) await client.list(kind, entries);
    const there = entries.filter(({ state }) => state === 'there');
    let count = 0;
    for (const node of lab.nodes) count += await countOn(t, node);
    t.is(count, there.length);

    for (const client of clients)
      for (const entry of client.entries) while (entry.state !== 'gone') await client.remove(entry);
    for (const node of lab.nodes) t.is(await countOn(t, node), 0);
  }),
);
