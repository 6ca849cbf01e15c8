/** Kubernetes, the CSI sidecars and helm, built from the Go module proxy: `test/go/kubernetes/go.mod` names every release. */
import { chmod, copyFile, mkdir, readdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../../scripts/command.ts';
import { cached, hashInputs, projectRoot } from './cache.ts';

const module = join(projectRoot, 'test/go/kubernetes');
const minutes = 60_000;

const kubernetesPrograms = [
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
  'kube-proxy',
  'kubelet',
  'kubectl',
];

const packages = [
  './cmd/kube',
  './cmd/pause',
  'github.com/kubernetes-csi/external-provisioner/v6/cmd/csi-provisioner',
  'github.com/kubernetes-csi/external-resizer/v2/cmd/csi-resizer',
  'github.com/kubernetes-csi/external-snapshotter/v8/cmd/csi-snapshotter',
  'github.com/kubernetes-csi/external-snapshotter/v8/cmd/snapshot-controller',
  'helm.sh/helm/v4/cmd/helm',
];

const goEnvironment = { CGO_ENABLED: '0', GOFLAGS: '-mod=readonly -buildvcs=false', GOWORK: 'off' };

const go = async (...args: string[]): Promise<string> => goIn(module, ...args);

async function goIn(directory: string, ...args: string[]): Promise<string> {
  return run('nice', ['go', ...args], {
    cwd: directory,
    env: goEnvironment,
    timeoutMs: 40 * minutes,
  });
}

/** Kubernetes takes its version from the linker; without it the API server calls itself v0.0.0 and clients complain. */
async function linkerFlags(): Promise<string> {
  const version = (await go('list', '-m', '-f', '{{.Version}}', 'k8s.io/kubernetes')).trim();
  const [major = '', minor = ''] = version.slice(1).split('.');
  const stamp = Object.entries({
    gitVersion: version,
    gitMajor: major,
    gitMinor: minor,
    gitTreeState: 'clean',
    gitCommit: '0'.repeat(40),
    buildDate: '1970-01-01T00:00:00Z',
  }).map(([name, value]) => `-X k8s.io/component-base/version.${name}=${value}`);
  return ['-s -w', ...stamp, `-X k8s.io/client-go/pkg/version.gitVersion=${version}`].join(' ');
}

async function programsKey(): Promise<string> {
  return hashInputs([await go('env', 'GOVERSION', 'GOARCH'), ...packages], ['test/go/kubernetes']);
}

/**
 * A directory with the programs of a cluster, helm, and `crds/`. A build takes some 13 minutes on two cores with an empty Go
 * cache, and a second if it is cached.
 */
export async function clusterPrograms(): Promise<string> {
  built ??= buildClusterPrograms();
  return built;
}

let built: Promise<string> | undefined;

async function buildClusterPrograms(): Promise<string> {
  return cached('programs', await programsKey(), async (directory) => {
    const flags = ['-trimpath', '-ldflags', await linkerFlags(), '-o', `${directory}/`];
    await go('build', ...flags, ...packages);
    for (const program of kubernetesPrograms) await symlink('kube', join(directory, program));
    await copyCrds(join(directory, 'crds'));
  });
}

/** `e2e.test` (Kubernetes' own suite) and `agnhost`, the program in its test images. A build takes some four minutes on two cores. */
export async function suitePrograms(): Promise<string> {
  return cached('suite', await programsKey(), async (directory) => {
    const flags = ['-trimpath', '-ldflags', await linkerFlags()];
    await go(
      'test',
      '-c',
      ...flags,
      '-o',
      join(directory, 'e2e.test'),
      'k8s.io/kubernetes/test/e2e',
    );
    const agnhost = 'k8s.io/kubernetes/test/images/agnhost';
    await go('build', ...flags, '-o', join(directory, 'agnhost'), agnhost);
  });
}

/** `cert-manager`, and `crds/` with its CustomResourceDefinitions. A build takes some five minutes on two cores. */
export async function certManagerPrograms(): Promise<string> {
  const directory = 'test/go/cert-manager';
  const module = join(projectRoot, directory);
  const key = await hashInputs([await goIn(module, 'env', 'GOVERSION', 'GOARCH')], [directory]);
  return cached('cert-manager', key, async (target) => {
    const flags = ['-trimpath', '-ldflags', '-s -w', '-o', `${target}/`];
    await goIn(module, 'build', ...flags, './cmd/cert-manager');
    const name = 'github.com/cert-manager/cert-manager';
    const sources = (await goIn(module, 'list', '-m', '-f', '{{.Dir}}', name)).trim();
    await copyFiles(join(sources, 'deploy', 'crds'), join(target, 'crds'), (file) =>
      file.endsWith('.yaml'),
    );
  });
}

/** `restic`, and `versitygw`, an object store that keeps its objects in a directory. A build takes some three minutes on two cores. */
export async function backupPrograms(): Promise<string> {
  const directory = 'test/go/backup';
  const module = join(projectRoot, directory);
  const programs = [
    'github.com/restic/restic/cmd/restic',
    'github.com/versity/versitygw/cmd/versitygw',
  ];
  const key = await hashInputs(
    [await goIn(module, 'env', 'GOVERSION', 'GOARCH'), ...programs],
    [directory],
  );
  return cached('backup', key, async (target) => {
    const flags = ['-trimpath', '-ldflags', '-s -w', '-o', `${target}/`];
    await goIn(module, 'build', ...flags, ...programs);
  });
}

/** The snapshot CRDs of the client release in go.mod; the chart's copies are compared with these. */
async function copyCrds(target: string): Promise<void> {
  const client = 'github.com/kubernetes-csi/external-snapshotter/client/v8';
  const source = join((await go('list', '-m', '-f', '{{.Dir}}', client)).trim(), 'config', 'crd');
  await copyFiles(source, target, (name) => name.includes('snapshot.storage.k8s.io_'));
}

/** Copies files of a module, which are read-only in Go's cache. */
async function copyFiles(
  source: string,
  target: string,
  isWanted: (name: string) => boolean,
): Promise<void> {
  await mkdir(target);
  for (const name of await readdir(source)) {
    if (!isWanted(name)) continue;
    await copyFile(join(source, name), join(target, name));
    await chmod(join(target, name), 0o644);
  }
}
