import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { attempt, type CommandResult } from '../../../scripts/command.ts';
import { Failure } from '../../../scripts/image/programs.ts';
import { fullName, helmCommand, parseImageName } from '../../../scripts/image/reference.ts';

/**
 * `npm run image` with programs on the PATH that only record their arguments. `npm run test:e2e` runs it with the real buildah and
 * containerd, for the image of its cluster.
 */
const root = join(import.meta.dirname, '..', '..', '..', '..');
const main = join(root, 'dist', 'scripts', 'image', 'main.js');

interface Ran extends CommandResult {
  /** One line for each program that ran, without the checks at the start. */
  readonly calls: readonly string[];
}

/** `programs` maps names to shell commands that follow the recording. */
async function image(
  t: ExecutionContext,
  programs: Readonly<Record<string, string>>,
  ...args: readonly string[]
): Promise<Ran> {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-image-test-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const log = join(directory, 'calls');
  await writeFile(log, '');
  await mkdir(join(directory, 'bin'));
  const all = { sudo: 'exec "$@"', git: 'exit 1', ...programs };
  for (const [name, command] of Object.entries(all)) {
    const path = join(directory, 'bin', name);
    const record = `case "$1" in version|--version) ;; *) echo "${name} $*" >>${log} ;; esac`;
    await writeFile(path, `#!/bin/sh\n${name === 'sudo' ? '' : record}\n${command}\n`);
    await chmod(path, 0o755);
  }
  const env = { PATH: join(directory, 'bin'), TMPDIR: directory };
  const result = await attempt(process.execPath, [main, ...args], { env, cwd: directory });
  const calls = (await readFile(log, 'utf8'))
    .trim()
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('git '))
    .map((line) => line.replaceAll(/\/[^\s:]*loopcsi-image-\w+\/image\.tar/g, 'ARCHIVE'));
  return { ...result, calls };
}

const name = 'localhost/loopcsi:0.1.0';
const built = (program: string): string =>
  `${program} --tag ${name} --build-arg VERSION=0.1.0 --build-arg REVISION=unknown ${root}`;

const targets = [
  { target: 'docker', loads: 'docker load --input ARCHIVE' },
  { target: 'containerd', program: 'ctr', loads: 'ctr --namespace k8s.io images import ARCHIVE' },
  { target: 'k3s', loads: 'k3s ctr images import ARCHIVE' },
  { target: 'kind', loads: 'kind load image-archive ARCHIVE' },
  { target: 'minikube', loads: 'minikube image load ARCHIVE' },
  { target: 'microk8s', loads: 'microk8s ctr image import ARCHIVE' },
] as const;

for (const { target, loads, ...more } of targets) {
  test(`--load ${target} builds, saves and loads the image, and prints how to use it`, async (t) => {
    const program = 'program' in more ? more.program : target;
    const ran = await image(
      t,
      { buildah: 'exit 0', [program]: 'exit 0' },
      ...['--with', 'buildah', '--load', target],
    );
    t.is(ran.exitCode, 0, ran.stderr);
    t.deepEqual(ran.calls, [
      built('buildah build --layers'),
      `buildah push --quiet ${name} docker-archive:ARCHIVE:${name}`,
      loads,
    ]);
    t.regex(ran.stdout, new RegExp(`^Loaded it into ${target}\\.$`, 'm'));
    if (target === 'docker')
      t.regex(ran.stdout, /docker-plugin\.sh loopcsi localhost\/loopcsi:0\.1\.0/);
    else t.true(ran.stdout.endsWith(`\n\n  ${helmCommand(parseImageName('loopcsi', '0.1.0'))}`));
    t.is(/Only this node/.test(ran.stdout), ['containerd', 'k3s', 'microk8s'].includes(target));
  });
}

const builders = [
  { program: 'docker', builds: 'docker build', saves: `docker save --output ARCHIVE ${name}` },
  {
    program: 'podman',
    builds: 'podman build',
    saves: `podman save --format docker-archive --output ARCHIVE ${name}`,
  },
] as const;

for (const { program, builds, saves } of builders) {
  test(`${program} builds the image if it is the only program that works, and saves it for kind`, async (t) => {
    const programs = { docker: 'exit 1', [program]: 'exit 0', kind: 'exit 0' };
    const ran = await image(t, programs, '--load', 'kind', '--cluster', 'lab');
    t.is(ran.exitCode, 0, ran.stderr);
    t.deepEqual(ran.calls, [built(builds), saves, 'kind load image-archive ARCHIVE --name lab']);
  });
}

