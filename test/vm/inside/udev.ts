/** udev as a distribution runs it: its daemon, the rules of its packages, and the project's rule if a test installs it. */
import { once } from 'node:events';
import { copyFile, mkdir, readdir, readlink, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { execa } from 'execa';
import { until } from '../../helpers/until.ts';

const rulesDirectory = '/run/udev/rules.d';
const rule = '10-loopcsi.rules';
const projectRoot = join(import.meta.dirname, '..', '..', '..', '..');

/** Without systemd, LVM's rule runs `vgchange` instead of `systemd-run vgchange`; everything else is the same. */
export async function startUdev(): Promise<{ stop(): Promise<void> }> {
  const daemon = execa('/usr/lib/systemd/systemd-udevd', {
    stdin: 'ignore',
    stdout: 'ignore',
    stderr: 'ignore',
    reject: false,
  });
  await until('udevd answers', async () => {
    const ping = await execa('udevadm', ['control', '--ping'], { reject: false });
    return ping.exitCode === 0;
  });
  await triggerUdev();
  return {
    stop: async () => {
      const ended = daemon.exitCode === null ? once(daemon, 'exit') : undefined;
      daemon.kill('SIGTERM');
      await ended;
    },
  };
}

/** Makes udev process every block device again, as it does at boot and when its package is upgraded. */
export async function triggerUdev(): Promise<void> {
  await execa('udevadm', ['trigger', '--action=add', '--subsystem-match=block', '--settle']);
  await settleUdev();
}

/** Returns when udev has processed all events. */
export async function settleUdev(): Promise<void> {
  await execa('udevadm', ['settle', '--timeout=120']);
}

export async function installRule(): Promise<void> {
  await mkdir(rulesDirectory, { recursive: true });
  await copyFile(join(projectRoot, 'contrib/udev', rule), join(rulesDirectory, rule));
  await execa('udevadm', ['control', '--reload']);
}

export async function removeRule(): Promise<void> {
  await rm(join(rulesDirectory, rule), { force: true });
  await execa('udevadm', ['control', '--reload']);
}

/** The properties of a device in udev's database. */
export async function propertiesOf(device: string): Promise<ReadonlyMap<string, string>> {
  const { stdout } = await execa('udevadm', ['info', '--query=property', device]);
  const rows = stdout.split('\n').map((line): [string, string] => {
    const [name = '', ...rest] = line.split('=');
    return [name, rest.join('=')];
  });
  return new Map(rows);
}

/** The links below /dev/disk that point to the device. */
export async function linksTo(device: string): Promise<readonly string[]> {
  const links: string[] = [];
  for (const directory of await readdir('/dev/disk')) {
    for (const name of await readdir(join('/dev/disk', directory))) {
      const path = join('/dev/disk', directory, name);
      if (basename(await readlink(path)) === basename(device)) links.push(path);
    }
  }
  return links;
}
