/**
 * The README's commands on a new Debian 12, whose Node is too old: the tree is a copy without history, as from an archive. Node and the
 * npm packages come from npm, the programs of filesystems from Debian.
 */
import { cp } from 'node:fs/promises';
import { basename, join } from 'node:path';
import test from 'ava';
import { debianRoot } from '../helpers/debian-root.ts';
import { type Lab, openLab } from './lab.ts';
import { type Machine, makeMachine } from './machine.ts';

const project = join(import.meta.dirname, '..', '..', '..');
const tree = '/srv/loopcsi';
/** What a clone does not have, and what an archive does not have. */
const omitted = ['node_modules', 'dist', 'coverage', '.git'];

let lab: Lab;
let machine: Machine;

test.before(async () => {
  lab = await openLab();
  const root = await debianRoot(['nodejs', 'npm']);
  machine = await makeMachine(lab, { root, withProject: false });
  await machine.boot();
  await cp(project, machine.seen(tree), {
    recursive: true,
    filter: (path) => path === project || !omitted.includes(basename(path)),
  });
});
test.after.always('nothing is left behind', async () => {
  const left = await lab.close();
  if (left.length > 0) throw new Error(`left behind: ${left.join('; ')}`);
});

/** Runs a script in the tree, with the environment that a login has, but without HOME. */
async function inTree(script: string): Promise<string> {
  const { exitCode, stdout, stderr } = await machine.attempt(
    'env',
    ...['-i', 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
    // The certificate of a proxy of this machine's network.
    'NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt',
    ...['sh', '-ec', `cd ${tree}; ${script}`],
  );
  if (exitCode !== 0) throw new Error(`${script} ended with ${exitCode}:\n${stdout}\n${stderr}`);
  return `${stdout}\n${stderr}`;
}

test.serial('npm run demo installs what is missing and runs to its end', async (t) => {
  t.regex(await inTree('node --version'), /^v18\./);
  const output = await inTree('npm run demo');
  t.regex(output, /Node 18\.[0-9.]+ is too old; installing Node 24 from npm/);
  t.regex(output, /installing .*xfsprogs.* with apt/);
  t.regex(output, /nothing is left: no mount, no loop device, no file in /);
  t.regex(await inTree('dist/node --version'), /^v24\./);
});
