/** The features of the machine that the other suites need. */
import { readFile } from 'node:fs/promises';
import { release } from 'node:os';
import test from 'ava';
import { execa } from 'execa';
import { makeRealHost } from '../../../src/host/real-host.ts';
import { checkMachine } from '../../../src/volumes/admin/doctor-machine.ts';

test('the doctor reports no problem', async (t) => {
  const findings = await checkMachine(makeRealHost());
  t.deepEqual(
    findings.filter(({ state }) => state !== 'ok'),
    [],
  );
});

test('root has CAP_SYS_RESOURCE, so ext4 grows in use', (t) => {
  t.true(makeRealHost().facts.canGrowExt4Online);
});

test('cgroups are version 2, with the io controller', async (t) => {
  t.regex(await readFile('/sys/fs/cgroup/cgroup.subtree_control', 'utf8'), /\bio\b/);
});

test('the kernel has the device-mapper targets that simulate bad disks and power cuts', async (t) => {
  const modules = ['dm_mod', 'dm_delay', 'dm_flakey', 'dm_log_writes'];
  await execa('modprobe', ['--all', ...modules]);
  const loaded = await readFile('/proc/modules', 'utf8');
  for (const name of modules) t.regex(loaded, new RegExp(`^${name} `, 'm'), name);
});

test('the releases of programs are logged for docs/tested-on.md', async (t) => {
  const packages = ['util-linux', 'e2fsprogs', 'xfsprogs', 'btrfs-progs', 'dmsetup', 'libc6'];
  const { stdout } = await execa('dpkg-query', [
    '--show',
    `--showformat=\${Package} \${Version}\n`,
    ...packages,
  ]);
  t.log(`Linux ${release()}, Node ${process.version}`);
  t.log(stdout);
  t.is(stdout.split('\n').length, packages.length);
});
