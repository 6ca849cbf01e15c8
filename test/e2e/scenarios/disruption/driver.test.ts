import test from 'ava';
import { eventually } from '../../eventually.ts';
import { textAt } from '../../kube/api.ts';
import {
  chartPath,
  chartValues,
  classes,
  driverName,
  mountDisks,
  release,
  snapshotController,
  systemNamespace,
} from '../../kube/chart.ts';
import { Checker } from '../../kube/checksums.ts';
import { driverPod, untilDriverServes } from '../../kube/driver-pods.ts';
import { api, cluster, firstNode, helm, Scenario } from '../../kube/scenario.ts';

const inNamespace = ['--namespace', systemNamespace];

/** Asserts that a pod with a new claim starts: provisioning, staging and publishing work. */
async function assertServes(scenario: Scenario, name: string): Promise<void> {
  await scenario.claim(name);
  await scenario.readyPod(name, { claims: { '/data': name }, script: 'echo ok >/data/file' });
}

test.serial('the driver is killed: pods keep writing, and the driver serves again', async (t) => {
  const scenario = await Scenario.begin(t, 'kill-driver');
  const checkers = await Promise.all(
    [classes.ext4, classes.xfs, classes.embedded].map((one) =>
      Checker.start(scenario, `check-${one}`, one),
    ),
  );
  const { name } = await driverPod();
  process.kill(await firstNode.driverProcess(), 'SIGKILL');
  for (const checker of checkers) await checker.stillWrites();
  t.is(await untilDriverServes(), name, 'the same pod');
  await assertServes(scenario, 'after');
  for (const checker of checkers) await checker.assertWhole(t);
});

test.serial(
  'helm upgrade replaces the driver while pods write, and the node keeps its registration',
  async (t) => {
    const scenario = await Scenario.begin(t, 'upgrade');
    const checker = await Checker.start(scenario, 'check', classes.xfs);
    const before = await untilDriverServes();
    // The kubelet registers a new socket within two of its rounds of one second. Without the socket that the old driver left,
    // the entry would be missing until the next driver serves.
    let awayMs = 0;
    let isOver = false;
    t.teardown(() => {
      isOver = true;
    });
    const watching = (async () => {
      while (!isOver) {
        const lookedAt = performance.now();
        const node = await api.find('CSINode', '', firstNode.name);
        await new Promise((resolve) => {
          setTimeout(resolve, 100);
        });
        const isThere = (textAt(node, 'spec.drivers') ?? '').includes(`"${driverName}"`);
        if (!isThere) awayMs += performance.now() - lookedAt;
      }
    })();
    const values = JSON.stringify(chartValues({ podAnnotations: { release: 'next' } }));
    const flags = [...inNamespace, '--wait', '--timeout', '2m', '--values', '-'];
    const { exitCode, stderr } = await helm(['upgrade', release, chartPath, ...flags], values);
    t.is(exitCode, 0, stderr);
    await untilDriverServes(before);
    isOver = true;
    await watching;
    t.log(`CSINode was without the driver for ${Math.round(awayMs)} ms`);
    t.true(awayMs < 3_000);
    await assertServes(scenario, 'after');
    await checker.assertWhole(t);
  },
);

test.serial(
  'the kubelet is killed and started again: pods keep writing, and new ones start',
  async (t) => {
    const scenario = await Scenario.begin(t, 'kubelet');
    const checker = await Checker.start(scenario, 'check', classes.ext4);
    await firstNode.stop('kubelet', 'SIGKILL');
    const during = await checker.roundsOnNode();
    await firstNode.start('kubelet');
    await cluster.untilReady();
    await assertServes(scenario, 'after');
    t.true((await checker.rounds()) > during);
    await checker.assertWhole(t);
  },
);

