import { randomUUID } from 'node:crypto';
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { driverLane, laneWithin } from '../../src/host/lane.ts';
import { makeRealHost } from '../../src/host/real-host.ts';
import { MiB } from '../../src/units.ts';

/**
 * Attaches, mounts, binds, unmounts and detaches several images at once. Two of these processes at the same time compete for
 * the same loop numbers. Prints the errors as JSON.
 */
const [directory = '', lanes = '8', rounds = '12'] = process.argv.slice(2);
const host = makeRealHost();

async function churn(lane: number): Promise<readonly string[]> {
  const { files, loops, mounts, filesystems } = host.inLane(laneWithin(driverLane, `lane ${lane}`));
  const [image, staging, target] = [`${lane}.img`, `staging-${lane}`, `target-${lane}`].map(
    (name) => join(directory, name),
  );
  if (image === undefined || staging === undefined || target === undefined) return [];
  await mkdir(staging);
  await mkdir(target);
  await files.createImage(image, { sizeBytes: 16n * MiB, allocate: false });
  await filesystems.ext4.make(image, {
    sectorSize: 4096,
    thick: false,
    uuid: randomUUID(),
    options: [],
  });
  const identity = await files.imageStatus(image);
  const wrong: string[] = [];
  for (let round = 0; round < Number(rounds); round += 1) {
    const device = await loops.attach(image, {
      sectorSize: 4096,
      readOnly: false,
      directIo: true,
      // Every third image is thick: the driver removes its loop number and adds it again.
      discard: (lane + round) % 3 !== 0,
      label: 'churn',
    });
    const found = await loops.findByImage(identity);
    if (found.length !== 1 || found[0]?.number !== device.number)
      wrong.push(`found ${found.length} devices`);
    await mounts.mountDevice(device.path, staging, { fsType: 'ext4', options: [] });
    await mounts.bind(staging, target, { readOnly: false });
    await mounts.unmount(target);
    await mounts.unmount(staging);
    const outcome = await loops.detach(device);
    if (outcome !== 'detached') wrong.push(outcome);
  }
  return wrong;
}

const openBefore = (await readdir('/proc/self/fd')).length;
const all = Array.from({ length: Number(lanes) }, (_, lane) => churn(lane));
const wrong = (await Promise.all(all)).flat();
// /dev/loop-control and the descriptors that the first program run needed stay open.
const openMore = (await readdir('/proc/self/fd')).length - openBefore;
process.stdout.write(JSON.stringify({ wrong, hasLeaks: openMore > 4 }));
