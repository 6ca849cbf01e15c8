/**
 * The workload that a power cut interrupts: life cycles of volumes through the driver's calls, some of them concurrent. A mark is
 * written to the log before each call and after its answer. Every round leaves volumes and snapshots to the next one.
 */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { FsType } from '../../../src/host/host.ts';
import { MiB } from '../../../src/units.ts';
import type { Kind } from '../../crash/calls.ts';
import * as calls from '../../crash/calls.ts';
import type { TestNode } from '../../crash/test-node.ts';
import type { Change, GroupMember } from './acknowledgements.ts';

/** Makes the call, and writes one mark before it and one after its answer. */
export type Acknowledge = <T>(change: Change, call: () => Promise<T>) => Promise<T>;

/** btrfs grows in its own steps. */
const grownSizes = {
  ext4: 48n * MiB,
  xfs: 450n * MiB,
  btrfs: 256n * MiB,
  block: 32n * MiB,
} as const;

export interface WorkOptions {
  readonly rounds: number;
  /** Without shared blocks (ext4), volumes in use cannot always be copied. */
  readonly poolFilesystem: FsType;
}

export async function work(
  testNode: TestNode,
  acknowledge: Acknowledge,
  { rounds, poolFilesystem }: WorkOptions,
): Promise<void> {
  const script = new Script(testNode, acknowledge, poolFilesystem !== 'ext4');
  for (let round = 0; round < rounds; round += 1) {
    const isAlone = round % 2 === 0;
    const lanes = [
      () => script.files(`a${round}`, (['ext4', 'xfs', 'ext4', 'btrfs'] as const)[round % 4]),
      () => script.raw(`b${round}`),
      () => script.docker(`d${round}`),
    ];
    // With one call at a time a state belongs to one call; concurrent calls share commits of the pool's filesystem.
    if (isAlone) for (const lane of lanes) await lane();
    else await Promise.all(lanes.map((lane) => lane()));
    await script.group(`g${round}`, [`a${round}`, `b${round}`]);
    if (round > 0) await script.clear(round - 1);
  }
}

class Script {
  readonly #testNode: TestNode;
  readonly #acknowledge: Acknowledge;
  readonly #sharesBlocks: boolean;
  #texts = 0;

  constructor(testNode: TestNode, acknowledge: Acknowledge, sharesBlocks: boolean) {
    this.#testNode = testNode;
    this.#acknowledge = acknowledge;
    this.#sharesBlocks = sharesBlocks;
  }

