/**
 * SELinux enforcing: docs/security.md, "AppArmor and SELinux". The driver runs unconfined, as a privileged container does; a pod has
 * a domain with categories, and can use only volumes that are staged with its context.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { execa } from 'execa';
import { volumeIdOf } from '../../crash/calls.ts';
import { sharing } from '../../crash/test-node.ts';
import { answerOf } from '../../helpers/answer.ts';
import { type NodeFixture, withFixture } from '../../helpers/node-fixture.ts';

const projectRoot = join(import.meta.dirname, '..', '..', '..', '..');
const nodeProgram = process.execPath;
const ok = { code: 'OK', message: '' };
const driverDomain = 'system_u:system_r:unconfined_t:s0';
const podDomain = (categories: string): string =>
  `system_u:system_r:loopcsi_pod_t:s0:${categories}`;
const podContext = (categories: string): string =>
  `system_u:object_r:loopcsi_pod_file_t:s0:${categories}`;

test.before(async () => {
  await execa('mount', ['-t', 'selinuxfs', 'selinuxfs', '/sys/fs/selinux']);
  await execa('load_policy', ['-i']);
  // These files were made before the policy was loaded. Other mounts have no labels.
  await execa('restorecon', ['-R', '-F', '/dev', '/run', '/tmp'], { reject: false });
  // Only a program with an entry point label can enter the domain.
  await execa('chcon', [
    'system_u:object_r:bin_t:s0',
    join(projectRoot, 'bin/loopcsi'),
    nodeProgram,
  ]);
  // Node's JIT compiler needs execmem, which Debian's policy denies to unconfined programs too.
  await execa('setsebool', ['allow_execmem', 'on']);
  await execa('setenforce', ['1']);
});

test.after.always(async () => {
  await execa('setenforce', ['0'], { reject: false });
});

async function onEnforcing(
  t: ExecutionContext,
  run: (fixture: NodeFixture) => Promise<void>,
): Promise<void> {
  await withFixture(t, run, { enter: ['runcon', driverDomain] });
}

async function stage(fixture: NodeFixture, kind: string, mountFlags: readonly string[]) {
  const request = {
    volume_id: volumeIdOf('v'),
    staging_target_path: await fixture.testNode.stagingPathOf('v'),
    volume_capability: {
      access_mode: sharing,
      access_type: 'mount',
      mount: { fs_type: kind, mount_flags: [...mountFlags] },
    },
  } as const;
  return answerOf(fixture.testNode.node.NodeStageVolume(request, { timeoutMs: 60_000 }));
}

/** Writes and reads a file as a pod with these categories; returns the output, or the error. */
async function podWrites(categories: string, file: string): Promise<string> {
  const script = 'echo hello >"$1" && read -r line <"$1" && echo "$line"';
  const args = [podDomain(categories), 'sh', '-c', script, 'sh', file];
  const result = await execa('runcon', args, { reject: false });
  return result.exitCode === 0 ? result.stdout : result.stderr;
}

async function endUse(t: ExecutionContext, fixture: NodeFixture): Promise<void> {
  t.deepEqual(await fixture.unpublish('v'), ok);
  t.deepEqual(await fixture.unstage('v'), ok);
}

/** The denials of the driver's domain since the boot of the machine. */
async function denials(): Promise<readonly string[]> {
  const { stdout } = await execa('dmesg');
  return stdout
    .split('\n')
    .filter((line) => line.includes('avc:  denied') && line.includes(`scontext=${driverDomain}`));
}

test.serial('the policy is enforced, and the driver is unconfined', async (t) => {
  t.is((await execa('getenforce')).stdout, 'Enforcing');
  await onEnforcing(t, async (fixture) => {
    const domain = await readFile(`/proc/${fixture.testNode.driver.pid}/attr/current`, 'utf8');
    t.is(domain.replace(/\0$/, ''), driverDomain);
  });
});

for (const kind of ['ext4', 'xfs', 'btrfs'] as const) {
  test.serial(`only the pod with its context can use a volume: ${kind}`, async (t) => {
    await onEnforcing(t, async (fixture) => {
      t.deepEqual(await fixture.create('v', kind), ok);
      for (const [own, other] of [
        ['c1,c2', 'c3,c4'],
        ['c3,c4', 'c1,c2'],
      ] as const) {
        // With quotes, as the kubelet passes it.
        t.deepEqual(await stage(fixture, kind, [`context="${podContext(own)}"`]), ok);
        t.deepEqual(await fixture.publish('v', kind), ok);
        const file = join(fixture.targetOf('v'), 'file');
        t.is(await podWrites(own, file), 'hello');
        t.regex(await podWrites(other, file), /Permission denied/);
        const { stdout } = await execa('ls', ['--context', file]);
        t.is(stdout.split(' ')[0], podContext(own));
        await endUse(t, fixture);
      }
      t.deepEqual(await fixture.delete('v'), ok);
    });
    t.deepEqual(await denials(), []);
  });
}

test.serial('without a context a pod cannot use the volume', async (t) => {
  await onEnforcing(t, async (fixture) => {
    for (const answer of await fixture.use('v')) t.deepEqual(answer, ok);
    const file = join(fixture.targetOf('v'), 'file');
    t.regex(await podWrites('c1,c2', file), /Permission denied/);
    await endUse(t, fixture);
  });
});

test.serial(
  'a context that the policy does not define is refused, and nothing stays mounted',
  async (t) => {
    await onEnforcing(t, async (fixture) => {
      t.deepEqual(await fixture.create('v'), ok);
      const answer = await stage(fixture, 'ext4', ['context="system_u:object_r:no_such_t:s0"']);
      t.regex(answer.message, /refuses to mount it with the options 'context=/);
      t.deepEqual(await fixture.devicesOf('v'), []);
      t.deepEqual(await fixture.stage('v'), ok);
      t.deepEqual(await fixture.unstage('v'), ok);
    });
  },
);

test.serial('raw block volumes, growth in use and deletion pass the policy', async (t) => {
  await onEnforcing(t, async (fixture) => {
    for (const answer of await fixture.use('b', 'block')) t.deepEqual(answer, ok);
    await fixture.writeMark('b', 'MARK');
    t.is(await fixture.readMark('b'), 'MARK');
    t.deepEqual(await fixture.unpublish('b'), ok);
    t.deepEqual(await fixture.unstage('b'), ok);
    for (const answer of await fixture.use('v', 'ext4')) t.deepEqual(answer, ok);
    t.deepEqual(await fixture.expand('v', 64n * 1024n * 1024n), ok);
    const request = { volume_id: volumeIdOf('v'), volume_path: fixture.targetOf('v') };
    t.deepEqual(await answerOf(fixture.testNode.node.NodeExpandVolume(request)), ok);
    await endUse(t, fixture);
    for (const name of ['b', 'v']) t.deepEqual(await fixture.delete(name), ok);
  });
  t.deepEqual(await denials(), []);
});
