/**
 * A pod may write anything to its raw block volume: docs/security.md, "Hostile content". These tests write content that udev,
 * LVM, md and btrfs of a Debian machine use, with the project's udev rule and without it.
 */
import { mkdir, mkdtemp, readdir, readFile, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { execa } from 'execa';
import { type NodeFixture, withFixture } from '../../helpers/node-fixture.ts';
import * as content from './foreign-content.ts';
import * as udev from './udev.ts';

const ok = { code: 'OK', message: '' };
const hostUuid = '11111111-2222-4333-8444-555555555555';
const hostBtrfsUuid = 'bbbbbbbb-cccc-4ddd-8eee-ffffffffffff';
const volumeUuid = '66666666-7777-4888-9999-aaaaaaaaaaaa';

const images = {
  'a volume group with a name of its own': (device: string) =>
    content.makeVolumeGroup(device, content.foreignGroup),
  "a volume group with the name of the host's": (device: string) =>
    content.makeVolumeGroup(device, content.hostGroup),
  'one of two members of an md array': (device: string) => content.makeArray(device, 'half'),
  'an md array': (device: string) => content.makeArray(device, 'whole'),
  "an ext4 with the UUID of one of the host's": (device: string) =>
    content.makeExt4(device, hostUuid),
  "a btrfs with the UUID of one of the host's": (device: string) =>
    content.makeBtrfs(device, hostBtrfsUuid, 3),
  'a partition table': content.makePartition,
} as const;
type Content = keyof typeof images;
const contents = Object.keys(images) as readonly Content[];

let directory = '';
let daemon: { stop(): Promise<void> } | undefined;

const imageOf = (name: Content): string => join(directory, `${contents.indexOf(name)}.img`);

test.before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'loopcsi-content-'));
  await content.makeVolumeGroup(await realpath('/dev/vm/host-vg'), content.hostGroup);
  await content.makeExt4('/dev/vm/host-fs', hostUuid);
  for (const name of contents) await content.makeImage(imageOf(name), images[name]);
  // This one is made last, since mkfs.btrfs refuses a UUID that another device has.
  await content.makeBtrfs('/dev/vm/host-btrfs', hostBtrfsUuid, 1);
  daemon = await udev.startUdev();
  await udev.installRule();
});

test.after.always(async () => {
  // LVM waits for udev to process its events, so udev runs until the end.
  await execa('vgchange', ['--activate', 'n', content.hostGroup], { reject: false });
  if (daemon !== undefined) await udev.removeRule();
  await daemon?.stop();
  await rm(directory, { recursive: true, force: true });
});

/** The names of all device-mapper devices. */
async function mappedDevices(): Promise<readonly string[]> {
  const names = await readdir('/dev/mapper');
  return names.filter((name) => name !== 'control').sort();
}

async function arrays(): Promise<readonly string[]> {
  const lines = (await readFile('/proc/mdstat', 'utf8')).split('\n');
  return lines.filter((line) => /^md\d+ : active/.test(line));
}

const holdersOf = (device: string): Promise<string[]> =>
  readdir(`/sys/block/${basename(device)}/holders`);

const hostDevices = [`${content.hostGroup}-data`];

/** Mounts the host's btrfs, and checks that its content is the host's: returns `ok`, or a description of the difference. */
async function hostBtrfs(): Promise<string> {
  const target = join(directory, 'host-btrfs');
  await mkdir(target, { recursive: true });
  const mount = await execa('mount', ['/dev/vm/host-btrfs', target], { reject: false });
  if (mount.failed) return mount.stderr;
  const changes = await readFile(join(target, 'changes'), 'utf8');
  await execa('umount', [target]);
  return changes === '1\n' ? 'ok' : `another one, with ${changes.trim()} changes, was mounted`;
}

