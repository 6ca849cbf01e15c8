import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { MiB } from '../../src/units.ts';
import { type Lab, makeNode, type NodeSpace, openLab } from '../docker/lab.ts';
import { processesInCgroup } from '../docker/processes.ts';
import { devicesBelow, mountsBelow } from '../helpers/scratch-pool.ts';
import { type CsiDriver, startCsiDriver } from './driver.ts';
import { podLinks, type Runtime, startRuntime } from './runtime.ts';

/** Tests the driver with containerd's CRI and a CNI bridge, without Kubernetes. */
let lab: Lab;
let node: NodeSpace;
let driver: CsiDriver;
let runtime: Runtime;

test.before(async () => {
  lab = await openLab();
  node = await makeNode(lab, 'a');
  driver = await startCsiDriver(lab, node);
  runtime = await startRuntime(lab, node);
});
test.after.always('nothing is left behind', async () => {
  const left = await lab.close();
  if (left.length > 0) throw new Error(`left behind: ${left.join('; ')}`);
});

/** A directory of a pod, such as the kubelet creates for each volume. */
async function podDirectory(pod: string): Promise<string> {
  const directory = join(node.directory, 'pods', pod);
  await mkdir(directory, { recursive: true });
  return directory;
}

const waitFor = (path: string): string => `until test -s ${path}; do sleep 0.05; done; cat ${path}`;

test.serial('two pods reach each other over the bridge and share one volume', async (t) => {
  const volume = await driver.make('shared', 64n * MiB);
  const targets = await Promise.all(
    ['one', 'two'].map(async (pod) => join(await podDirectory(pod), 'shared')),
  );
  for (const target of targets) await driver.publish(volume, target);
  const [first = '', second = ''] = targets;
  const serve = 'mkdir -p /www && hostname >/www/name && exec httpd -f -h /www';
  const at = (hostPath: string) => [{ hostPath, containerPath: '/data' }];
  const one = await runtime.pod('one', { mounts: at(first), script: serve });
  const two = await runtime.pod('two', { mounts: at(second), script: serve });
  t.not(one.address, two.address);
  const fetch = (address: string): string =>
    `until wget -q -O /tmp/name http://${address}/name; do sleep 0.1; done; cat /tmp/name`;
  t.is(await one.shell(fetch(two.address)), 'two');
  t.is(await two.shell(fetch(one.address)), 'one');
  await one.shell('echo of one >/data/said && sync /data/said');
  t.is(await two.shell(waitFor('/data/said')), 'of one');
  t.regex(await two.shell('df -m /data | tail -n 1'), /^\/dev\/loop\d+ /);
  await t.throwsAsync(two.shell('dd if=/dev/zero of=/data/big bs=1M count=100'), {
    message: /No space left on device/,
  });
  await one.remove();
  // The other pod has its own mount.
  t.is(await two.shell('rm /data/big && cat /data/said'), 'of one');
  await two.remove();
  for (const target of targets) await driver.unpublish(volume, target);
  await driver.remove(volume);
});

test.serial(
  'a volume that is published after the pod has started appears in it, and disappears when it is unpublished',
  async (t) => {
    const volume = await driver.make('later', 64n * MiB);
    const directory = await podDirectory('late');
    const pod = await runtime.pod('late', {
      mounts: [
        {
          hostPath: directory,
          containerPath: '/later',
          propagation: 'PROPAGATION_HOST_TO_CONTAINER',
        },
        { hostPath: directory, containerPath: '/never', propagation: 'PROPAGATION_PRIVATE' },
      ],
    });
    t.is(await pod.shell('ls /later'), '');
    const target = join(directory, 'volume');
    await driver.publish(volume, target);
    await writeFile(join(target, 'word'), 'here');
    t.is(await pod.shell('cat /later/volume/word'), 'here');
    t.is(await pod.shell('ls /never/volume'), '');
    await pod.shell('echo back >/later/volume/answer');
    await driver.unpublish(volume, target);
    t.is(await pod.shell('ls /later'), '');
    await pod.remove();
    await driver.remove(volume);
  },
);

test.serial('a read-only publish is read-only in the pod', async (t) => {
  const volume = await driver.make('fixed', 64n * MiB);
  const target = join(await podDirectory('reader'), 'fixed');
  await driver.publish(volume, target, true);
  const pod = await runtime.pod('reader', {
    mounts: [{ hostPath: target, containerPath: '/data' }],
  });
  await t.throwsAsync(pod.shell('touch /data/x'), { message: /Read-only file system/ });
  await pod.remove();
  await driver.unpublish(volume, target);
  await driver.remove(volume);
});

test.serial(
  'after the pods are removed, no sandbox, link, process, mount or loop device is left',
  async (t) => {
    t.is(await runtime.count(), 0);
    t.deepEqual(await podLinks(node), []);
    t.deepEqual(await processesInCgroup(lab.cgroup), []);
    t.deepEqual(await mountsBelow(lab.directory), []);
    t.deepEqual(await devicesBelow(lab.directory), []);
  },
);
