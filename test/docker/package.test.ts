/**
 * The packages on a new Debian 12 without Node and Docker, as `npm run package` builds them: installed, upgraded while a volume is
 * used, removed, purged. The .rpm is installed with Debian's rpm, without the dependencies, whose names rpm cannot look up there.
 */
import { copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import test from 'ava';
import { attempt, eventually } from '../../scripts/command.ts';
import { buildPackages } from '../../scripts/package/build.ts';
import { debianRoot } from '../helpers/debian-root.ts';
import { type Lab, openLab } from './lab.ts';
import { type Machine, makeMachine } from './machine.ts';
import { findPostgres, postgresConfig, postgresPackage } from './postgres.ts';

const [older, newer] = ['1.0.0', '1.1.0'] as const;
/** The numbers of the nine capabilities that docs/security.md names (linux/capability.h). */
const capabilityNumbers = [0n, 1n, 3n, 4n, 19n, 21n, 24n, 27n, 31n];
const capabilities = capabilityNumbers.reduce((mask, number) => mask | (1n << number), 0n);

let lab: Lab;
let machine: Machine;
/** Paths on the machine. */
let packages: Readonly<Record<'deb' | 'newerDeb' | 'rpm' | 'newerRpm', string>>;

test.before(async () => {
  lab = await openLab();
  const arch = process.arch === 'arm64' ? 'arm64' : 'amd64';
  const output = join(lab.directory, 'packages');
  const [deb = '', rpm = '', newerDeb = '', newerRpm = ''] = await buildPackages({
    arch,
    versions: [older, newer],
    output,
  });
  machine = await makeMachine(lab, { root: await debianRoot(), withProject: false });
  await machine.boot();
  const copy = async (path: string): Promise<string> => {
    const there = join('/var/tmp', basename(path));
    await copyFile(path, machine.seen(there));
    return there;
  };
  packages = {
    deb: await copy(deb),
    newerDeb: await copy(newerDeb),
    rpm: await copy(rpm),
    newerRpm: await copy(newerRpm),
  };
});
test.after.always('nothing is left behind', async () => {
  const left = await lab.close();
  if (left.length > 0) throw new Error(`left behind: ${left.join('; ')}`);
});

test.afterEach.always('the log explains a failure', async (t) => {
  if (t.passed) return;
  const journal = await machine.attempt('journalctl', '--no-pager', '--lines=40', '--unit=loopcsi');
  t.log(journal.stdout);
});

const show = (property: string, unit = 'loopcsi'): Promise<string> =>
  machine.run('systemctl', 'show', '--value', `--property=${property}`, `${unit}.service`);

const aptInstall = (...names: readonly string[]): Promise<string> =>
  machine.run(
    ...(['env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', '--yes'] as const),
    ...['--no-install-recommends', 'install', ...names],
  );

const dpkg = (...args: readonly string[]): Promise<string> => machine.run('dpkg', ...args);

const shell = (script: string): Promise<string> => machine.run('sh', '-euc', script);

const inNewMounts = (script: string): Promise<string> =>
  machine.run('unshare', '--mount', '--propagation=private', 'sh', '-euc', script);

async function driverVersion(): Promise<string> {
  const { driver } = JSON.parse(await machine.run('loopcsi', 'version', '--json')) as {
    driver: { version: string };
  };
  return driver.version;
}

/** Programs of the packages that run, also those whose file was replaced since. */
async function processesOfPackage(): Promise<readonly string[]> {
  const script = 'for exe in /proc/[0-9]*/exe; do readlink "$exe" || :; done';
  const programs = (await shell(script)).split('\n');
  return programs.filter((path) => path.startsWith('/usr/lib/loopcsi/'));
}

/** A program that appends to a file of the volume until it is stopped, with the file open. */
async function startWriter(directory: string): Promise<{ count(): Promise<number> }> {
  const script = `exec >>${directory}/log; while sleep 0.05; do echo line; done`;
  await machine.run('systemd-run', '--unit=writer', 'sh', '-c', script);
  return {
    count: async () => Number(await machine.run('sh', '-c', `wc -l <${directory}/log`)),
  };
}

const mountLine = (directory: string): Promise<string> =>
  shell(`grep " ${directory} " /proc/self/mountinfo`);

test.serial('the machine has neither Node nor Docker', async (t) => {
  for (const program of ['node', 'npm', 'docker', 'dockerd', 'loopcsi']) {
    const { exitCode } = await machine.attempt('sh', '-c', `command -v ${program}`);
    t.not(exitCode, 0, program);
  }
});

test.serial('where policy-rc.d forbids it, an installed package starts nothing', async (t) => {
  const policy = machine.seen('/usr/sbin/policy-rc.d');
  await writeFile(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  await mkdir(machine.seen(dirname(postgresConfig.path)));
  await writeFile(machine.seen(postgresConfig.path), postgresConfig.text);
  // Later tests need rpm and PostgreSQL; to install all at once takes less time.
  // The root may come from a cache that is older than the current versions of Debian's packages.
  await machine.run('apt-get', '--quiet', 'update');
  await aptInstall(packages.deb, 'rpm', postgresPackage);
  t.is(await show('ActiveState'), 'inactive');
  await rm(policy);
  // As in a chroot or an image that is being built: without a running systemd, nothing is in /run.
  const postinst = '/var/lib/dpkg/info/loopcsi.postinst configure';
  await inNewMounts(`mount -t tmpfs tmpfs /run && ${postinst}`);
  t.is(await show('ActiveState'), 'inactive');
  t.is(await show('UnitFileState'), 'enabled', 'for the next boot');
});

test.serial('the installed service serves with nine capabilities', async (t) => {
  await machine.run('/var/lib/dpkg/info/loopcsi.postinst', 'configure', '');
  t.is(await show('ActiveState'), 'active');
  t.is(await driverVersion(), older);
  const status = await machine.run('cat', `/proc/${await show('MainPID')}/status`);
  for (const set of ['CapBnd', 'CapEff']) {
    const mask = new RegExp(`^${set}:\\s*(\\w+)$`, 'm').exec(status)?.[1] ?? '';
    t.is(BigInt(`0x${mask}`) & ~capabilities, 0n, `${set} ${mask}`);
  }
  t.regex(status, /^NoNewPrivs:\s*1$/m);
  t.is(await machine.run('dpkg', '--verify', 'loopcsi'), '');
  const unit = '/usr/lib/systemd/system/loopcsi.service';
  t.is(await machine.run('systemd-analyze', 'verify', '--recursive-errors=no', unit), '');
});

test.serial('every user can read the files, and kubectl-loopcsi finds its program', async (t) => {
  t.is(await shell('find /usr/lib/loopcsi ! -type l ! -perm -a=r'), '');
  t.regex(await machine.run('kubectl-loopcsi', '--help'), /^Usage: kubectl loopcsi /);
  t.regex(await machine.run('kubectl_complete-loopcsi', 'vol'), /^volumes\t.*\n:4$/);
});

test.serial('the manual page and the completions can be read', async (t) => {
  const page = gunzipSync(await readFile(machine.seen('/usr/share/man/man8/loopcsi.8.gz')));
  const groff = ['-Kutf8', '-man', '-t', '-Tutf8', '-ww', '-P-cbou'];
  const { stdout: shown, stderr } = await attempt('groff', groff, { input: page.toString() });
  t.is(stderr, '', 'no warnings');
  t.regex(shown, /volume create NAME/);
  t.regex(shown, /--default-fstype/);
  const directory = '/usr/share/bash-completion/completions/loopcsi';
  t.regex(await machine.run('bash', '-c', `. ${directory}; complete -p loopcsi`), /loopcsi$/);
});

test.serial(
  'PostgreSQL moves from the local-path of k3s to a volume, with equal rows',
  async (t) => {
    const postgres = await findPostgres(machine);
    const storage = '/var/lib/rancher/k3s/storage';
    const source = `${storage}/pvc-3f0a6c1e-92f5-4b52-8a0e-5d6f0a7c9b21_shop_data`;
    await shell(`mkdir -p ${storage}; chmod 0701 ${storage}`);
    await machine.run('install', '--directory', '--owner=postgres', '--mode=0700', source);
    await postgres.makeDatabase(source);
    const query = "select count(*), md5(string_agg(id || text, ',' order by id)) from notes";
    const rows = await postgres.serve(source, async (sql) => {
      await sql('create table notes (id int primary key, text text)');
      await sql('insert into notes select n, md5(n::text) from generate_series(1, 20000) n');
      return sql(query);
    });
    t.regex(rows, /^20000\|/);

    await machine.run('loopcsi', 'volume', 'import', 'pg-data', source, '--size=512Mi');

    const manifest = await machine.run('loopcsi', 'volume', 'manifest', 'pg-data', 'shop/data');
    t.regex(manifest, /volumeHandle: pg-data\.[0-9a-f]{8}/);
    await machine.run('loopcsi', 'volume', 'mount', 'pg-data', '/mnt/pg-data');
    t.is(await postgres.serve('/mnt/pg-data', (sql) => sql(query)), rows);
    await machine.run('rm', '--recursive', source);
    t.is(await postgres.serve('/mnt/pg-data', (sql) => sql(query)), rows, 'without the source');
    await machine.run('loopcsi', 'volume', 'unmount', 'pg-data');
    await machine.run('loopcsi', 'volume', 'delete', 'pg-data', '--yes');
  },
);

test.serial('an upgrade restarts the driver, and a volume in use stays mounted', async (t) => {
  // An administrator's change must survive without a question, since both versions have the same file.
  await shell('echo "httpAddress: off" >>/etc/loopcsi.yaml; systemctl restart loopcsi');
  await machine.run('loopcsi', 'volume', 'create', 'data', '--size=64Mi');
  await machine.run('loopcsi', 'volume', 'mount', 'data', '/mnt/data');
  const writer = await startWriter('/mnt/data');
  await eventually('the first line', async () => ((await writer.count()) > 0 ? true : undefined));
  const [pid, writerPid, mount] = [
    await show('MainPID'),
    await show('MainPID', 'writer'),
    await mountLine('/mnt/data'),
  ];

  await dpkg('--install', packages.newerDeb);

  t.is(await show('ActiveState'), 'active');
  t.not(await show('MainPID'), pid);
  t.is(await driverVersion(), newer);
  for (const program of await processesOfPackage()) t.is(program, '/usr/lib/loopcsi/bin/node');
  t.is(await mountLine('/mnt/data'), mount, 'the same mount of the same device');
  t.is(await show('MainPID', 'writer'), writerPid);
  const written = await writer.count();
  await eventually('another line', async () =>
    (await writer.count()) > written ? true : undefined,
  );
  t.regex(await readFile(machine.seen('/etc/loopcsi.yaml'), 'utf8'), /^httpAddress: off$/m);
  await machine.run('loopcsi', 'volume', 'expand', 'data', '--size=96Mi');
  t.is(await machine.run('sh', '-c', 'test -e /run/loopcsi-upgrade || echo none'), 'none');
});

test.serial('an upgrade keeps a disabled service as it was', async (t) => {
  // dpkg runs these before and after it replaces the files.
  const before = ['/var/lib/dpkg/info/loopcsi.preinst', 'upgrade', older] as const;
  const after = ['/var/lib/dpkg/info/loopcsi.postinst', 'configure', older] as const;
  await machine.run('systemctl', 'disable', 'loopcsi');
  await machine.run(...before);
  t.is(await show('ActiveState'), 'inactive', 'stopped while files are replaced');
  await machine.run(...after);
  t.is(await show('ActiveState'), 'active', 'it ran before');
  t.is(await show('UnitFileState'), 'disabled');
  await machine.run('systemctl', 'stop', 'loopcsi');
  await machine.run(...before);
  await machine.run(...after);
  t.is(await show('ActiveState'), 'inactive');
  await machine.run('systemctl', 'enable', '--now', 'loopcsi');
});

test.serial('after a removal, volumes stay mounted and their data remains', async (t) => {
  const said = await dpkg('--remove', 'loopcsi');
  t.regex(said, /the volumes and their data remain in \/var\/lib\/loopcsi/);
  t.deepEqual(await processesOfPackage(), []);
  t.is((await machine.attempt('systemctl', 'cat', 'loopcsi')).exitCode, 1);
  t.is(await show('ActiveState', 'writer'), 'active');
  await machine.run('systemctl', 'stop', 'writer');
  const before = await machine.run('sha256sum', '/mnt/data/log');

  await dpkg('--install', packages.newerDeb);
  t.is(await show('ActiveState'), 'active', 'a reinstalled package serves');
  t.is(await machine.run('sha256sum', '/mnt/data/log'), before);
  await machine.run('loopcsi', 'volume', 'unmount', 'data');
  await machine.run('loopcsi', 'volume', 'mount', 'data', '/mnt/data');
  t.is(await machine.run('sha256sum', '/mnt/data/log'), before);
  await machine.run('loopcsi', 'volume', 'unmount', 'data');
});

test.serial('a purge removes the configuration, and keeps volumes', async (t) => {
  const said = await dpkg('--purge', 'loopcsi');
  t.regex(said, /\/var\/lib\/loopcsi was not removed, because it is not empty/);
  const left =
    'ls -d /etc/loopcsi* /usr/lib/loopcsi /usr/bin/*loopcsi /etc/systemd/system/*/loopcsi* 2>/dev/null';
  t.is((await machine.attempt('sh', '-c', left)).stdout, '');
  t.not(await shell('find /var/lib/loopcsi -name disk.img'), '');
  t.is((await machine.attempt('dpkg', '--status', 'loopcsi')).exitCode, 1);
});

test.serial('the .rpm installs, upgrades and removes the same service', async (t) => {
  const rpm = (...args: readonly string[]): Promise<string> =>
    machine.run('rpm', '--nodeps', ...args);
  const named = (kind: string): Promise<string> =>
    machine.run('rpm', '--query', kind, '--package', packages.rpm);
  const requires = await named('--requires');
  for (const name of ['e2fsprogs', 'util-linux', 'xfsprogs'])
    t.true(requires.split('\n').includes(name), name);
  t.is(await named('--recommends'), 'btrfs-progs');
  await rpm('--install', packages.rpm);
  t.is(await show('ActiveState'), 'active', "Debian's presets enable a new service");
  t.is(await driverVersion(), older);
  t.regex(await machine.run('loopcsi', 'volume', 'list'), /data/, 'the volume of the .deb');
  await writeFile(machine.seen('/etc/loopcsi.yaml'), 'httpAddress: off\n');
  await machine.run('loopcsi', 'volume', 'mount', 'data', '/mnt/data');
  const mount = await mountLine('/mnt/data');
  const pid = await show('MainPID');

  await rpm('--upgrade', packages.newerRpm);
  t.is(await show('ActiveState'), 'active');
  t.not(await show('MainPID'), pid);
  t.is(await driverVersion(), newer);
  t.is(await mountLine('/mnt/data'), mount);
  t.is(await readFile(machine.seen('/etc/loopcsi.yaml'), 'utf8'), 'httpAddress: off\n');
  await machine.run('loopcsi', 'volume', 'unmount', 'data');
  await machine.run('loopcsi', 'volume', 'delete', 'data', '--yes');
  await eventually('the devices to be detached', async () =>
    (await machine.devices()).length === 0 ? true : undefined,
  );

  await rpm('--erase', 'loopcsi');
  t.deepEqual(await processesOfPackage(), []);
  t.is((await machine.attempt('systemctl', 'cat', 'loopcsi')).exitCode, 1);
  t.is((await machine.attempt('test', '-e', '/usr/lib/loopcsi')).exitCode, 1);
  await machine.halt();
});