/** Asserts that the host uses its own group and filesystems, and has not acted on the volume's content. */
async function assertLeftAlone(t: ExecutionContext, device: string, when: string): Promise<void> {
  await udev.settleUdev();
  t.deepEqual(await mappedDevices(), hostDevices, `${when}: mapped devices`);
  t.deepEqual(await arrays(), [], `${when}: arrays`);
  t.deepEqual(await holdersOf(device), [], `${when}: holders`);
  t.deepEqual(await udev.linksTo(device), [], `${when}: links`);
  const found = [...(await udev.propertiesOf(device)).keys()];
  t.deepEqual(
    found.filter((name) => /^(?:ID_FS_|ID_PART_|ID_BTRFS_|MD_|LVM_)/.test(name)),
    [],
    `${when}: properties`,
  );
  t.is(await realpath(`/dev/disk/by-uuid/${hostUuid}`), await realpath('/dev/vm/host-fs'), when);
  t.is(await hostBtrfs(), 'ok', when);
  const partitions = (await readdir(`/sys/block/${basename(device)}`)).filter((name) =>
    name.startsWith(basename(device)),
  );
  t.deepEqual(partitions, [], `${when}: partitions`);
}

async function takeInUse(t: ExecutionContext, fixture: NodeFixture): Promise<string> {
  t.deepEqual(await fixture.stage('v', 'block'), ok);
  t.deepEqual(await fixture.publish('v', 'block'), ok);
  const [device = ''] = await fixture.devicesOf('v');
  await udev.settleUdev();
  return device;
}

/** Writes as a pod does, through the device at the volume's target. */
async function writeContent(fixture: NodeFixture, name: Content): Promise<void> {
  const to = `of=${fixture.targetOf('v')}`;
  await execa('dd', [`if=${imageOf(name)}`, to, 'bs=1M', 'conv=fsync,notrunc,sparse']);
  await udev.settleUdev();
}

async function endUse(t: ExecutionContext, fixture: NodeFixture): Promise<void> {
  t.deepEqual(await fixture.unpublish('v'), ok);
  t.deepEqual(await fixture.unstage('v'), ok);
  t.deepEqual(await fixture.devicesOf('v'), []);
}

/** Runs a test with a block volume that has this content and is not in use. */
async function withContent(
  t: ExecutionContext,
  name: Content,
  run: (fixture: NodeFixture) => Promise<void>,
): Promise<void> {
  await withFixture(t, async (fixture) => {
    await udev.installRule();
    const sizeBytes = content.contentBytes;
    t.deepEqual(await fixture.create('v', 'block', { sizeBytes }), ok);
    await takeInUse(t, fixture);
    await writeContent(fixture, name);
    await endUse(t, fixture);
    await run(fixture);
    t.deepEqual(await fixture.delete('v'), ok);
  });
}

for (const name of contents) {
  test.serial(`with the udev rule the host does not use ${name}`, async (t) => {
    await withFixture(t, async (fixture) => {
      await udev.installRule();
      const sizeBytes = content.contentBytes;
      t.deepEqual(await fixture.create('v', 'block', { sizeBytes }), ok);
      const first = await takeInUse(t, fixture);
      await writeContent(fixture, name);
      await assertLeftAlone(t, first, 'after the write');
      await endUse(t, fixture);
      const second = await takeInUse(t, fixture);
      await assertLeftAlone(t, second, 'after it was attached again');
      await udev.triggerUdev();
      await assertLeftAlone(t, second, 'after udev has processed every device again');
      await endUse(t, fixture);
      t.deepEqual(await fixture.delete('v'), ok);
    });
  });
}

