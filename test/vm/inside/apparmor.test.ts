/**
 * Under AppArmor a container runtime gives a pod its default profile, and a privileged container none: docs/security.md, "AppArmor
 * and SELinux". The profile is the default one of Docker and containerd, and the machine's own kernel enforces it.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { execa } from 'execa';
import { makeClient } from '../../../src/csi/client.ts';
import { spawnDriver } from '../../helpers/driver.ts';
import { type NodeFixture, type VolumeKind, withFixture } from '../../helpers/node-fixture.ts';
import { until } from '../../helpers/until.ts';

const ok = { code: 'OK', message: '' };
const profile = 'loopcsi-pod';
/** Put before a command, it runs the command under the profile of a container. */
const confined = ['aa-exec', '--profile', profile, '--'] as const;

/** The rules of the default profile of Docker and of containerd (`profiles/apparmor/template.go`, `contrib/apparmor`). */
const text = `
abi <abi/3.0>,
#include <tunables/global>
profile ${profile} flags=(attach_disconnected,mediate_deleted) {
  #include <abstractions/base>
  network,
  capability,
  file,
  umount,
  signal (receive) peer=unconfined,
  signal (send,receive) peer=${profile},
  deny @{PROC}/sysrq-trigger rwklx,
  deny mount,
  deny /sys/[^f]*/** wklx,
  deny /sys/kernel/security/** rwklx,
  ptrace (trace,read,tracedby,readby) peer=${profile},
}
`;

test.before(async () => {
  await execa('apparmor_parser', ['--replace', '--skip-cache'], { input: text });
});

test('AppArmor is the security module, and enforces the profile', async (t) => {
  t.regex(await readFile('/sys/kernel/security/lsm', 'utf8'), /\bapparmor\b/);
  const profiles = await readFile('/sys/kernel/security/apparmor/profiles', 'utf8');
  t.regex(profiles, new RegExp(`^${profile} \\(enforce\\)$`, 'm'));
  const { stdout } = await execa(confined[0], [
    ...confined.slice(1),
    'cat',
    '/proc/self/attr/current',
  ]);
  t.is(stdout, `${profile} (enforce)`);
  const mount = ['mount', '-t', 'tmpfs', 'tmpfs', '/mnt'];
  const refused = await execa(confined[0], [...confined.slice(1), ...mount], { reject: false });
  t.not(refused.exitCode, 0, 'the profile is in force');
});

async function runConfined(argv: readonly string[]): Promise<string> {
  const { stdout } = await execa(confined[0], [...confined.slice(1), ...argv]);
  return stdout;
}

const write = 'printf %s "$2" >"$1" && sync "$1" && cat "$1"';

async function usesFilesystem(
  t: ExecutionContext,
  fixture: NodeFixture,
  kind: VolumeKind,
): Promise<void> {
  const file = join(fixture.targetOf('v'), 'file');
  t.is(await runConfined(['sh', '-c', write, 'sh', file, kind]), kind);
}

async function usesDevice(t: ExecutionContext, fixture: NodeFixture): Promise<void> {
  const target = fixture.targetOf('v');
  await runConfined(['sh', '-c', 'printf MARK | dd of="$1" conv=fsync,notrunc', 'sh', target]);
  t.is(await fixture.readMark('v'), 'MARK');
}

for (const kind of ['ext4', 'xfs', 'btrfs', 'block'] as const) {
  test.serial(`a confined pod uses a volume of an unconfined driver: ${kind}`, async (t) => {
    await withFixture(t, async (fixture) => {
      t.is(
        await readFile(`/proc/${fixture.testNode.driver.pid}/attr/current`, 'utf8'),
        'unconfined\n',
      );
      for (const answer of await fixture.use('v', kind)) t.deepEqual(answer, ok);
      await (kind === 'block' ? usesDevice(t, fixture) : usesFilesystem(t, fixture, kind));
      t.deepEqual(await fixture.unpublish('v'), ok);
      t.deepEqual(await fixture.unstage('v'), ok);
      t.deepEqual(await fixture.delete('v'), ok);
    });
  });
}

test.serial(
  'a driver under the profile of pods attaches devices, but its mounts are refused',
  async (t) => {
    await withFixture(t, async (fixture) => {
      await fixture.testNode.driver.stop();
      const directory = fixture.testNode.directory;
      const driver = await spawnDriver(directory, ['--http-address=off'], { enter: confined });
      const client = makeClient('csi.v1.Identity', `unix://${driver.endpoint}`);
      try {
        let end: string | undefined;
        void driver.ended.then((how) => {
          end = how;
        });
        await until('it serves or ends', async () => {
          if (end !== undefined) return true;
          return client.Probe({}, { timeoutMs: 1_000 }).then(
            () => true,
            () => false,
          );
        });
        t.is(end, undefined, 'it serves');
        t.deepEqual(await fixture.create('v'), ok);
        const answer = await fixture.stage('v');
        t.is(answer.code, 'INTERNAL');
        t.regex(answer.message, /: EACCES$/);
      } finally {
        client.close();
        await driver.stop();
        await fixture.testNode.start();
      }
    });
  },
);
