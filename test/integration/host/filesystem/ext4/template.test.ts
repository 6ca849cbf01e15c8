import { randomUUID } from 'node:crypto';
import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { Ext4, Ext4State } from '../../../../../src/host/filesystem/ext4/ext4.ts';
import { ext4MakeArguments } from '../../../../../src/host/filesystem/ext4/mkfs-args.ts';
import {
  type Ext4Identity,
  type Ext4Template,
  instantiate,
  makeTemplate,
} from '../../../../../src/host/filesystem/ext4/template.ts';
import {
  Ext4Templates,
  writeTemplate,
} from '../../../../../src/host/filesystem/ext4/template-cache.ts';
import { formatUuid } from '../../../../../src/host/filesystem/uuid.ts';
import { driverLane } from '../../../../../src/host/lane.ts';
import { makeRun } from '../../../../../src/host/programs/run.ts';
import { GiB, MiB } from '../../../../../src/units.ts';
import { onNode } from '../../../../helpers/on-node.ts';
import {
  type Fixture,
  files,
  hashOf,
  isSound,
  readAt,
  tool,
  withFixture,
  writeAt,
} from '../fixture.ts';

interface Kind {
  readonly sizeBytes: bigint;
  readonly options: readonly string[];
}

const kinds: fc.Arbitrary<Kind> = fc.record({
  sizeBytes: fc
    .oneof(fc.integer({ min: 8, max: 64 }), fc.integer({ min: 65, max: 1100 }))
    .map((mib) => BigInt(mib) * MiB),
  options: fc
    .tuple(
      fc.constantFrom([], ['-i', '65536'], ['-N', '1000']),
      fc.constantFrom([], ['-I', '512'], ['-I', '1024']),
      fc.constantFrom([], ['-L', 'data']),
    )
    .map((words) => words.flat()),
});

/** An image made by mkfs.ext4 itself, never from a template. */
async function byMkfs(
  fixture: Fixture,
  { sizeBytes, options }: Kind,
  uuid: string,
): Promise<string> {
  const image = fixture.newPath();
  await files.createImage(image, { sizeBytes, allocate: false });
  const make = { sectorSize: 4096, thick: false, uuid, options } as const;
  const { exitCode } = await tool('mkfs.ext4', ext4MakeArguments(image, sizeBytes, make, true));
  if (exitCode !== 0) throw new Error(`mkfs.ext4 ended with ${exitCode}`);
  return image;
}

async function learnt(image: string, uuid: string): Promise<Ext4Template> {
  const templates = new Ext4Templates();
  await templates.store(driverLane, 'key', image, uuid);
  const template = templates.find('key');
  if (template === undefined) throw new Error(`${image} is not taken for a template`);
  return template;
}

/** Random values and times chosen by mkfs; undefined if the clock advanced by a second while it ran. */
async function identityOf(image: string, uuid: string): Promise<Ext4Identity | undefined> {
  const superblock = await readAt(image, 1024, 1024);
  const [written, checked, made] = [0x30, 0x40, 0x108].map((at) => superblock.readUInt32LE(at));
  if (written !== made || checked !== made) return undefined;
  const hashSeed = formatUuid(superblock.subarray(0xec, 0xfc));
  return { uuid, hashSeed, atMs: (made ?? 0) * 1000 };
}

async function write(image: string, template: Ext4Template, identity: Ext4Identity): Promise<void> {
  for (const { at, parts } of instantiate(template, identity)) {
    await writeAt(image, at, Buffer.concat(parts));
  }
}

onNode(
  'a template that gets the UUID of another mkfs run equals the image of that run, byte for byte',
  async (t) => {
    await fc.assert(
      fc.asyncProperty(kinds, async (kind) => {
        await withFixture(t, async (fixture) => {
          const uuid = randomUUID();
          const template = await learnt(await byMkfs(fixture, kind, uuid), uuid);
          let other: string;
          let identity: Ext4Identity | undefined;
          do {
            other = await byMkfs(fixture, kind, uuid);
            identity = await identityOf(other, uuid);
          } while (identity === undefined);
          const ours = fixture.newPath();
          await writeFile(ours, '');
          await truncate(ours, Number(kind.sizeBytes));
          await write(ours, template, identity);
          t.is((await tool('cmp', [ours, other])).exitCode, 0);
        });
      }),
      { numRuns: 6 },
    );
  },
);