test('an image that docker has built is in docker already', async (t) => {
  const ran = await image(t, { docker: 'exit 0' }, '--load', 'docker');
  t.deepEqual(ran.calls, [built('docker build')]);
  t.regex(ran.stdout, /Loaded it into docker/);
});

test('--output keeps the archive for other nodes; --tag and --build-arg are passed on', async (t) => {
  const full = 'ghcr.io/me/loopcsi:1.0';
  const ran = await image(
    t,
    { buildah: 'exit 0', k3s: 'exit 0' },
    ...['--tag', full, '--build-arg', 'NODE_IMAGE=mirror/node:24', '--output', 'driver.tar'],
    ...['--load', 'k3s'],
  );
  t.is(ran.exitCode, 0, ran.stderr);
  t.regex(ran.calls[0] ?? '', /--tag ghcr\.io\/me\/loopcsi:1\.0 .*--build-arg NODE_IMAGE=mirror/);
  t.regex(ran.calls[2] ?? '', /^k3s ctr images import \/\S+\/driver\.tar$/);
  t.regex(ran.stdout, /^Wrote it to \/\S+\/driver\.tar\.$/m);
  t.regex(ran.stdout, /copy it there, and run: .*k3s ctr images import \/\S+\/driver\.tar$/m);
  t.regex(ran.stdout, /image\.registry=ghcr\.io,image\.repository=me\/loopcsi,image\.tag=1\.0,/);
});

const working = { buildah: 'exit 0', ctr: 'exit 0' };
const refused = [
  {
    name: 'no program builds',
    programs: { docker: 'echo "Cannot connect to the Docker daemon" >&2; exit 1' },
    args: [],
    says: /docker: Cannot connect to the Docker daemon; buildah: .* not installed; podman: .*start Docker, or install/,
  },
  {
    name: 'the chosen program is missing',
    programs: {},
    args: ['--with', 'podman'],
    says: /\(podman: podman is not installed\)/,
  },
  {
    name: 'the target is missing, before anything is built',
    programs: { buildah: 'exit 0' },
    args: ['--load', 'kind'],
    says: /cannot be loaded into kind \(kind is not installed\).*--output FILE/,
  },
  {
    name: 'the build fails',
    programs: { ...working, buildah: '[ "$1" != build ]' },
    args: [],
    says: /buildah build ended with exit code 1: .*--build-arg NODE_IMAGE/,
  },
  {
    name: 'loading fails',
    programs: { ...working, ctr: '[ "$1" = --version ]' },
    args: ['--load', 'containerd'],
    says: /ended with exit code 1: containerd must run on this machine.*CONTAINERD_ADDRESS/,
  },
  {
    name: 'a cluster without a target',
    programs: working,
    args: ['--cluster', 'lab'],
    says: /add --load kind or --load minikube/,
  },
  {
    name: 'a cluster for a target that has none',
    programs: working,
    args: ['--load', 'containerd', '--cluster', 'lab'],
    says: /--cluster is for kind and minikube, not for containerd/,
  },
  {
    name: 'an unknown target',
    programs: working,
    args: ['--load', 'swarm'],
    says: /Allowed choices are docker, containerd, k3s/,
  },
] as const;

for (const { name: what, programs, args, says } of refused) {
  test(`refused with advice: ${what}`, async (t) => {
    const ran = await image(t, programs, ...args);
    t.is(ran.exitCode, 1);
    t.regex(ran.stderr, says);
    t.false(ran.stderr.includes('    at '), 'no stack trace');
  });
}

test('names of images', (t) => {
  const full = (text: string): string => fullName(parseImageName(text, '0.1.0'));
  t.is(full('loopcsi'), 'localhost/loopcsi:0.1.0');
  t.is(full('loopcsi:dev'), 'localhost/loopcsi:dev');
  t.is(full('team/loopcsi'), 'localhost/team/loopcsi:0.1.0');
  t.is(full('r.example:5000/a/b:c'), 'r.example:5000/a/b:c');
  t.is(full('localhost/x:1'), 'localhost/x:1');
  t.is(full('localhost:5000/x'), 'localhost:5000/x:0.1.0');
  for (const wrong of ['', ':1', 'A/b', 'a b', 'a/', 'a@sha256:0', 'a:b:c', 'a//b']) {
    t.throws(
      () => full(wrong),
      { instanceOf: Failure, message: /is not a name of an image/ },
      wrong,
    );
  }
});
