import { chown, mkdir, mkdtemp, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from '../helpers/command-line.ts';
import { startDriver } from '../helpers/driver.ts';
import { makeFeatureTree } from '../helpers/feature-tree.ts';
import { onNode } from '../helpers/on-node.ts';
import { removeAll } from '../helpers/scratch-pool.ts';

const root = join(import.meta.dirname, '..', '..', '..');

/** Numbers from linux/capability.h. */
const numbers = {
  chown: 0,
  dac_override: 1,
  fowner: 3,
  fsetid: 4,
  sys_ptrace: 19,
  sys_admin: 21,
  sys_resource: 24,
  mknod: 27,
  setfcap: 31,
} as const;

function numberOf(name: string): number {
  const found = Object.entries(numbers).find(([key]) => key === name);
  if (found === undefined) throw new Error(`the unit keeps ${name}: give its number here`);
  return found[1];
}

/** The capabilities that the unit keeps, in setpriv's notation. */
async function capabilitiesOfUnit(): Promise<readonly string[]> {
  const unit = await readFile(join(root, 'contrib/systemd/loopcsi.service'), 'utf8');
  const names = /^CapabilityBoundingSet=(.+)$/m.exec(unit)?.[1]?.split(' ') ?? [];
  return names.map((name) => name.replace(/^CAP_/, '').toLowerCase());
}

onNode(
  'the life cycle of a volume, and an import, need only the capabilities that the unit keeps',
  async (t) => {
    const capabilities = await capabilitiesOfUnit();
    t.deepEqual([...capabilities].sort(), Object.keys(numbers).sort());
    const docs = await readFile(join(root, 'docs/security.md'), 'utf8');
    for (const name of capabilities) t.regex(docs, new RegExp(`\`CAP_${name.toUpperCase()}\``));
    const directory = await mkdtemp('/var/tmp/loopcsi-capabilities-');
    t.teardown(async () => {
      const left = await removeAll(directory);
      if (left.length > 0) throw new Error(`left behind: ${left.join(', ')}`);
    });
    // The machine itself may lack some of them.
    const status = await readFile('/proc/self/status', 'utf8');
    const boundingSet = BigInt(`0x${/^CapBnd:\s*(\w+)$/m.exec(status)?.[1] ?? '0'}`);
    const kept = capabilities.filter((name) => (boundingSet >> BigInt(numberOf(name))) & 1n);
    const bounding = ['-all', ...kept.map((name) => `+${name}`)].join(',');
    const driver = await startDriver(directory, ['--http-address=off'], {
      enter: ['setpriv', `--bounding-set=${bounding}`, '--no-new-privs'],
    });
    t.teardown(() => driver.stop());
    const ok = async (...args: readonly string[]): Promise<void> => {
      const { exitCode, stderr } = await runCommand(driver.endpoint, ...args);
      t.is(exitCode, 0, `${args.join(' ')}: ${stderr}`);
    };
    const home = join(directory, 'home');
    await mkdir(home, { mode: 0o700 });
    await chown(home, 12_345, 12_345);
    for (const format of ['--fstype=ext4', '--fstype=xfs', '--fstype=btrfs', '--block']) {
      const at = join(home, format);
      await ok('volume', 'create', 'v', '--size=320Mi', format);
      await ok('volume', 'mount', 'v', at);
      await ok('volume', 'expand', 'v', '--size=384Mi');
      await ok('volume', 'unmount', 'v');
      await ok('snapshot', 'create', 'v', 's');
      await ok('snapshot', 'restore', 's', 'restored');
      await ok('volume', 'mount', 'restored', at, '--read-only');
      await ok('volume', 'unmount', 'restored');
      await ok('volume', 'delete', 'v', 'restored', '--yes');
      await ok('snapshot', 'delete', 's', '--yes');
    }
    // The comparison of the import finds every owner, mode, device and attribute that cp could not preserve.
    const source = join(directory, 'source');
    await mkdir(source);
    await makeFeatureTree(source);
    await ok('volume', 'import', 'imported', source);
    await ok('volume', 'delete', 'imported', '--yes');
  },
);
