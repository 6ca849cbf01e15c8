import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { type Client, makeClient } from '../../src/csi/client.ts';
import { nodeTagOf, volumeIdFor } from '../../src/ids.ts';
import { MiB } from '../../src/units.ts';
import { makeRandom, seedOf } from '../crash/random.ts';
import { codeOf } from '../helpers/csi-server.ts';
import { clientAt, inLab, type Lab, type LabNode, onlyOn, untilAllReady } from '../helpers/lab.ts';
import { onNode } from '../helpers/on-node.ts';
import { mark } from '../helpers/sequence-writer.ts';
import { scaledMs } from '../helpers/slowness.ts';
import { until } from '../helpers/until.ts';

const limit = () => ({ timeoutMs: scaledMs(60_000) });

const access_mode = { mode: 'SINGLE_NODE_WRITER' as const };
const capability = (fs_type: string) => ({
  access_mode,
  access_type: 'mount' as const,
  mount: { fs_type },
});

/** Pools that share blocks, as the ones of a cluster that takes snapshots. */
const reflink = (directory: string) => [
  `--pool=default=${join(directory, 'pool')},create,reflink=3Gi`,
];

const poolOf = ({ directory }: LabNode): string => join(directory, 'pool', 'reflink');

/** A volume that is mounted on its node. */
interface Mounted {
  readonly node: LabNode;
  readonly id: string;
  readonly file: string;
}

/** Two nodes with a mounted volume each, a process that writes to both in turn, and what is asked of the controller. */
class Group {
  readonly lab: Lab;
  readonly members: readonly Mounted[];
  readonly groups: Client<'csi.v1.GroupController'>;
  readonly controller: Client<'csi.v1.Controller'>;
  readonly #places: readonly bigint[];

  private constructor(
    given: Pick<Group, 'lab' | 'members' | 'groups' | 'controller'>,
    places: readonly bigint[],
  ) {
    this.lab = given.lab;
    this.members = given.members;
    this.groups = given.groups;
    this.controller = given.controller;
    this.#places = places;
  }

  static async make(t: ExecutionContext, lab: Lab): Promise<Group> {
    const controller = clientAt(t, 'csi.v1.Controller', lab.endpoint);
    const groups = makeClient('csi.v1.GroupController', `unix://${lab.endpoint}`);
    t.teardown(groups.close);
    await untilAllReady(controller);
    const members: Mounted[] = [];
    for (const [index, node] of lab.nodes.entries()) {
      members.push(await mountedOn(t, { node, controller, fsType: index === 0 ? 'ext4' : 'xfs' }));
    }
    startWriter(
      t,
      members.map(({ file }) => file),
    );
    const images = members.map(({ node, id }) => join(poolOf(node), 'volumes', id, 'disk.img'));
    let places: readonly bigint[] = [];
    await until('all images have a number', async () => {
      const found = await Promise.all(images.map(findPlace));
      places = found.flatMap((place) => place ?? []);
      return places.length === images.length;
    });
    return new Group({ lab, members, groups, controller }, places);
  }

  request(name: string) {
    return { name, source_volume_ids: this.members.map(({ id }) => id) };
  }

  async take(name: string) {
    const answer = await this.groups.CreateVolumeGroupSnapshot(this.request(name), limit());
    const { group_snapshot: group } = answer;
    if (group === null) throw new Error('no group');
    return group;
  }

  async remove({ group_snapshot_id, snapshots }: Awaited<ReturnType<Group['take']>>) {
    const snapshot_ids = snapshots.map(({ snapshot_id }) => snapshot_id);
    const request = { group_snapshot_id, snapshot_ids };
    await this.groups.DeleteVolumeGroupSnapshot(request, limit());
  }

