/** Loading an archive into a container runtime, with the command that the runtime documents. */
import { type Argv, asRoot, Failure, findDefect, runVisibly } from './programs.ts';

export const targetNames = ['docker', 'containerd', 'k3s', 'kind', 'minikube', 'microk8s'] as const;
export type TargetName = (typeof targetNames)[number];

interface Target {
  /** Ends with 0 if the program is installed. */
  readonly check: Argv;
  /** `cluster` selects one of several clusters, where the program has such a flag. */
  readonly load: (archive: string, cluster: string | undefined) => Argv;
  readonly clusterFlag?: string;
  /** What the user can do if loading fails. */
  readonly advice: string;
  /** Only this machine gets the image, not the other nodes of its cluster. */
  readonly oneNode: boolean;
}

const targets: Readonly<Record<TargetName, Target>> = {
  docker: {
    check: ['docker', 'version'],
    load: (archive) => ['docker', 'load', '--input', archive],
    advice: "'docker version' shows whether the daemon can be reached",
    oneNode: true,
  },
  containerd: {
    check: ['ctr', '--version'],
    // The kubelet sees only this namespace.
    load: (archive) =>
      asRoot(['ctr', '--namespace', 'k8s.io', 'images', 'import', archive], 'CONTAINERD_ADDRESS'),
    advice:
      'containerd must run on this machine; if its socket is not /run/containerd/containerd.sock, set CONTAINERD_ADDRESS',
    oneNode: true,
  },
  k3s: {
    check: ['k3s', '--version'],
    load: (archive) => asRoot(['k3s', 'ctr', 'images', 'import', archive]),
    advice: 'k3s must run on this machine; on another node, use --output and copy the file there',
    oneNode: true,
  },
  kind: {
    check: ['kind', 'version'],
    load: (archive, cluster) => [
      'kind',
      'load',
      'image-archive',
      archive,
      ...flag('--name', cluster),
    ],
    clusterFlag: '--name',
    advice: "'kind get clusters' lists the clusters; choose one with --cluster",
    oneNode: false,
  },
  minikube: {
    check: ['minikube', 'version'],
    load: (archive, cluster) => [
      'minikube',
      'image',
      'load',
      archive,
      ...flag('--profile', cluster),
    ],
    clusterFlag: '--profile',
    advice: "'minikube profile list' lists the clusters; choose one with --cluster",
    oneNode: false,
  },
  microk8s: {
    check: ['microk8s', 'version'],
    load: (archive) => ['microk8s', 'ctr', 'image', 'import', archive],
    advice: "'microk8s status' shows whether it runs and whether this user may use it",
    oneNode: true,
  },
};

function flag(name: string, value: string | undefined): readonly string[] {
  return value === undefined ? [] : [name, value];
}

/** Checks before the build, which takes minutes, what loading needs. Throws a Failure. */
export async function requireTarget(
  target: TargetName,
  cluster: string | undefined,
): Promise<void> {
  const { check, clusterFlag } = targets[target];
  if (cluster !== undefined && clusterFlag === undefined) {
    throw new Failure(`--cluster is for kind and minikube, not for ${target}: omit it`);
  }
  const defect = await findDefect(check);
  if (defect !== undefined) {
    throw new Failure(
      `the image cannot be loaded into ${target} (${defect}): run this on a machine that has it, or write the image to a file ` +
        'with --output FILE and load that file there',
    );
  }
}

export async function loadArchive(
  target: TargetName,
  archive: string,
  cluster: string | undefined,
): Promise<void> {
  const { load, advice } = targets[target];
  await runVisibly(load(archive, cluster), advice);
}

/** What remains to be done on the other nodes of a cluster, or undefined. */
export function otherNodes(target: TargetName, archive: string | undefined): string | undefined {
  if (!targets[target].oneNode || target === 'docker') return undefined;
  const file = archive ?? 'FILE';
  const command = targets[target].load(file, undefined).join(' ');
  const how =
    archive === undefined ? 'run this again with --output FILE, copy the file' : 'copy it';
  return `Only this node has the image. For other nodes, ${how} there, and run: ${command}`;
}
