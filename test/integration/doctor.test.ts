import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MiB } from '../../src/units.ts';
import type { Finding } from '../../src/volumes/admin/doctor.ts';
import { checkLeftovers } from '../../src/volumes/admin/doctor-leftovers.ts';
import { checkMachine } from '../../src/volumes/admin/doctor-machine.ts';
import { onNode } from '../helpers/on-node.ts';
import {
  call,
  mountVolume,
  type ScratchNode,
  scratchNode,
  unmountVolume,
  volumeInput,
} from '../helpers/scratch-node.ts';

async function makeVolume(node: ScratchNode, name: string): Promise<string> {
  const input = volumeInput(name, { sizeBytes: 16n * MiB });
  return (await node.volumes.createVolume(call(), input)).record.id;
}

async function leftovers(node: ScratchNode): Promise<readonly Finding[]> {
  const findings = await checkLeftovers(node.domain);
  return findings.filter(({ state }) => state !== 'ok');
}

/** Attaches a device with the driver's label, but not through the driver. */
const attach = (node: ScratchNode, image: string) =>
  node.host.loops.attach(image, {
    sectorSize: 4096,
    readOnly: false,
    directIo: true,
    discard: true,
    label: 'stray',
  });

onNode('a node in use has no leftovers', async (t) => {
  const node = await scratchNode(t);
  const id = await makeVolume(node, 'used');
  await makeVolume(node, 'idle');
  const paths = await mountVolume(node, id);
  t.deepEqual(await leftovers(node), []);
  await unmountVolume(node, id, paths);
  t.deepEqual(await leftovers(node), []);
});

onNode(
  'a device that is attached to a file of the pool without a record is reported with its file',
  async (t) => {
    const node = await scratchNode(t);
    const image = join(node.poolPath, 'volumes', 'gone.img');
    await node.host.files.createImage(image, { sizeBytes: 16n * MiB, allocate: false });
    const device = await attach(node, image);
    const [finding, ...others] = await leftovers(node);
    const id = await makeVolume(node, 'used');
    const paths = await mountVolume(node, id);
    const [left, stray, ...more] = await node.administration.listLeftovers();
    t.like(left, { kind: 'loop-device', path: device.path });
    t.regex(left?.remedy ?? '', /find out what .* is; if it is not needed, run 'losetup --detach/);
    t.like(stray, { kind: 'entry-without-record', path: image });
    t.deepEqual(more, [], 'the volume in use is not left over');
    await node.host.files.removeFile(image);
    const removed = await node.administration.removeLeftovers([device.path]);
    t.deepEqual(removed, [{ path: device.path, problem: '' }]);
    t.is(await node.host.loops.at(device.number), undefined);
    await unmountVolume(node, id, paths);
    t.deepEqual(others, []);
    t.is(finding?.name, `loop-device:${device.path}`);
    t.true(finding?.message.includes(image));
    t.regex(finding?.remedy ?? '', /losetup --detach/);
  },
);

onNode('a volume that is attached but not mounted is reported', async (t) => {
  const node = await scratchNode(t);
  const id = await makeVolume(node, 'attached');
  const device = await attach(node, join(node.poolPath, 'volumes', id, 'disk.img'));
  const [finding] = await leftovers(node);
  await node.host.loops.detach(device);
  t.is(finding?.name, `loop-device:${device.path}`);
  t.regex(finding?.message ?? '', /not mounted in this mount namespace/);
});

onNode('incomplete entries, unreadable records and truncated images are reported', async (t) => {
  const node = await scratchNode(t);
  const id = await makeVolume(node, 'truncated');
  const record = join(node.poolPath, 'volumes', 'broken.562f2833', 'volume.json');
  await mkdir(join(node.poolPath, 'volumes', 'broken.562f2833'));
  await writeFile(record, '{"half":');
  await node.restart();
  await mkdir(join(node.poolPath, 'tmp', 'incomplete'));
  await writeFile(join(node.poolPath, 'volumes', id, 'disk.img'), '');
  const findings = await leftovers(node);
  t.deepEqual(findings.map(({ name }) => name).sort(), [
    'pool:default:record',
    'pool:default:tmp',
    'volume:truncated',
  ]);
  for (const { name, remedy } of findings) t.not(remedy, '', name);
  t.is(await readFile(record, 'utf8'), '{"half":', 'the record is unchanged');
});

onNode('the machine that runs these tests passes all checks', async (t) => {
  const node = await scratchNode(t);
  const findings = await checkMachine(node.host);
  t.deepEqual(
    findings.filter(({ state }) => state === 'fail'),
    [],
  );
  t.true(findings.some(({ name }) => name === 'loop-control'));
});
