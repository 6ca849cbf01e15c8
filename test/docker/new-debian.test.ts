/**
 * The README's commands on a new Debian 12, whose Node is too old: the tree is a copy without history, as from an archive. Node and the
 * npm packages come from npm, the programs of filesystems from Debian.
 */
import { cp, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import test from 'ava';
import { eventually } from '../../scripts/command.ts';
import { makePaths } from '../../src/host/files/paths.ts';
import { driverLane } from '../../src/host/lane.ts';
import { debianRoot } from '../helpers/debian-root.ts';
import { type Lab, openLab } from './lab.ts';
import { type Machine, makeMachine } from './machine.ts';

const project = join(import.meta.dirname, '..', '..', '..');
const paths = makePaths(driverLane);
const tree = '/srv/loopcsi';
/** What a clone does not have, and what an archive does not have. */
const omitted = ['node_modules', 'dist', 'coverage', '.git'];

let lab: Lab;
let machine: Machine;

test.before(async () => {
  lab = await openLab();
  const root = await debianRoot(['nodejs', 'npm']);
  machine = await makeMachine(lab, {
    root,
    withProject: false,
    // `npm run demo` downloads Node and the packages of npm and Debian.
    commandTimeoutMs: 8 * 60_000,
  });
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

/** What a login sets, except HOME. The certificate is that of a proxy of this machine's network. */
const environment = [
  'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  'NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt',
];

/** Runs a script as that user. Returns both outputs. */
async function runAs(user: string, script: string, expectedExitCode = 0): Promise<string> {
  const argv = ['--user', user, '--', 'env', '-i', ...environment, 'sh', '-ec', script];
  const { exitCode, stdout, stderr } = await machine.attempt('runuser', ...argv);
  const output = `${stdout}\n${stderr}`;
  if (exitCode !== expectedExitCode)
    throw new Error(`${script} ended with ${exitCode}:\n${output}`);
  return output;
}

test.serial('npm run demo installs what is missing and runs to its end', async (t) => {
  t.regex(await runAs('root', 'node --version'), /^v18\./);
  const output = await runAs('root', `cd ${tree}; npm run demo`);
  t.regex(output, /Node 18\.[0-9.]+ is too old; installing Node 24 from npm/);
  t.regex(output, /installing .*xfsprogs.* with apt/);
  t.regex(output, /nothing is left: no mount, no loop device, no file in /);
  t.regex(await runAs('root', `${tree}/dist/node --version`), /^v24\./);
});

const home = '/srv/user';
const clone = `${home}/loopcsi`;
const terminal = `${home}/terminal`;

/** Makes a user who may use sudo, and moves the tree to this user's directory. */
async function makeUser(): Promise<void> {
  const steps = [
    `useradd --create-home --home-dir ${home} --shell /bin/sh dev`,
    "echo 'dev ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/dev",
    `mv ${tree} ${clone}`,
  ];
  await runAs('root', steps.join('\n'));
}

/** Runs `npm start` as the user on a terminal, whose output is in a file, and whose keys come from a FIFO. */
async function startOnTerminal(): Promise<void> {
  const script = `cd ${clone}; mkfifo keys; exec script --quiet --flush --return --command 'npm start' ${terminal} <>keys`;
  const argv = [
    '--quiet',
    '--unit=terminal',
    '--property=User=dev',
    '--property=RemainAfterExit=yes',
  ];
  // systemd sets HOME for a user.
  const shell = ['env', '-i', ...environment, 'TERM=dumb', 'sh', '-ec', script];
  await machine.run('systemd-run', ...argv, ...shell);
}

async function shown(text: RegExp): Promise<string> {
  return eventually(
    `${text} on the terminal`,
    async () => {
      const output = await readFile(machine.seen(terminal), 'utf8');
      if (text.test(output)) return output.replaceAll('\r\n', '\n');
      throw new Error(output);
    },
    { everyMs: 100, timeoutMs: 120_000 },
  );
}

test.serial(
  'npm start serves a user with sudo, and its overview shows commands that work',
  async (t) => {
    await makeUser();
    const refused = await runAs('dev', `cd ${clone}; npm run build`, 1);
    const [, advice = ''] = /run '(sudo chown [^']*)'/.exec(refused) ?? [];
    await runAs('dev', advice);
    await startOnTerminal();
    const output = await shown(/Ctrl-C stops the driver/);
    t.regex(output, /INFO {2}pool opened pool=default/);
    const commands = [...output.matchAll(/^ {2}(sudo \S+\/bin\/loopcsi .*)$/gm)].map(
      ([, line]) => line,
    );
    t.is(commands.length, 4);
    for (const line of commands) await runAs('dev', line ?? '');
    t.regex(await runAs('root', 'findmnt /mnt/data'), /ext4/);

    const second = await runAs('dev', `cd ${clone}; npm start`, 1);
    t.regex(second, /another process answers on \/run\/loopcsi\/csi\.sock; stop it/);
    t.notRegex(second, /pool became unavailable/);
    const install = await runAs(
      'dev',
      `cd ${clone}; sh scripts/bootstrap run sh contrib/install`,
      1,
    );
    t.regex(install, /contrib\/install: another driver is running/);
    t.notRegex(install, /systemctl/);

    await runAs('dev', `sudo ${clone}/bin/loopcsi volume unmount data`);
    await runAs('dev', `sudo ${clone}/bin/loopcsi volume delete data --yes`);
    await writeFile(machine.seen(`${clone}/keys`), '\u0003');
    await shown(/INFO {2}stopped/);
    t.deepEqual(await machine.devices(), []);
  },
);

test.serial('contrib/install installs a service with the Node that the tree uses', async (t) => {
  const install = `cd ${clone}; sh scripts/bootstrap run sh contrib/install`;
  await writeFile(machine.seen('/etc/loopcsi.yaml'), 'logLevl: info\n');
  const refused = await runAs('dev', install, 1);
  t.regex(refused, /loopcsi is installed but does not start/);
  t.regex(refused, /^loopcsi: key logLevl in \/etc\/loopcsi\.yaml is not known/m);
  await writeFile(machine.seen('/etc/loopcsi.yaml'), 'httpAddress: off\n');
  await runAs('root', 'systemctl restart loopcsi');
  t.regex(await runAs('root', 'loopcsi pool list'), /default/);
  t.regex(await runAs('root', '/usr/local/lib/loopcsi/bin/node --version'), /^v24\./);
  await runAs('root', 'systemctl stop loopcsi');
  t.regex(await runAs('dev', 'kubectl-loopcsi --help'), /Usage: kubectl loopcsi /);
  t.regex(await runAs('dev', 'kubectl_complete-loopcsi vol'), /volumes\t/);
  await runAs('dev', `cd ${clone}; npm run build`);
  t.false(await paths.exists(machine.seen('/usr/sbin/policy-rc.d')));
  await machine.halt();
});
