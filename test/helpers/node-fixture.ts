/** A test node for black-box tests: the built driver behind its socket, and the state on disk and in the kernel. */
import { open, readdir, readFile, readlink, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { MiB } from '../../src/units.ts';
import { volumeIdOf } from '../crash/calls.ts';
import {
  blockCapability,
  mountCapability,
  TestNode,
  type TestNodeOptions,
} from '../crash/test-node.ts';
import { type Answer, answerOf } from './answer.ts';
import type { StopUse } from './other-software.ts';
import { devicesBelow } from './scratch-pool.ts';
import { scaledMs } from './slowness.ts';

export type FixtureOptions = Partial<TestNodeOptions>;
export type VolumeKind = '' | 'ext4' | 'xfs' | 'btrfs' | 'block';

const sizes = { '': 32n, ext4: 32n, xfs: 300n, btrfs: 128n, block: 16n } as const;
const within = { timeoutMs: scaledMs(60_000) };

/** Whether the kernel detaches the device at its last close; undefined when no image is attached to it. */
export async function autoclearOf(device: string): Promise<boolean | undefined> {
  const path = `/sys/block/${basename(device)}/loop/autoclear`;
  const text = await readFile(path, 'utf8').catch(() => undefined);
  return text === undefined ? undefined : text.trim() === '1';
}

export const numberOf = (device: string): number => Number(device.replace('/dev/loop', ''));

/** Calls return their code instead of throwing, because most tests expect errors. */
export class NodeFixture {
  readonly testNode: TestNode;
  readonly #otherSoftware: StopUse[] = [];

  constructor(testNode: TestNode) {
    this.testNode = testNode;
  }

  /** Starts an action of other software, which ends when the fixture ends, at the latest. */
  async startUse(action: Promise<StopUse>): Promise<StopUse> {
    const stopUse = await action;
    this.#otherSoftware.push(stopUse);
    return stopUse;
  }

  async end(): Promise<readonly string[]> {
    for (const stopUse of this.#otherSoftware.reverse()) await stopUse();
    return this.testNode.end();
  }

  capabilityOf(kind: VolumeKind) {
    return kind === 'block' ? blockCapability : mountCapability(kind);
  }

  async create(
    name: string,
    kind: VolumeKind = 'ext4',
    options: { sizeBytes?: bigint; parameters?: Record<string, string> } = {},
  ): Promise<Answer> {
    return answerOf(
      this.testNode.controller.CreateVolume(
        {
          name,
          capacity_range: { required_bytes: options.sizeBytes ?? sizes[kind] * MiB },
          volume_capabilities: [this.capabilityOf(kind)],
          parameters: options.parameters ?? {},
        },
        within,
      ),
    );
  }

  async delete(name: string): Promise<Answer> {
    return answerOf(this.testNode.controller.DeleteVolume({ volume_id: volumeIdOf(name) }, within));
  }

  async expand(name: string, sizeBytes: bigint): Promise<Answer> {
    return answerOf(
      this.testNode.controller.ControllerExpandVolume(
        { volume_id: volumeIdOf(name), capacity_range: { required_bytes: sizeBytes } },
        within,
      ),
    );
  }

  async stage(name: string, kind: VolumeKind = 'ext4'): Promise<Answer> {
    const request = {
      volume_id: volumeIdOf(name),
      staging_target_path: await this.testNode.stagingPathOf(name),
      volume_capability: this.capabilityOf(kind),
    };
    return answerOf(this.testNode.node.NodeStageVolume(request, within));
  }

  async unstage(name: string): Promise<Answer> {
    const request = {
      volume_id: volumeIdOf(name),
      staging_target_path: await this.testNode.stagingPathOf(name),
    };
    return answerOf(this.testNode.node.NodeUnstageVolume(request, within));
  }

  targetOf(target: string): string {
    return this.testNode.pathOf('targets', target);
  }

  async publish(
    name: string,
    kind: VolumeKind = 'ext4',
    { target = name, readOnly = false } = {},
  ): Promise<Answer> {
    const request = {
      volume_id: volumeIdOf(name),
      staging_target_path: await this.testNode.stagingPathOf(name),
      target_path: this.targetOf(target),
      volume_capability: this.capabilityOf(kind),
      readonly: readOnly,
    };
    return answerOf(this.testNode.node.NodePublishVolume(request, within));
  }

  async unpublish(name: string, target = name): Promise<Answer> {
    const request = { volume_id: volumeIdOf(name), target_path: this.targetOf(target) };
    return answerOf(this.testNode.node.NodeUnpublishVolume(request, within));
  }

  /** The reasons of the volume's health conditions. */
  async healthOf(name: string): Promise<readonly string[]> {
    const { volume_health } = await this.testNode.controller.ControllerGetVolumeHealth(
      { volume_id: volumeIdOf(name) },
      within,
    );
    return (volume_health?.health_statuses ?? []).map(({ reason }) => reason);
  }

  /** Creates, stages and publishes a volume. */
  async use(name: string, kind: VolumeKind = 'ext4'): Promise<readonly Answer[]> {
    return [
      await this.create(name, kind),
      await this.stage(name, kind),
      await this.publish(name, kind),
    ];
  }

  /** The volume's devices, read-write and read-only. */
  async devicesOf(name: string): Promise<readonly string[]> {
    const below = await devicesBelow(this.testNode.directory);
    return below
      .filter(({ image }) => image.includes(`/${volumeIdOf(name)}/`))
      .map(({ device }) => device);
  }

  /** The path of a volume's image. */
  imageOf(name: string, pool = 'pool'): string {
    return this.testNode.pathOf(pool, 'volumes', volumeIdOf(name), 'disk.img');
  }

  /** The text at the start of a raw block target. */
  async readMark(target: string): Promise<string> {
    const handle = await open(this.targetOf(target));
    try {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(4096), 0, 4096, 0);
      return buffer.subarray(0, bytesRead).toString('latin1').replace(/\0.*$/s, '');
    } finally {
      await handle.close();
    }
  }

  /** Writes a text to the start of a raw block target, and syncs it to the image. */
  async writeMark(target: string, text: string): Promise<void> {
    const handle = await open(this.targetOf(target), 'r+');
    try {
      await handle.write(Buffer.alloc(4096, 0).fill(text, 0, text.length), 0, 4096, 0);
      await handle.sync();
    } finally {
      await handle.close();
    }
  }

  async write(target: string, text: string): Promise<void> {
    await writeFile(join(this.targetOf(target), 'mark'), text, { flush: true });
  }

  /** Files below the fixture's directory, and loop devices, that the driver has open. */
  async descriptors(): Promise<readonly string[]> {
    const directory = `/proc/${this.testNode.driver.pid}/fd`;
    const links = await Promise.all(
      (await readdir(directory)).map((fd) => readlink(join(directory, fd)).catch(() => '')),
    );
    return links.filter(
      (link) => link.startsWith(`${this.testNode.directory}/`) || link.startsWith('/dev/loop'),
    );
  }
}

/** Runs a test on a new node, and removes the node even if the test fails. */
export async function withFixture(
  t: ExecutionContext,
  run: (fixture: NodeFixture) => Promise<void>,
  options: FixtureOptions = {},
): Promise<void> {
  t.timeout(4 * 60_000);
  const fixture = new NodeFixture(
    await TestNode.make({ poolFs: 'directory', isPlain: true, ...options }),
  );
  try {
    await run(fixture);
  } catch (error) {
    t.log((await fixture.testNode.driver.log()).slice(-3_000));
    throw error;
  } finally {
    await fixture.end();
  }
}
