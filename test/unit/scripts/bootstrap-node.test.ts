import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';

const project = join(import.meta.dirname, '..', '..', '..', '..');

/** The programs that the bootstrap may use before Node is there. */
const basePrograms = [
  ...['cat', 'chmod', 'cksum', 'cut', 'dirname', 'env', 'find', 'getent', 'grep', 'id', 'ln'],
  ...['mkdir', 'mktemp', 'mv', 'readlink', 'rm', 'sed', 'sh', 'tail', 'tee', 'uname'],
];

/** A Node that knows only its version and its path. */
const fakeNode = (version: string): string =>
  `case $1 in -v) echo v${version} ;; -p) echo "${version} $0" ;; esac`;

/** Of npm, only `npm install --prefix DIR … node-linux-ARCH@MAJOR`. */
const fakeNpm = (version: string): string => `
set -e
echo "npm $*" >>"$CALLS"
for name; do :; done
bin=$3/node_modules/\${name%@*}/bin
mkdir -p "$bin"
echo license >"$bin/../LICENSE"
printf '%s\\n' '#!/bin/sh' '${fakeNode(version)}' >"$bin/node"
chmod +x "$bin/node"`;

interface Machine {
  readonly cache: string;
  readonly dist: string;
  readonly systemNode: string;
  install(name: string, script: string): void;
  /** Runs `bootstrap packages node -v`. */
  bootstrap(env?: Readonly<Record<string, string>>): SpawnSyncReturns<string>;
  /** The calls of npm and apt-get so far. */
  calls(): readonly string[];
}

/** A checkout without history, whose npm packages are installed, on a machine with only the programs of a test. */
function makeMachine(directory: string): Machine {
  const [tree, bin, cache] = ['tree', 'bin', 'cache'].map((name) => join(directory, name)) as [
    string,
    string,
    string,
  ];
  mkdirSync(join(tree, 'scripts'), { recursive: true });
  mkdirSync(join(tree, 'node_modules'));
  mkdirSync(bin);
  for (const name of ['scripts/bootstrap', 'package-lock.json'])
    copyFileSync(join(project, name), join(tree, name));
  const shell = (script: string): string =>
    spawnSync('sh', ['-c', script], { cwd: tree, encoding: 'utf8' }).stdout;
  shell('cksum <package-lock.json >node_modules/.loopcsi-stamp');
  for (const name of basePrograms) symlinkSync(shell(`command -v ${name}`).trim(), join(bin, name));
  const log = join(directory, 'calls');
  writeFileSync(log, '');
  return {
    cache,
    dist: join(tree, 'dist'),
    systemNode: join(bin, 'node'),
    install: (name, script) => {
      // Otherwise a link to the program of this machine would be followed.
      rmSync(join(bin, name), { force: true });
      writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    },
    bootstrap: (env = { LOOPCSI_CACHE: cache }) =>
      spawnSync('/bin/sh', [join(tree, 'scripts/bootstrap'), 'packages', 'node', '-v'], {
        encoding: 'utf8',
        env: { PATH: bin, CALLS: log, BIN: bin, TMPDIR: directory, ...env },
      }),
    calls: () => shell(`cat '${log}'`).split('\n').slice(0, -1),
  };
}

const onMachine = (title: string, work: (t: ExecutionContext, m: Machine) => void) =>
  test(title, (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'loopcsi-bootstrap-'));
    t.teardown(() => {
      rmSync(directory, { recursive: true });
    });
    work(t, makeMachine(directory));
  });

onMachine('a Node that is new enough is used, and nothing is downloaded', (t, machine) => {
  machine.install('node', fakeNode('20.19.0'));
  machine.install('npm', fakeNpm('24.9.9'));
  const { status, stdout, stderr } = machine.bootstrap();
  t.is(status, 0, stderr);
  t.is(stdout, 'v20.19.0\n');
  t.deepEqual(machine.calls(), []);
  t.false(existsSync(machine.cache));
  // The fake machine's Node is in an unusual directory.
  t.is(readlinkSync(join(machine.dist, 'node')), machine.systemNode);
});