test.serial('the container runtime is killed and started again: pods keep writing', async (t) => {
  const scenario = await Scenario.begin(t, 'runtime');
  const checker = await Checker.start(scenario, 'check', classes.xfs);
  await firstNode.stop('containerd', 'SIGKILL');
  t.true((await firstNode.shimProcesses()).length > 0);
  await firstNode.start('containerd');
  await eventually('the runtime to answer', async () =>
    (await checker.rounds()) > 0 ? true : undefined,
  );
  await cluster.untilReady();
  await untilDriverServes();
  await assertServes(scenario, 'after');
  await checker.assertWhole(t);
});

test.serial(
  'the node reboots: no mount or loop device is left, and pods start again with their data',
  async (t) => {
    const scenario = await Scenario.begin(t, 'reboot');
    const checkers = await Promise.all(
      [classes.ext4, classes.xfs, classes.btrfs, classes.reflink, classes.embedded].map((one) =>
        Checker.start(scenario, `check-${one}`, one),
      ),
    );
    const device = { block: true, claims: { '/dev/disk': 'disk' } };
    await scenario.claim('disk', { block: true });
    await scenario.readyPod('block', {
      ...device,
      script: 'head -c 5 /dev/disk | grep -q magic || printf magic | dd of=/dev/disk conv=fsync',
    });
    const before = await Promise.all(checkers.map(async (checker) => checker.rounds()));
    await firstNode.powerOff();
    await firstNode.powerOn();
    await cluster.untilReady();
    // The disks of two pools are mounted late, as with a slow fstab: the other pools work meanwhile, events of waiting pods name
    // the missing disk, and the driver finds the disks without a restart.
    const missing = `check-${classes.reflink}`;
    const message = await scenario.event(
      missing,
      /pool 'reflink'.*is not mounted; mount it/,
      180_000,
    );
    t.regex(message, /^FailedMount/);
    await untilDriverServes();
    const waiting = await driverPod();
    const [onDefault] = checkers;
    await eventually(
      'a pod of an available pool to be ready again',
      async () => (((await onDefault?.rounds()) ?? 0) > (before[0] ?? 0) ? true : undefined),
      { timeoutMs: 180_000 },
    );
    await mountDisks(firstNode);
    t.is(await untilDriverServes(), waiting.name);
    t.is((await driverPod()).restarts, waiting.restarts, 'found without a restart');
    for (const [index, checker] of checkers.entries()) {
      await eventually(
        `${checker.name} to come back`,
        async () => ((await checker.rounds()) > (before[index] ?? 0) ? true : undefined),
        { timeoutMs: 180_000 },
      );
      await checker.assertWhole(t, 1);
    }
    await scenario.untilReady('block', 120_000);
    t.is(await scenario.sh('block', 'head -c 5 /dev/disk'), 'magic');
    await assertServes(scenario, 'after');
  },
);

test.serial(
  'helm test names the remedy when the snapshot-controller is not distributed',
  async (t) => {
    const plain = {
      ...snapshotController(),
      extraArgs: ['--enable-distributed-snapshotting=false'],
    };
    const flags = [...inNamespace, '--wait', '--timeout', '2m', '--values', '-'];
    const values = JSON.stringify(chartValues({ 'snapshot-controller': plain }));
    const upgraded = await helm(['upgrade', release, chartPath, ...flags], values);
    t.is(upgraded.exitCode, 0, upgraded.stderr);
    // helm keeps the pod of a failed test for inspection, and with it a volume.
    t.teardown(() => api.delete('Pod', systemNamespace, `${release}-test`));
    const { exitCode, stdout, stderr } = await helm(['test', release, ...inNamespace, '--logs']);
    t.not(exitCode, 0);
    t.regex(stdout + stderr, /does not do distributed snapshotting/);
    t.regex(stdout + stderr, /--enable-distributed-snapshotting=true/);
    await eventually('nothing of the snapshot to be left', async () =>
      (await api.list('VolumeSnapshotContent')).length === 0 ? true : undefined,
    );
    const usual = JSON.stringify(chartValues());
    t.is((await helm(['upgrade', release, chartPath, ...flags], usual)).exitCode, 0);
  },
);
