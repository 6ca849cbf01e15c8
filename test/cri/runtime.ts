/** containerd with its CRI service and a CNI bridge in a node of the lab, and pods in it. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { attempt, eventually, run } from '../../scripts/command.ts';
import { busybox, type Lab, type NodeSpace } from '../docker/lab.ts';
import { startService } from '../docker/processes.ts';
import { packBusybox } from '../images/busybox.ts';
import { type CriClient, criClient } from './client.ts';

const pause = 'localhost/sleeper:lab';

export interface HostMount {
  readonly hostPath: string;
  readonly containerPath: string;
  readonly propagation?: 'PROPAGATION_PRIVATE' | 'PROPAGATION_HOST_TO_CONTAINER';
}

export interface Pod {
  readonly address: string;
  /** Runs a shell script in the pod's container and returns its output. Throws if its exit code is not 0. */
  shell(script: string): Promise<string>;
  remove(): Promise<void>;
}

export interface Runtime {
  /** Starts a pod with one container that sleeps, or runs `script`. */
  pod(name: string, options: { mounts: readonly HostMount[]; script?: string }): Promise<Pod>;
  /** The number of sandboxes and containers that the runtime has. */
  count(): Promise<number>;
}

export async function startRuntime(lab: Lab, node: NodeSpace): Promise<Runtime> {
  const directory = join(node.directory, 'cri');
  await mkdir(join(directory, 'net.d'), { recursive: true });
  const socket = join(directory, 'c.sock');
  await writeFile(join(directory, 'containerd.toml'), settings(directory, socket));
  await writeFile(join(directory, 'net.d/10-lab.conflist'), JSON.stringify(network(directory)));
  const log = join(directory, 'containerd.log');
  const config = `${directory}/containerd.toml`;
  const containerd = await startService([...node.enter, 'containerd', '--config', config], log);
  lab.atEnd(() => containerd.end());
  const client = await criClient(socket);
  lab.atEnd(async () => {
    client.close();
  });
  await eventually(
    'the runtime and its network to be ready',
    async () => {
      if (containerd.hasEnded())
        throw new Error(`containerd ended: ${await readFile(log, 'utf8')}`);
      const { status } = v.parse(statusAnswer, await client.call('Status', {}));
      return status.conditions.every((one) => one.status) ? true : undefined;
    },
    { timeoutMs: 30_000, everyMs: 100 },
  );
  const sleeper = join(directory, 'sleeper.tar');
  const entrypoint = ['/bin/sleep', '1000000'];
  await packBusybox(sleeper, { names: [pause], entrypoint });
  for (const archive of [sleeper, lab.imageArchive]) {
    await run('ctr', ['--address', socket, '--namespace', 'k8s.io', 'images', 'import', archive]);
  }
  const context = { client, lab, directory };
  return {
    pod: (name, options) => startPod(context, name, options),
    count: async () => {
      const sandboxes = v.parse(listAnswer, await client.call('ListPodSandbox', {}));
      const containers = v.parse(listAnswer, await client.call('ListContainers', {}));
      return (sandboxes.items ?? []).length + (containers.containers ?? []).length;
    },
  };
}

const statusAnswer = v.object({
  status: v.object({ conditions: v.array(v.object({ type: v.string(), status: v.boolean() })) }),
});
const listAnswer = v.object({
  items: v.optional(v.array(v.unknown())),
  containers: v.optional(v.array(v.unknown())),
});
const sandboxAnswer = v.object({ pod_sandbox_id: v.string() });
const containerAnswer = v.object({ container_id: v.string() });
const addressAnswer = v.object({
  status: v.object({ network: v.object({ ip: v.pipe(v.string(), v.nonEmpty()) }) }),
});
const execAnswer = v.object({
  stdout: v.instance(Uint8Array),
  stderr: v.instance(Uint8Array),
  exit_code: v.number(),
});

interface Context {
  readonly client: CriClient;
  readonly lab: Lab;
  readonly directory: string;
}

async function startPod(
  { client, lab, directory }: Context,
  name: string,
  options: { mounts: readonly HostMount[]; script?: string },
): Promise<Pod> {
  const namespaces = { network: 0, pid: 1, ipc: 0 };
  const sandbox = {
    metadata: { name, namespace: 'lab', uid: name, attempt: 0 },
    hostname: name,
    log_directory: join(directory, 'log', name),
    linux: {
      cgroup_parent: `/${lab.cgroup}`,
      security_context: { namespace_options: namespaces },
    },
  };
  const response = await client.call('RunPodSandbox', { config: sandbox });
  const { pod_sandbox_id } = v.parse(sandboxAnswer, response);
  const created = await client.call('CreateContainer', {
    pod_sandbox_id,
    config: {
      metadata: { name: 'main', attempt: 0 },
      image: { image: busybox },
      command: ['sh', '-c', options.script ?? 'exec sleep 1000000'],
      log_path: 'main.log',
      mounts: options.mounts.map(({ hostPath, containerPath, propagation }) => ({
        host_path: hostPath,
        container_path: containerPath,
        propagation: propagation === 'PROPAGATION_HOST_TO_CONTAINER' ? 1 : 0,
      })),
      linux: { security_context: { namespace_options: namespaces } },
    },
    sandbox_config: sandbox,
  });
  const { container_id } = v.parse(containerAnswer, created);
  await client.call('StartContainer', { container_id });
  const { status } = v.parse(
    addressAnswer,
    await client.call('PodSandboxStatus', { pod_sandbox_id }),
  );
  return {
    address: status.network.ip,
    shell: async (script) => {
      const cmd = ['sh', '-c', script];
      const answer = await client.call('ExecSync', { container_id, cmd, timeout: 30 });
      const { stdout, stderr, exit_code } = v.parse(execAnswer, answer);
      const [output, errors] = [stdout, stderr].map((bytes) => Buffer.from(bytes).toString());
      if (exit_code !== 0) throw new Error(`${script} ended with ${exit_code}: ${errors ?? ''}`);
      return (output ?? '').trim();
    },
    remove: async () => {
      await client.call('StopPodSandbox', { pod_sandbox_id });
      await client.call('RemovePodSandbox', { pod_sandbox_id });
    },
  };
}

function settings(directory: string, socket: string): string {
  const cri = 'plugins."io.containerd.grpc.v1.cri"';
  return `version = 2
root = "${directory}/root"
state = "${directory}/state"
[grpc]
  address = "${socket}"
[ttrpc]
  address = "${directory}/t.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "${directory}/opt"
[${cri}]
  sandbox_image = "${pause}"
  netns_mounts_under_state_dir = true
  # Lowering it takes a capability that a root may lack.
  restrict_oom_score_adj = true
  [${cri}.cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "${directory}/net.d"
  [${cri}.containerd]
    snapshotter = "overlayfs"
    [${cri}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [${cri}.containerd.runtimes.runc.options]
        Root = "${directory}/runc"
`;
}

function network(directory: string): unknown {
  const ipam = {
    type: 'host-local',
    dataDir: join(directory, 'addresses'),
    ranges: [[{ subnet: '10.97.0.0/24' }]],
  };
  return {
    cniVersion: '1.0.0',
    name: 'lab',
    plugins: [{ type: 'bridge', bridge: 'lab0', isGateway: true, ipam }],
  };
}

/** Bridge interfaces and veth ends of the pods' network in the node. */
export async function podLinks(node: NodeSpace): Promise<readonly string[]> {
  const { stdout } = await attempt('ip', [
    '-netns',
    node.netns,
    '-oneline',
    'link',
    'show',
    'type',
    'veth',
  ]);
  return stdout.split('\n').filter((line) => line !== '');
}