onMachine('if Node is too old, one from npm is used, and bin/loopcsi finds it', (t, machine) => {
  machine.install('node', fakeNode('18.19.1'));
  machine.install('npm', fakeNpm('24.9.9'));
  const first = machine.bootstrap();
  t.is(first.status, 0, first.stderr);
  t.is(first.stdout, 'v24.9.9\n');
  t.regex(first.stderr, /Node 18\.19\.1 is too old; installing Node 24 from npm/);
  const installed = join(machine.cache, 'node-24/bin/node');
  t.is(readlinkSync(join(machine.dist, 'node')), installed);
  t.deepEqual(readdirSync(machine.cache), ['node-24']);
  t.is(machine.bootstrap().stdout, 'v24.9.9\n');
  t.is(machine.calls().length, 1, 'it is installed once');
  machine.install('node', fakeNode('22.1.0'));
  t.is(machine.bootstrap().stdout, 'v22.1.0\n', 'a newer system wins again');
  t.is(readlinkSync(join(machine.dist, 'node')), machine.systemNode);
});

onMachine('an installation that was killed is repeated', (t, machine) => {
  machine.install('node', fakeNode('18.19.1'));
  // Half of the files are there when the bootstrap and npm are killed.
  machine.install('npm', `${fakeNpm('24.9.9')}\necho >"$bin/node"\nkill -9 $PPID`);
  t.is(machine.bootstrap().signal, 'SIGKILL');
  t.deepEqual(
    readdirSync(machine.cache).map((name) => name.replace(/\.\w{6}$/, '')),
    ['node-24.new'],
  );
  machine.install('npm', fakeNpm('24.9.9'));
  t.is(machine.bootstrap().stdout, 'v24.9.9\n');
});

onMachine('a Node in the cache that does not run is replaced', (t, machine) => {
  machine.install('node', fakeNode('18.19.1'));
  machine.install('npm', fakeNpm('24.9.9'));
  mkdirSync(join(machine.cache, 'node-24/bin'), { recursive: true });
  writeFileSync(join(machine.cache, 'node-24/bin/node'), '');
  t.is(machine.bootstrap().stdout, 'v24.9.9\n');
});

onMachine(
  'if npm fails, its output and the way out are printed, and nothing is left',
  (t, machine) => {
    machine.install('node', fakeNode('18.19.1'));
    machine.install('npm', 'echo "npm error no network"; exit 1');
    const { status, stderr } = machine.bootstrap();
    t.is(status, 1);
    t.regex(stderr, /npm error no network/);
    t.regex(stderr, /could not be installed from npm: .*Or install Node 20\.19 or later/);
    t.deepEqual(readdirSync(machine.cache), []);
  },
);

onMachine("without Node and npm, Debian's npm is installed first", (t, machine) => {
  machine.install('sudo', '[ "$1" = -n ] || exec "$@"');
  const scripts = { node: fakeNode('18.19.1'), npm: fakeNpm('24.9.9') };
  const install = Object.entries(scripts).map(
    ([name, script]) => `cat >"$BIN/${name}" <<'EOF'\n#!/bin/sh\n${script}\nEOF\n`,
  );
  machine.install('apt-get', `echo "apt-get $*" >>"$CALLS"\n${install.join('')}chmod +x "$BIN"/n*`);
  const { status, stdout, stderr } = machine.bootstrap();
  t.is(status, 0, stderr);
  t.is(stdout, 'v24.9.9\n');
  t.regex(machine.calls()[0] ?? '', /^apt-get .*install --no-install-recommends npm$/);
  t.regex(machine.calls()[1] ?? '', /^npm install .*node-linux-\w+@24$/);
});

onMachine('without Node, npm and apt, the bootstrap says what to install', (t, machine) => {
  const { status, stderr } = machine.bootstrap();
  t.is(status, 1);
  t.regex(stderr, /npm is not installed: install npm, or Node 20\.19 or later with its npm/);
});

onMachine("without HOME, the cache is below the user's own directory", (t, machine) => {
  machine.install('getent', 'echo "user:x:0:0::${CALLS%/*}/home:/bin/sh"');
  machine.install('node', fakeNode('18.19.1'));
  machine.install('npm', fakeNpm('24.9.9'));
  t.is(machine.bootstrap({}).stdout, 'v24.9.9\n');
  t.regex(
    readlinkSync(join(machine.dist, 'node')),
    /\/home\/\.cache\/loopcsi\/node-24\/bin\/node$/,
  );
});
