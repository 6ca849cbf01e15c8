/**
 * Copies between nodes while drivers are killed, links are cut and packets are lost or changed. LOOPCSI_TEST_RANDOM_SEED repeats the choices of
 * a run, LOOPCSI_TEST_RANDOM_SECONDS makes it longer.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import { nodeTagOf, snapshotIdFor, volumeIdFor } from '../../src/ids.ts';
import { MiB } from '../../src/units.ts';
import { poolFiles } from '../../src/volumes/pool/layout.ts';
import { makeRandom, seedOf } from '../crash/random.ts';
import { runCommand } from '../helpers/command-line.ts';
import { endOf } from '../helpers/controller.ts';
import { codeOf } from '../helpers/csi-server.ts';
import { clientAt, inLab, type Lab, type LabNode, onlyOn, untilAllReady } from '../helpers/lab.ts';
import {
  block,
  type Controller,
  fill,
  hashOf,
  isResumed,
  limit,
  midway,
  requestFor,
  snapshotOf,
} from '../helpers/lab-copies.ts';
import { onNode } from '../helpers/on-node.ts';
import { devicesBelow } from '../helpers/scratch-pool.ts';
import { scaledMs } from '../helpers/slowness.ts';
import { until } from '../helpers/until.ts';

/** Slow enough that a copy is still on its way when its packets are lost or changed. */
const verySlow = ['--transfer-rate=12Mi'];

const seed = seedOf(process.env['LOOPCSI_TEST_RANDOM_SEED']);
const seconds = Number(process.env['LOOPCSI_TEST_RANDOM_SECONDS'] ?? 30);

onNode(
  'bytes that change on the way end the connection, and the copy goes on where it was',
  inLab({ nodeCount: 2, flags: verySlow }, async (t, lab) => {
    const { two, finish } = await midway(t, lab);
    await two.disturb('change', 3);
    await until('the copy is kept', () => isResumed(two), 60_000);
    t.true((await two.calm()) > 0);
    await finish();
  }),
);

onNode(
  'data that arrives no more ends the connection, and the copy goes on where it was',
  inLab({ nodeCount: 2, flags: verySlow }, async (t, lab) => {
    const { two, finish } = await midway(t, lab);
    await two.disturb('drop', 1);
    await until('the copy is kept', () => isResumed(two), 60_000);
    t.true((await two.calm()) > 0);
    await finish();
  }),
);

onNode(
  'packets that are lost now and then do not interrupt a copy',
  inLab({ nodeCount: 2, flags: verySlow }, async (t, lab) => {
    const { two, begun, finish } = await midway(t, lab);
    await two.disturb('drop', 50);
    t.is(await begun, 'OK');
    t.true((await two.calm()) > 0);
    await finish();
    t.false(await isResumed(two));
  }),
);

onNode(
  'a copy that runs is seen on both nodes, and told to callers that give up',
  inLab({ nodeCount: 2, flags: verySlow }, async (t, lab) => {
    const { controller, one, two, snapshotId, request, finish } = await midway(t, lab);
    const shown = async (node: LabNode, ...args: readonly string[]) => {
      const { stdout } = await runCommand(node.driver().endpoint, ...args);
      return stdout;
    };
    const text = await shown(two, 'volume', 'get', 'copy');
    t.regex(text, /^State: +being copied: \d+ %, [\d.]+Mi of 320Mi$/m);
    t.true(text.includes(`snapshot ${snapshotId} on node node-1`));
    const json = JSON.parse(await shown(two, 'volume', 'get', 'copy', '--json')) as {
      readonly copy: Readonly<Record<string, unknown>>;
    };
    t.like(json.copy, { peer: 'node-1', copyName: 'copy', waiting: false });
    const source = await shown(one, 'snapshot', 'get', 'snap');
    t.regex(source, /^Copied by: +10\.253\.0\.2:\d+ for volume 'copy': \d+ %/m);
    await until('a caller that gives up is told the progress', async () => {
      const { code, message } = await endOf(controller.CreateVolume(request, { timeoutMs: 4_000 }));
      return (
        code === 'ABORTED' && /from node 'node-1' goes on: \d+ %.*; repeat the call/.test(message)
      );
    });
    await finish();
    t.false((await shown(one, 'snapshot', 'list')).includes('Copied by'));
    t.is((await runCommand(two.driver().endpoint, 'volume', 'get', 'none')).exitCode, 1);
  }),
);

const dataMiB = 40;
const sourceBytes = 64n * MiB;
/** In a pool with reflink, volumes are captured. */
const flags = (directory: string): readonly string[] => [
  `--pool=default=${join(directory, 'pool')},create,reflink=2Gi`,
  '--transfer-rate=24Mi',
];

const poolOf = ({ directory }: LabNode): string => join(directory, 'pool', poolFiles.embeddedMount);
const imageOf = (node: LabNode, area: 'volumes' | 'snapshots', id: string): string =>
  join(poolOf(node), area, id, 'disk.img');

