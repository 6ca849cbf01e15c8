/** A node of a test cluster: a simulated machine with a kubelet. `Cluster` in cluster.ts describes what it consists of. */
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { attempt, run } from '../../../scripts/command.ts';
import { eventually } from '../eventually.ts';
import type { Layout, NodeLayout } from './layout.ts';
import * as machine from './machine.ts';
import { makeMountNamespace, mountNamespaceOf, mountPointsOf, rootOf } from './mount-namespace.ts';
import { namespaceProcesses, setCable } from './network.ts';
import { startProcess, stopProcess } from './processes.ts';
import { type NodeService, nodeCommand } from './services.ts';
import { writeSettings } from './settings.ts';

export class ClusterNode {
  readonly layout: NodeLayout;
  readonly #cluster: Layout;
  readonly #programs: string;

  constructor(cluster: Layout, layout: NodeLayout, programs: string) {
    this.layout = layout;
    this.#cluster = cluster;
    this.#programs = programs;
  }

  /** The name of its Node object. */
  get name(): string {
    return this.layout.name;
  }

  /** Boots the node for the first time, up to the container runtime. Its network, cgroup and certificates exist. */
  async install(): Promise<void> {
    const { logs, processes } = this.layout;
    for (const folder of [logs, processes]) await mkdir(folder, { recursive: true });
    await writeSettings(this.#cluster, this.layout);
    await this.#bootToRuntime();
  }

  async start(...services: readonly NodeService[]): Promise<void> {
    const path = `${this.#programs}:${process.env['PATH'] ?? ''}`;
    for (const service of services) {
      const command = nodeCommand(this.layout, this.#programs, service);
      await startProcess(this.layout, service, await this.inside(...command), { PATH: path });
    }
  }

  async stop(service: NodeService, signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    await stopProcess(this.layout, service, signal);
  }

  /**
   * A power failure: every process of the node ends, and with them its mounts; then its loop devices are detached. Its files stay.
   * The Node object stays too, until Kubernetes notices.
   */
  async powerOff(): Promise<void> {
    const { layout } = this;
    for (const service of ['kubelet', 'proxy', 'containerd'] as const) {
      await this.stop(service, 'SIGKILL');
    }
    await eventually(`the end of all processes of ${layout.name}`, async () => {
      const alive = [
        ...(await machine.shimProcesses(layout)),
        ...(await machine.podProcesses(layout)),
        ...(await namespaceProcesses(layout)),
      ];
      for (const pid of alive) killIfThere(pid);
      return alive.length === 0 ? true : undefined;
    });
    await machine.detachLoopDevices(layout);
  }

  /** Starts a node that was powered off. Disks are not mounted again. */
  async powerOn(): Promise<void> {
    await rm(join(this.layout.directory, 'containerd/state'), { recursive: true, force: true });
    await rm(join(this.layout.directory, 'runc'), { recursive: true, force: true });
    await this.#bootToRuntime();
    await this.start('kubelet', 'proxy');
  }

  /** Pulls the network cable: the node runs on, but nothing reaches it and it reaches nothing. */
  async disconnect(): Promise<void> {
    await setCable(this.#cluster, this.layout, 'down');
  }

  async reconnect(): Promise<void> {
    await setCable(this.#cluster, this.layout, 'up');
  }

  /** Loads image archives into the runtime's store. */
  async load(archives: readonly string[]): Promise<void> {
    for (const archive of archives) await this.ctr('images', 'import', archive);
  }

  /** `command` as a process of the node, with its network and its mounts. */
  async inside(...command: readonly string[]): Promise<string[]> {
    const network = `--net=/run/netns/${this.layout.namespace}`;
    return ['nsenter', network, `--mount=${await mountNamespaceOf(this.layout)}`, ...command];
  }

  /** Runs a command in the node and returns its output. Throws if it fails. */
  async run(...command: readonly string[]): Promise<string> {
    const [file = '', ...args] = await this.inside(...command);
    return run(file, args);
  }

  /** A path of the node, for a process that is not in the node: through the node's mounts. */
  async pathOf(path: string): Promise<string> {
    return (await rootOf(this.layout)) + path;
  }

  /** Mount points in the node, innermost and topmost first. */
  async mountPoints(): Promise<string[]> {
    return mountPointsOf(this.layout);
  }

  /** Attached loop devices of the node, or of one of its volumes. */
  async loopDevices(volumeId?: string): Promise<string[]> {
    return machine.loopDevicesOf(this.layout, volumeId);
  }

  /** Process IDs of the machine. */
  async podProcesses(): Promise<number[]> {
    return machine.podProcesses(this.layout);
  }

  /** The processes in all containers of one pod. */
  async processesOfPod(uid: string): Promise<number[]> {
    const found: number[] = [];
    for (const pid of await this.podProcesses()) {
      const cgroups = await readFile(`/proc/${pid}/cgroup`, 'utf8').catch(() => '');
      if (cgroups.includes(`/pod${uid}/`)) found.push(pid);
    }
    return found;
  }

  async shimProcesses(): Promise<number[]> {
    return machine.shimProcesses(this.layout);
  }

  /** The process ID of the driver's node program. Stop it with SIGSTOP for a driver that hangs. */
  async driverProcess(): Promise<number> {
    for (const pid of await this.podProcesses()) {
      const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
      if (/dist\/\w+\/main\.js\0serve\0/.test(line)) return pid;
    }
    throw new Error(`no driver process on ${this.name}`);
  }

  async ctr(...args: readonly string[]): Promise<string> {
    return run('ctr', ['--address', this.layout.criSocket, '--namespace', 'k8s.io', ...args]);
  }

  async #bootToRuntime(): Promise<void> {
    await makeMountNamespace(this.layout, [this.#cluster.state, this.#programs]);
    await this.start('containerd');
    await eventually(`containerd of ${this.name}`, async () => {
      const version = ['--address', this.layout.criSocket, 'version'];
      return (await attempt('ctr', version)).exitCode === 0 ? true : undefined;
    });
  }
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended meanwhile.
  }
}