  /** The numbers in the snapshots of the members, in the order of the files. */
  async numbersIn({ snapshots }: Awaited<ReturnType<Group['take']>>): Promise<readonly bigint[]> {
    return Promise.all(
      this.members.map(async ({ node, id }, index) => {
        const member = snapshots.find(({ source_volume_id }) => source_volume_id === id);
        const path = join(poolOf(node), 'snapshots', member?.snapshot_id ?? '', 'disk.img');
        return numberAt(path, this.#places[index] ?? 0n);
      }),
    );
  }

  /** What groups have left in the pools of all nodes. */
  async left(): Promise<readonly string[]> {
    const found = this.lab.nodes.map(async (node) => {
      const areas = ['snapshots', 'groups', 'tmp'].map(async (area) =>
        (await readdir(join(poolOf(node), area))).map((name) => `${node.id} ${area} ${name}`),
      );
      return (await Promise.all(areas)).flat();
    });
    return (await Promise.all(found)).flat();
  }

  /** Waits until the writer goes on, as it does when nothing is frozen. */
  async untilWriting(timeoutMs: number): Promise<void> {
    const [first] = this.members;
    if (first === undefined) throw new Error('no member');
    const image = join(poolOf(first.node), 'volumes', first.id, 'disk.img');
    const now = () => numberAt(image, this.#places[0] ?? 0n);
    const before = await now();
    await until('the writer goes on', async () => (await now()) > before + 1n, timeoutMs);
  }
}

async function mountedOn(
  t: ExecutionContext,
  given: { node: LabNode; controller: Client<'csi.v1.Controller'>; fsType: string },
): Promise<Mounted> {
  const { node, controller, fsType } = given;
  const id = volumeIdFor('source', nodeTagOf(node.id));
  const volume_capability = capability(fsType);
  await controller.CreateVolume(
    {
      name: 'source',
      volume_capabilities: [volume_capability],
      capacity_range: { required_bytes: 320n * MiB },
      ...onlyOn(node),
    },
    limit(),
  );
  const staging_target_path = join(node.directory, 'staged');
  const target_path = join(node.directory, 'published');
  await mkdir(staging_target_path);
  const withNode = async (work: (client: Client<'csi.v1.Node'>) => Promise<unknown>) => {
    const client = makeClient('csi.v1.Node', `unix://${node.driver().endpoint}`);
    try {
      await work(client);
    } finally {
      client.close();
    }
  };
  t.teardown(() =>
    withNode(async (client) => {
      await client.NodeUnpublishVolume({ volume_id: id, target_path }, limit());
      await client.NodeUnstageVolume({ volume_id: id, staging_target_path }, limit());
    }),
  );
  await withNode(async (client) => {
    const request = { volume_id: id, staging_target_path, volume_capability };
    await client.NodeStageVolume(request, limit());
    await client.NodePublishVolume({ ...request, target_path }, limit());
  });
  return { node, id, file: join(target_path, 'number') };
}

function startWriter(t: ExecutionContext, files: readonly string[]): ChildProcess {
  const script = fileURLToPath(new URL('../helpers/sequence-writer.js', import.meta.url));
  const writer = spawn(process.execPath, [script, ...files], { stdio: 'inherit' });
  t.teardown(async () => {
    const ended = new Promise((resolve) => writer.once('exit', resolve));
    writer.kill('SIGTERM');
    await ended;
  });
  return writer;
}

/** Where the number is in the image, if it has been written. A filesystem that does not copy on write leaves it there. */
async function findPlace(image: string): Promise<bigint | undefined> {
  const stepBytes = 4 * 1024 * 1024;
  const file = await open(image);
  try {
    const { size } = await file.stat();
    const chunk = Buffer.alloc(stepBytes);
    for (let offset = 0; offset < size; offset += stepBytes) {
      await file.read(chunk, 0, stepBytes, offset);
      const at = chunk.indexOf(mark);
      if (at >= 0) return BigInt(offset + at);
    }
    return undefined;
  } finally {
    await file.close();
  }
}

async function numberAt(image: string, place: bigint): Promise<bigint> {
  const file = await open(image);
  try {
    const block = Buffer.alloc(mark.length + 8);
    await file.read(block, 0, block.length, Number(place));
    if (!block.subarray(0, mark.length).equals(mark)) throw new Error(`no number in ${image}`);
    return block.readBigUInt64BE(mark.length);
  } finally {
    await file.close();
  }
}

/** Whether the numbers can be of one moment: no file is behind the one after it, or more than one ahead. */
function areOfOneMoment(numbers: readonly bigint[]): boolean {
  const [first = 0n, ...others] = numbers;
  const sorted = others.every((number, index) => number <= (numbers[index] ?? 0n));
  return sorted && first - (others.at(-1) ?? first) <= 1n;
}

onNode(
  'two hundred groups over two nodes: what one process writes to both in turn never has a gap',
  inLab({ nodeCount: 2, flags: reflink }, async (t, lab) => {
    const group = await Group.make(t, lab);
    let previous = 0n;
    for (let round = 1; round <= 200; round += 1) {
      const taken = await group.take(`group-${round}`);
      const numbers = await group.numbersIn(taken);
      if (!areOfOneMoment(numbers)) t.fail(`round ${round}: ${numbers.join(' ')}`);
      t.true((numbers[0] ?? 0n) > previous, `round ${round} is later than the one before it`);
      previous = numbers[0] ?? 0n;
      await group.remove(taken);
    }
    t.deepEqual(await group.left(), []);
  }),
);

onNode(
  'a group over two nodes can be asked for again, is listed, restored on both nodes, and deleted once for all',
  inLab({ nodeCount: 2, flags: reflink }, async (t, lab) => {
    const group = await Group.make(t, lab);
    const { controller, groups, members } = group;
    const taken = await group.take('group');
    t.deepEqual(await group.take('group'), taken);
    t.true(taken.ready_to_use);
    t.is(new Set(taken.snapshots.map(({ creation_time }) => creation_time?.nanos)).size, 1);
    const { group_snapshot_id, snapshots } = taken;
    const snapshot_ids = snapshots.map(({ snapshot_id }) => snapshot_id);
    const found = await groups.GetVolumeGroupSnapshot({ group_snapshot_id, snapshot_ids });
    t.deepEqual(found.group_snapshot, taken);
    const { entries } = await controller.ListSnapshots({}, limit());
    t.deepEqual(
      entries.map(({ snapshot }) => snapshot?.snapshot_id ?? '').toSorted(),
      snapshot_ids.toSorted(),
    );
    const [first = ''] = snapshot_ids;
    t.is(await codeOf(controller.DeleteSnapshot({ snapshot_id: first })), 'INVALID_ARGUMENT');
    const fewer = { name: 'group', source_volume_ids: members.slice(0, 1).map(({ id }) => id) };
    t.is(await codeOf(groups.CreateVolumeGroupSnapshot(fewer, limit())), 'ALREADY_EXISTS');
    // Each member is restored on the node of the other.
    for (const [index, { snapshot_id, source_volume_id }] of snapshots.entries()) {
      const elsewhere = members.find(({ id }) => id !== source_volume_id);
      if (elsewhere === undefined) throw new Error('no other node');
      const source = members.find(({ id }) => id === source_volume_id);
      const fsType = source === members[0] ? 'ext4' : 'xfs';
      const copy = {
        name: `copy-${index}`,
        volume_capabilities: [capability(fsType)],
        capacity_range: { required_bytes: 320n * MiB },
        ...onlyOn(elsewhere.node),
        volume_content_source: { type: 'snapshot', snapshot: { snapshot_id } } as const,
      };
      t.is(await codeOf(controller.CreateVolume(copy, limit())), 'OK');
    }
    await group.remove(taken);
    await group.remove(taken);
    t.deepEqual(await group.left(), []);
  }),
);

const seed = seedOf(process.env['LOOPCSI_TEST_RANDOM_SEED']);

onNode(
  'groups over two nodes while drivers, controller and links fail: writers go on within 15 s, and the group is whole or not there',
  inLab({ nodeCount: 2, flags: reflink }, async (t, lab) => {
    const group = await Group.make(t, lab);
    const random = makeRandom(seed);
    t.log(`LOOPCSI_TEST_RANDOM_SEED=${seed}`);
    const [one, two] = lab.nodes;
    const [first] = lab.controllers;
    if (one === undefined || two === undefined || first === undefined) throw new Error('no lab');
    const node = () => random.pick([one, two]);
    const faults = {
      'kills a driver': async () => {
        const killed = node();
        await killed.kill();
        return () => killed.start();
      },
      'hangs a driver': async () => {
        const hung = node();
        hung.hang();
        return async () => hung.resume();
      },
      'cuts a link': async () => {
        const cut = node();
        await cut.cut();
        return () => cut.mend();
      },
      'kills the controller': async () => {
        await first.kill();
        return () => first.start();
      },
    } as const;
    const names = Object.keys(faults) as (keyof typeof faults)[];
    for (let round = 1; round <= 12; round += 1) {
      const what = names[random.below(names.length)] ?? 'kills a driver';
      const name = `group-${round}`;
      const waitMs = random.below(120);
      t.log(`round ${round}: ${what} after ${waitMs} ms`);
      const begun = codeOf(group.groups.CreateVolumeGroupSnapshot(group.request(name), limit()));
      await delay(waitMs);
      const heal = await faults[what]();
      await group.untilWriting(scaledMs(15_000));
      await heal();
      await begun;
      const again = async () =>
        codeOf(group.groups.CreateVolumeGroupSnapshot(group.request(name), limit()));
      await until('the repeated call succeeds', async () => (await again()) === 'OK', 120_000);
      const taken = await group.take(name);
      const numbers = await group.numbersIn(taken);
      if (!areOfOneMoment(numbers)) t.fail(`seed ${seed} round ${round}: ${numbers.join(' ')}`);
      await group.remove(taken);
    }
    await until('nothing is left', async () => (await group.left()).length === 0, 30_000);
    t.pass();
  }),
);