interface Source {
  readonly node: LabNode;
  readonly content:
    | { readonly type: 'snapshot'; readonly snapshot: { readonly snapshot_id: string } }
    | { readonly type: 'volume'; readonly volume: { readonly volume_id: string } };
  readonly hash: string;
}

/** A volume with random data, and a snapshot of it, on each node. */
async function makeSources(controller: Controller, { nodes }: Lab): Promise<readonly Source[]> {
  const sources: Source[] = [];
  for (const node of nodes) {
    const name = `source-of-${node.id}`;
    await controller.CreateVolume({ ...requestFor(name, block, sourceBytes), ...onlyOn(node) });
    const volume_id = volumeIdFor(name, nodeTagOf(node.id));
    await fill(imageOf(node, 'volumes', volume_id), [10], dataMiB);
    const snapshot_id = await snapshotOf(controller, `snap-of-${node.id}`, volume_id);
    const hash = await hashOf(imageOf(node, 'volumes', volume_id));
    sources.push({ node, hash, content: { type: 'volume', volume: { volume_id } } });
    sources.push({ node, hash, content: { type: 'snapshot', snapshot: { snapshot_id } } });
  }
  return sources;
}

/** Codes with which a copy may fail while nodes come and go. The call is repeated after each of them. */
const transient: readonly string[] = [
  'UNAVAILABLE',
  'ABORTED',
  'DEADLINE_EXCEEDED',
  'CANCELLED',
  // The source was read for the copy before its node was restarted.
  'FAILED_PRECONDITION',
  'RESOURCE_EXHAUSTED',
];

interface Copy {
  readonly name: string;
  readonly source: Source;
  readonly node: LabNode;
}

class Copier {
  readonly #t: ExecutionContext;
  readonly #controller: Controller;
  readonly #codes = new Map<string, number>();

  constructor(t: ExecutionContext, controller: Controller) {
    this.#t = t;
    this.#controller = controller;
  }

  /** How often calls ended with each code. */
  get codes(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#codes);
  }

  /** Repeats the call until it succeeds, as a provisioner does, and compares the contents. */
  async make(copy: Copy): Promise<void> {
    const { name, source, node } = copy;
    const request = {
      ...requestFor(name, block, sourceBytes),
      ...onlyOn(node),
      volume_content_source: source.content,
    };
    await until(
      `${name} is a copy on ${node.id}, seed ${seed}`,
      async () =>
        this.#ends(this.#controller.CreateVolume(request, { timeoutMs: scaledMs(15_000) }), copy),
      240_000,
    );
    const image = imageOf(node, 'volumes', volumeIdFor(name, nodeTagOf(node.id)));
    this.#t.is(await hashOf(image), source.hash, `${name} on ${node.id}, seed ${seed}`);
  }

  async remove(copy: Copy): Promise<void> {
    const volume_id = volumeIdFor(copy.name, nodeTagOf(copy.node.id));
    await until(
      `${volume_id} is deleted, seed ${seed}`,
      async () => this.#ends(this.#controller.DeleteVolume({ volume_id }, limit()), copy),
      120_000,
    );
  }

  async #ends(call: Promise<unknown>, { name, node }: Copy): Promise<boolean> {
    const { code, message } = await endOf(call);
    this.#codes.set(code, (this.#codes.get(code) ?? 0) + 1);
    if (code === 'OK') return true;
    this.#t.true(
      transient.includes(code),
      `${name} on ${node.id}: ${code} ${message}, seed ${seed}`,
    );
    await delay(200);
    return false;
  }
}

/** Kills drivers, cuts links, and changes and loses packets, one after the other, until the time is over. All is well at the end. */
async function interfere({ nodes }: Lab, endMs: number): Promise<Readonly<Record<string, number>>> {
  const random = makeRandom(seed);
  const counts = { kill: 0, cut: 0, change: 0, drop: 0, hang: 0 };
  while (Date.now() < endMs) {
    await delay(random.below(2_000));
    const node = nodes[random.below(nodes.length)];
    const fault = random.pick(['kill', 'kill', 'cut', 'cut', 'change', 'drop', 'hang'] as const);
    const pauseMs = random.below(5_000);
    if (node === undefined) break;
    counts[fault] += 1;
    if (fault === 'kill') {
      await node.kill();
      await node.start();
    } else if (fault === 'cut') {
      await node.cut();
      await delay(pauseMs);
      await node.mend();
    } else if (fault === 'hang') {
      node.hang();
      await delay(pauseMs);
      node.resume();
    } else {
      await node.disturb(fault, 20);
      await delay(pauseMs);
      await node.calm();
    }
  }
  return counts;
}

/** Devices of images on the node, other than that of its pool. */
async function devicesOf({ directory }: LabNode): Promise<readonly string[]> {
  return (await devicesBelow(directory))
    .map(({ image }) => image)
    .filter((image) => !image.endsWith(`/${poolFiles.embeddedImage}`));
}