onNode(
  'an image with its own UUID differs only where it must, and e2fsck finds no error',
  async (t) => {
    await fc.assert(
      fc.asyncProperty(kinds, async (kind) => {
        await withFixture(t, async (fixture) => {
          const [first, second] = [randomUUID(), randomUUID()];
          const made = await byMkfs(fixture, kind, first);
          const image = fixture.newPath();
          await files.createImage(image, { sizeBytes: kind.sizeBytes, allocate: false });
          await writeTemplate(driverLane, image, await learnt(made, first), second);
          t.true(await isSound('ext4', image));
          t.deepEqual(await described(image), await described(made));
          const told = (await tool('dumpe2fs', ['-h', image])).stdout;
          t.true(told.includes(second));
          t.not(seedIn(told), seedIn((await tool('dumpe2fs', ['-h', made])).stdout));
        });
      }),
      { numRuns: 6 },
    );
  },
);

/** The output of dumpe2fs without values that differ between filesystems. */
async function described(image: string): Promise<readonly string[]> {
  const { stdout } = await tool('dumpe2fs', [image]);
  const own =
    /^(Filesystem UUID|Directory Hash Seed|Filesystem created|Last write time|Last checked|Checksum):/;
  return stdout.split('\n').filter((line) => !own.test(line));
}

function seedIn(told: string): string | undefined {
  return /Directory Hash Seed: +(\S+)/.exec(told)?.[1];
}

onNode(
  'mkfs makes the first image of a kind, later ones are written; with features, mkfs always runs',
  async (t) => {
    await withFixture(t, async (fixture) => {
      let runs = 0;
      const ext4 = new Ext4(driverLane, makeRun({ onEnd: () => (runs += 1) }), new Ext4State());
      const make = async (sizeBytes: bigint, options: readonly string[] = [], thick = false) => {
        const image = fixture.newPath();
        const uuid = randomUUID();
        await files.createImage(image, { sizeBytes, allocate: thick });
        await ext4.make(image, { sectorSize: 4096, thick, uuid, options });
        t.like(await ext4.readSuperblock(image), { uuid, sizeBytes, state: 'clean' });
        t.true(await isSound('ext4', image));
        return image;
      };
      await make(GiB);
      t.is(runs, 1);
      const image = await make(GiB);
      t.is(runs, 1);
      t.true((await files.imageStatus(image)).allocatedBytes < MiB);
      await fixture.mounted('ext4', image, (target) =>
        writeFile(join(target, 'file'), 'content', { flush: true }),
      );
      t.true(await isSound('ext4', image));
      await make(512n * MiB);
      await make(GiB, ['-L', 'data']);
      t.is(runs, 3);
      const thick = await make(64n * MiB, [], true);
      const second = await make(64n * MiB, [], true);
      t.is(runs, 4);
      t.is(
        (await files.imageStatus(second)).allocatedBytes,
        (await files.imageStatus(thick)).allocatedBytes,
      );
      await make(64n * MiB, ['-O', 'orphan_file']);
      await make(64n * MiB, ['-O', 'orphan_file']);
      t.is(runs, 6);
    });
  },
);

for (const { what, at } of [
  { what: 'its superblock', at: 1024 + 0x90 },
  { what: 'a copy of it', at: 32_768 * 4096 + 0x90 },
  { what: 'the root’s inode', at: undefined },
]) {
  onNode(`an image with a wrong byte in ${what} is not used as a template`, async (t) => {
    await withFixture(t, async (fixture) => {
      const uuid = randomUUID();
      const image = await byMkfs(fixture, { sizeBytes: 512n * MiB, options: [] }, uuid);
      t.truthy(await learnt(image, uuid));
      const descriptor = await readAt(image, 4096, 64);
      const place = at ?? descriptor.readUInt32LE(8) * 4096 + 256 + 0x10;
      const [byte = 0] = await readAt(image, place, 1);
      await writeAt(image, place, Buffer.of(byte ^ 1));
      await t.throwsAsync(learnt(image, uuid));
    });
  });
}

onNode(
  'an image without ext4, with another UUID, or without a stored seed is not used as a template',
  async (t) => {
    t.is(makeTemplate([], randomUUID()), undefined);
    await withFixture(t, async (fixture) => {
      const uuid = randomUUID();
      const image = await byMkfs(fixture, { sizeBytes: 64n * MiB, options: [] }, uuid);
      await t.throwsAsync(learnt(image, randomUUID()));
      const before = await hashOf(image);
      await learnt(image, uuid);
      t.is(await hashOf(image), before);
      await tool('tune2fs', ['-O', '^metadata_csum_seed', image]);
      await t.throwsAsync(learnt(image, uuid));
    });
  },
);