test.serial(
  'with the udev rule there is no link for the UUID of a filesystem volume or its copy',
  async (t) => {
    await withFixture(t, async (fixture) => {
      await udev.installRule();
      for (const answer of await fixture.use('m', 'ext4')) t.deepEqual(answer, ok);
      t.deepEqual(await fixture.unpublish('m'), ok);
      t.deepEqual(await fixture.unstage('m'), ok);
      // Sets a known UUID, since the driver chooses a random one.
      await execa('tune2fs', ['-f', '-U', volumeUuid, fixture.imageOf('m')]);
      for (const answer of [await fixture.stage('m'), await fixture.publish('m')])
        t.deepEqual(answer, ok);
      t.deepEqual(await fixture.create('v', 'block', { sizeBytes: content.contentBytes }), ok);
      const device = await takeInUse(t, fixture);
      await content.makeExt4(fixture.targetOf('v'), volumeUuid);
      await assertLeftAlone(t, device, 'when it was written');
      const known = await readdir('/dev/disk/by-uuid');
      t.false(known.includes(volumeUuid), 'neither of them has a link');
      await fixture.write('m', 'still here');
      t.is(await readFile(join(fixture.targetOf('m'), 'mark'), 'utf8'), 'still here');
      await endUse(t, fixture);
      t.deepEqual(await fixture.unpublish('m'), ok);
      t.deepEqual(await fixture.unstage('m'), ok);
    });
  },
);

/** Asserts that unstage is refused while the host uses the device, and succeeds after `release`. */
async function assertInUseUntil(
  t: ExecutionContext,
  fixture: NodeFixture,
  holder: string,
  release: () => Promise<unknown>,
): Promise<void> {
  t.deepEqual(await fixture.unpublish('v'), ok);
  const refused = await fixture.unstage('v');
  t.is(refused.code, 'ABORTED');
  t.true(refused.message.includes(`is still in use by ${holder}`), refused.message);
  await release();
  await udev.settleUdev();
  await udev.installRule();
  t.deepEqual(await fixture.unstage('v'), ok);
  t.deepEqual(await fixture.devicesOf('v'), []);
}

test.serial(
  'without the udev rule a volume group is activated, and its volume stays in use',
  async (t) => {
    await withContent(t, 'a volume group with a name of its own', async (fixture) => {
      await udev.removeRule();
      const device = await takeInUse(t, fixture);
      t.deepEqual(await mappedDevices(), [`${content.foreignGroup}-data`, ...hostDevices]);
      const [holder = ''] = await holdersOf(device);
      t.regex(holder, /^dm-\d+$/);
      await assertInUseUntil(t, fixture, `${holder} (${content.foreignGroup}-data)`, () =>
        execa('vgchange', ['-an', content.foreignGroup]),
      );
    });
  },
);

for (const name of ['one of two members of an md array', 'an md array'] as const) {
  test.serial(
    `without the udev rule ${name} is assembled, and its volume stays in use`,
    async (t) => {
      await withContent(t, name, async (fixture) => {
        await udev.removeRule();
        const device = await takeInUse(t, fixture);
        const [holder = ''] = await holdersOf(device);
        t.regex(holder, /^md\d+$/);
        await assertInUseUntil(t, fixture, holder, () =>
          execa('mdadm', ['--stop', `/dev/${holder}`]),
        );
      });
    },
  );
}

test.serial("without the udev rule a volume gets the link of the host's filesystem", async (t) => {
  await withContent(t, "an ext4 with the UUID of one of the host's", async (fixture) => {
    await udev.removeRule();
    const device = await takeInUse(t, fixture);
    const links = (await udev.propertiesOf(device)).get('DEVLINKS')?.split(' ') ?? [];
    t.true(links.includes(`/dev/disk/by-uuid/${hostUuid}`), links.join(' '));
    await udev.installRule();
    await endUse(t, fixture);
    await udev.triggerUdev();
    t.is(await realpath(`/dev/disk/by-uuid/${hostUuid}`), await realpath('/dev/vm/host-fs'));
  });
});

test.serial("without the udev rule a volume's btrfs is registered with the kernel", async (t) => {
  await withContent(t, "a btrfs with the UUID of one of the host's", async (fixture) => {
    await udev.removeRule();
    const device = await takeInUse(t, fixture);
    t.true((await udev.propertiesOf(device)).has('ID_BTRFS_READY'));
    // Which device the kernel mounts differs between kernels, and from one mount to the next.
    t.log(`the host mounts its btrfs: ${await hostBtrfs()}`);
    await udev.installRule();
    await endUse(t, fixture);
    await execa('btrfs', ['device', 'scan', '--forget']);
    t.is(await hostBtrfs(), 'ok');
  });
});