onNode(
  'copies over three nodes while drivers are killed, links are cut and packets are lost and changed: all are made, equal, and nothing is left',
  inLab({ nodeCount: 3, flags }, async (t, lab) => {
    t.log(`LOOPCSI_TEST_RANDOM_SEED=${seed}`);
    t.timeout(scaledMs(seconds * 1_000 + 10 * 60_000));
    const controller = clientAt(t, 'csi.v1.Controller', lab.endpoint);
    await untilAllReady(controller);
    const sources = await makeSources(controller, lab);
    const copier = new Copier(t, controller);
    const endMs = Date.now() + scaledMs(seconds * 1_000);
    let made = 0;
    const work = async (index: number): Promise<Copy> => {
      const random = makeRandom(seed * 100 + index);
      for (;;) {
        const source = sources[random.below(sources.length)];
        const others = lab.nodes.filter((node) => node !== source?.node);
        const node = others[random.below(others.length)];
        if (source === undefined || node === undefined) throw new Error('no node');
        const copy = { name: `copy-${index}`, source, node };
        await copier.make(copy);
        made += 1;
        if (Date.now() > endMs) return copy;
        await copier.remove(copy);
      }
    };
    const [faults, ...copies] = await Promise.all([
      interfere(lab, endMs),
      ...Array.from({ length: 5 }, (_, index) => work(index)),
    ]);
    t.log(made, faults, copier.codes);
    await untilAllReady(controller);
    // As a provisioner whose last answer was lost.
    for (const copy of copies) await copier.make(copy);
    for (const node of lab.nodes) {
      await until(
        `tmp/ of ${node.id} is empty, seed ${seed}`,
        async () => (await readdir(join(poolOf(node), 'tmp'))).length === 0,
      );
      t.deepEqual(await devicesOf(node), []);
    }
    for (const copy of copies) await copier.remove(copy);
    // Nothing is locked, and nothing has changed.
    for (const { node, content, hash } of sources) {
      if (content.type === 'snapshot') {
        const { snapshot_id } = content.snapshot;
        t.is(await hashOf(imageOf(node, 'snapshots', snapshot_id)), hash);
        t.is(await codeOf(controller.DeleteSnapshot({ snapshot_id }, limit())), 'OK');
      } else {
        const { volume_id } = content.volume;
        t.is(await hashOf(imageOf(node, 'volumes', volume_id)), hash);
        t.is(await codeOf(controller.DeleteVolume({ volume_id }, limit())), 'OK');
      }
    }
    t.deepEqual((await controller.ListVolumes({}, limit())).entries, []);
    t.deepEqual((await controller.ListSnapshots({}, limit())).entries, []);
  }),
);

/** Runs a call to an agent in the network of a node. */
async function ask({ enter }: LabNode, ...args: readonly string[]): Promise<string> {
  const program = join(import.meta.dirname, '..', 'helpers', 'ask-agent.js');
  const [file = '', ...rest] = [...enter, process.execPath, program, ...args];
  return (await execa(file, rest)).stdout;
}

onNode(
  'a ticket is for one source, one copy, one node and one run of the driver',
  inLab({ nodeCount: 3 }, async (t, lab) => {
    const [one, two, three] = lab.nodes;
    if (one === undefined || two === undefined || three === undefined) throw new Error('no lab');
    const controller = clientAt(t, 'csi.v1.Controller', lab.endpoint);
    await untilAllReady(controller);
    await controller.CreateVolume({ ...requestFor('v', block, 16n * MiB), ...onlyOn(one) });
    const volume_id = volumeIdFor('v', nodeTagOf(one.id));
    const id = await snapshotOf(controller, 'snap', volume_id);
    const other = await snapshotOf(controller, 'other', volume_id);
    t.is(other, snapshotIdFor('other', nodeTagOf(one.id)));
    const [controllerTls, agentTls] = [join(lab.tlsDir, 'controller'), join(lab.tlsDir, 'agent')];
    const address = two.address.replace(/:\d+$/, '');
    const open = () =>
      ask(two, controllerTls, one.address, 'open', 'snapshot', id, 'copy', address);
    const ticket = await open();
    const describe = (from: LabNode, kind: string, source: string, copy: string) =>
      ask(from, agentTls, one.address, 'describe', kind, source, copy, ticket);
    t.is(await describe(two, 'snapshot', id, 'copy'), 'OK');
    t.is(await describe(two, 'snapshot', id, 'copy'), 'OK', 'a copy may go on');
    t.is(await describe(two, 'snapshot', other, 'copy'), 'PERMISSION_DENIED');
    t.is(await describe(two, 'volume', volume_id, 'copy'), 'PERMISSION_DENIED');
    t.is(await describe(two, 'snapshot', id, 'copy-2'), 'PERMISSION_DENIED');
    t.is(await describe(three, 'snapshot', id, 'copy'), 'PERMISSION_DENIED');
    await one.kill();
    await one.start();
    t.is(await describe(two, 'snapshot', id, 'copy'), 'UNAUTHENTICATED');
    // No ticket is in a log.
    const later = await ask(two, controllerTls, one.address, 'open', 'snapshot', id, 'c', address);
    for (const { directory } of lab.nodes) {
      const log = await readFile(join(directory, 'driver.log'), 'utf8');
      t.false(log.includes(ticket) || log.includes(later));
    }
  }),
);