  /** A filesystem volume: written, snapshotted while it is in use, grown, cloned, restored. */
  async files(volume: string, type: Exclude<Kind, 'block'> = 'ext4'): Promise<void> {
    await this.#create(volume, type, calls.sizes[type]);
    await this.#use(volume, 'stage', () => calls.stage(this.#testNode, volume, type));
    await this.#use(volume, 'publish', () => calls.publish(this.#testNode, volume, { kind: type }));
    await this.#write(volume, 'first');
    await this.#write(volume, 'second');
    await this.#snapshot(`${volume}-s`, volume);
    await this.#write(volume, 'second');
    await this.#expand(volume, grownSizes[type]);
    await this.#write(volume, 'third');
    if (!this.#sharesBlocks) await this.#release(volume);
    await this.#create(`${volume}-c`, type, grownSizes[type], {
      kind: 'volume',
      name: volume,
    });
    if (this.#sharesBlocks) await this.#release(volume);
    await this.#create(`${volume}-r`, type, calls.sizes[type], {
      kind: 'snapshot',
      name: `${volume}-s`,
    });
    await this.#use(`${volume}-r`, 'stage', () => calls.stage(this.#testNode, `${volume}-r`, type));
    await this.#write(`${volume}-r`, 'fourth');
    await this.#use(`${volume}-r`, 'unstage', () => calls.unstage(this.#testNode, `${volume}-r`));
  }

  /** A thick raw block volume: written, snapshotted, grown, restored. */
  async raw(volume: string): Promise<void> {
    const testNode = this.#testNode;
    const { block: sizeBytes } = calls.sizes;
    await this.#create(volume, 'block', sizeBytes, undefined, { provisioning: 'thick' });
    await this.#use(volume, 'stage', () => calls.stage(testNode, volume, 'block'));
    for (const offset of [0, 3 * Number(MiB), 4096]) await this.#writeRaw(volume, offset);
    if (!this.#sharesBlocks) {
      await this.#use(volume, 'unstage', () => calls.unstage(testNode, volume));
    }
    await this.#snapshot(`${volume}-s`, volume);
    if (!this.#sharesBlocks) {
      await this.#use(volume, 'stage', () => calls.stage(testNode, volume, 'block'));
    }
    await this.#writeRaw(volume, 0);
    await this.#expand(volume, grownSizes.block);
    await this.#writeRaw(volume, 20 * Number(MiB));
    await this.#use(volume, 'unstage', () => calls.unstage(testNode, volume));
    await this.#create(`${volume}-r`, 'block', sizeBytes, {
      kind: 'snapshot',
      name: `${volume}-s`,
    });
  }

  /** The calls that dockerd makes. */
  async docker(volume: string): Promise<void> {
    const testNode = this.#testNode;
    const sizeBytes = Number(calls.sizes.ext4);
    await this.#acknowledge({ kind: 'create', volume, type: 'ext4', sizeBytes }, () =>
      testNode.docker('Create', { Name: volume, Opts: { size: `${sizeBytes}` } }),
    );
    const mount = { Name: volume, ID: 'one' };
    await this.#use(volume, 'mount', () => testNode.docker('Mount', mount));
    const directory = testNode.pathOf('docker', calls.volumeIdOf(volume));
    await this.#writeTo(directory, volume, 'first');
    await this.#use(volume, 'unmount', () => testNode.docker('Unmount', mount));
    await this.#use(volume, 'mount', () => testNode.docker('Mount', mount));
    await this.#writeTo(directory, volume, 'second');
    await this.#use(volume, 'unmount', () => testNode.docker('Unmount', mount));
  }

  /** A group snapshot of idle volumes, which is then deleted. */
  async group(group: string, volumes: readonly string[]): Promise<void> {
    const members: readonly GroupMember[] = volumes.map((volume) => ({
      snapshot: `${group}/${calls.volumeIdOf(volume)}`,
      volume,
    }));
    await this.#acknowledge({ kind: 'group', group, members }, () =>
      calls.groupSnapshot(this.#testNode, group, volumes),
    );
    await this.#acknowledge({ kind: 'delete-group', group }, () =>
      calls.deleteGroup(this.#testNode, group, volumes),
    );
  }

  /** Deletes the volumes and snapshots that the round left. */
  async clear(round: number): Promise<void> {
    for (const snapshot of [`a${round}-s`, `b${round}-s`]) {
      await this.#acknowledge({ kind: 'delete-snapshot', snapshot }, () =>
        calls.deleteSnapshot(this.#testNode, snapshot),
      );
    }
    const csi = [`a${round}`, `a${round}-c`, `a${round}-r`, `b${round}`, `b${round}-r`];
    for (const volume of csi) {
      await this.#acknowledge({ kind: 'delete', volume }, () =>
        calls.destroy(this.#testNode, volume),
      );
    }
    const volume = `d${round}`;
    await this.#acknowledge({ kind: 'delete', volume }, () =>
      this.#testNode.docker('Remove', { Name: volume }),
    );
  }

  async #create(
    volume: string,
    type: Kind,
    sizeBytes: bigint,
    source?: { kind: 'snapshot' | 'volume'; name: string },
    parameters: Readonly<Record<string, string>> = {},
  ): Promise<void> {
    const from =
      source === undefined
        ? {}
        : source.kind === 'snapshot'
          ? { snapshot: source.name }
          : { volume: source.name };
    await this.#acknowledge(
      {
        kind: 'create',
        volume,
        type,
        sizeBytes: Number(sizeBytes),
        ...(source === undefined ? {} : { source }),
      },
      () => calls.create(this.#testNode, volume, { kind: type, sizeBytes, parameters, ...from }),
    );
  }

  async #snapshot(snapshot: string, volume: string): Promise<void> {
    await this.#acknowledge({ kind: 'snapshot', snapshot, volume }, () =>
      calls.snapshot(this.#testNode, snapshot, volume, { freeze: 'yes' }),
    );
  }

  async #expand(volume: string, sizeBytes: bigint): Promise<void> {
    await this.#acknowledge({ kind: 'expand', volume, sizeBytes: Number(sizeBytes) }, async () => {
      await calls.expand(this.#testNode, volume, sizeBytes);
      await calls.nodeExpand(this.#testNode, volume, sizeBytes);
    });
  }

  async #release(volume: string): Promise<void> {
    await this.#use(volume, 'unpublish', () => calls.unpublish(this.#testNode, volume));
    await this.#use(volume, 'unstage', () => calls.unstage(this.#testNode, volume));
  }

  async #use(volume: string, call: string, make: () => Promise<unknown>): Promise<void> {
    await this.#acknowledge({ kind: 'use', volume, call }, make);
  }

  async #write(volume: string, file: string): Promise<void> {
    await this.#writeTo(await this.#testNode.stagingPathOf(volume), volume, file);
  }

  async #writeTo(directory: string, volume: string, place: string): Promise<void> {
    const text = this.#textFor(volume, 200);
    await this.#acknowledge({ kind: 'write', volume, place, text }, () =>
      calls.writeSynced(directory, place, text),
    );
  }

  async #writeRaw(volume: string, offset: number): Promise<void> {
    const text = this.#textFor(volume, 100);
    await this.#acknowledge({ kind: 'write', volume, place: `${offset}`, text }, async () => {
      const device = await open(join(await this.#testNode.stagingPathOf(volume), 'device'), 'r+');
      try {
        await device.write(text, offset);
        await device.sync();
      } finally {
        await device.close();
      }
    });
  }

  /** Every text is unique. */
  #textFor(volume: string, repeats: number): string {
    this.#texts += 1;
    return `${volume} ${this.#texts} `.repeat(repeats);
  }
}