test.serial('without the udev rule a btrfs volume shows only its own content', async (t) => {
  await withFixture(t, async (fixture) => {
    for (const answer of await fixture.use('m', 'btrfs')) t.deepEqual(answer, ok);
    await fixture.write('m', 'its own');
    t.deepEqual(await fixture.unpublish('m'), ok);
    t.deepEqual(await fixture.unstage('m'), ok);
    const onlyUuid = ['--probe', '--match-tag=UUID', '--output=value'];
    const { stdout: uuid } = await execa('blkid', [...onlyUuid, fixture.imageOf('m')]);

    t.deepEqual(await fixture.create('v', 'block', { sizeBytes: content.contentBytes }), ok);
    const device = await takeInUse(t, fixture);
    await content.makeBtrfs(device, uuid, 3);
    await endUse(t, fixture);
    await udev.removeRule();
    await takeInUse(t, fixture);
    const staged = await fixture.stage('m', 'btrfs');
    t.log(staged);
    if (staged.code === 'OK') {
      t.deepEqual(await fixture.publish('m', 'btrfs'), ok);
      t.is(await readFile(join(fixture.targetOf('m'), 'mark'), 'utf8'), 'its own');
      t.deepEqual(await fixture.unpublish('m'), ok);
      t.deepEqual(await fixture.unstage('m'), ok);
    } else {
      t.is(staged.code, 'FAILED_PRECONDITION');
      t.regex(staged.message, /has the UUID \S+, and so has/);
    }
    await udev.installRule();
    await endUse(t, fixture);
    await execa('btrfs', ['device', 'scan', '--forget']);
    t.deepEqual(await fixture.stage('m', 'btrfs'), ok);
    t.deepEqual(await fixture.unstage('m'), ok);
  });
});

const filterOfDocs = 'devices { global_filter = [ "r|^/dev/loop|" ] }';

test.serial("LVM's commands ignore udev: they need the filter in the docs", async (t) => {
  await withContent(t, "a volume group with the name of the host's", async (fixture) => {
    const device = await takeInUse(t, fixture);
    await assertLeftAlone(t, device, 'with the rule');
    const volume = `${content.hostGroup}/data`;
    const filter = ['--config', filterOfDocs];
    const tags = async (): Promise<string> => {
      const { stdout } = await execa('lvs', [...filter, '--noheadings', '-o', 'lv_tags', volume]);
      return stdout.trim();
    };
    // lvchange exits with 0 although it skips the group.
    const skipped = await execa('lvchange', ['--addtag', 'tested', volume], { reject: false });
    t.regex(skipped.stderr, /Multiple VGs found with the same name: skipping hostvg/);
    t.is(await tags(), '');
    await execa('lvchange', [...filter, '--addtag', 'tested', volume]);
    t.is(await tags(), 'tested');
    await endUse(t, fixture);
  });
});

test.serial("md's scan ignores udev: it needs one of the lines in the docs", async (t) => {
  await withContent(t, 'one of two members of an md array', async (fixture) => {
    const device = await takeInUse(t, fixture);
    const scan = async (lines: string): Promise<void> => {
      const file = join(directory, 'mdadm.conf');
      await mkdir(directory, { recursive: true });
      await execa('tee', [file], { input: `${lines}\n` });
      const args = ['--assemble', '--scan', `--config=${file}`];
      await execa('mdadm', args, { reject: false });
      await udev.settleUdev();
    };
    for (const lines of ['AUTO -all', 'DEVICE /dev/sd* /dev/nvme*']) {
      await scan(lines);
      t.deepEqual(await holdersOf(device), [], lines);
    }
    await scan('DEVICE partitions');
    const [holder = ''] = await holdersOf(device);
    t.regex(holder, /^md\d+$/);
    await assertInUseUntil(t, fixture, holder, () => execa('mdadm', ['--stop', `/dev/${holder}`]));
  });
});
