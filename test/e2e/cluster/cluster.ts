/**
 * A real Kubernetes cluster below one directory, with any number of nodes, on one machine.
 *
 * The control plane (etcd, API server, controller manager, scheduler) runs in a network namespace of its own, 10.255.0.1, with a
 * bridge. Node i is a network namespace at that bridge (10.255.0.10i, pods 10.244.i.0/24), a mount namespace in which
 * /var/lib/kubelet and /var/lib/loopcsi are directories of its own, a cgroup, certificates, containerd, kubelet and kube-proxy.
 * Nodes share the machine's kernel: its /dev, loop devices, sysctls and process IDs. Tests run in the control plane's network
 * namespace (`inside`), where every node, pod and service answers.
 *
 *     const cluster = Cluster.of(layoutOf(directory, 3), programs);   // or: await Cluster.find(directory, programs)
 *     await cluster.up(archives);                                     // all nodes are Ready
 *     const [first, second] = cluster.nodes;
 *     await second.powerOff();      await second.powerOn();           // a reboot; powerOff alone is a node that is lost
 *     await second.disconnect();    await second.reconnect();         // its network cable
 *     await second.stop('kubelet'); await second.start('kubelet');    // one service
 *     process.kill(await second.driverProcess(), 'SIGSTOP');          // a driver that hangs
 *     await readdir(await second.pathOf('/var/lib/loopcsi/pools'));   // a node's files, through its mounts
 *     await cluster.untilReady();
 *     await cluster.down();                                           // removes everything, also what a killed run has left
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { attempt } from '../../../scripts/command.ts';
import { eventually } from '../eventually.ts';
import { writeAuditPolicy } from './audit.ts';
import { findLayout, type Layout } from './layout.ts';
import * as machine from './machine.ts';
import { makeNetwork, removeNetwork } from './network.ts';
import { ClusterNode } from './node.ts';
import { makePki } from './pki.ts';
import { processNames, startProcess, stopProcess } from './processes.ts';
import { type ControlService, controlCommand } from './services.ts';

export class Cluster {
  readonly layout: Layout;
  readonly nodes: readonly ClusterNode[];
  readonly #programs: string;

  private constructor(layout: Layout, programs: string) {
    this.layout = layout;
    this.nodes = layout.nodes.map((node) => new ClusterNode(layout, node, programs));
    this.#programs = programs;
  }

  /** A cluster to start. `programs` is `clusterPrograms()`. */
  static of(layout: Layout, programs: string): Cluster {
    return new Cluster(layout, programs);
  }

  /** The cluster that was started below that directory, for example by another process. */
  static async find(directory: string, programs: string): Promise<Cluster> {
    return new Cluster(await findLayout(directory), programs);
  }

  /** The node with that name. */
  node(name: string): ClusterNode {
    const found = this.nodes.find((node) => node.name === name);
    if (found === undefined) throw new Error(`the cluster has no node ${name}`);
    return found;
  }

  /** The node on which the volume or snapshot with that id was created. */
  async nodeOf(id: string): Promise<ClusterNode> {
    for (const node of this.nodes) {
      const tag = await machine.nodeTagOf(node.layout);
      if (tag !== undefined && id.endsWith(`.${tag}`)) return node;
    }
    throw new Error(`${id} is on no node of the cluster`);
  }

  /** Starts everything, loads the images and returns when all nodes are ready: after some 15 s with one node. */
  async up(archives: readonly string[]): Promise<void> {
    const { layout, nodes } = this;
    const folders = [layout.logs, layout.pki, layout.settings, layout.control.processes];
    for (const folder of folders) await mkdir(folder, { recursive: true });
    for (const { directory } of layout.nodes) await mkdir(directory, { recursive: true });
    await writeAuditPolicy(layout);
    await makeNetwork(layout);
    await machine.keepMachine();
    await machine.makeCgroups(layout);
    await Promise.all([
      this.#startControlPlane(),
      ...nodes.map(async (node) => {
        await node.install();
        await node.load(archives);
      }),
    ]);
    for (const node of nodes) await node.start('kubelet', 'proxy');
    await this.untilReady();
    await eventually('the default service account', async () => {
      const { exitCode } = await this.#kubectl('get', 'serviceaccount', 'default');
      return exitCode === 0 ? true : undefined;
    });
  }

  /** Starts services of the control plane. */
  async start(...services: readonly ControlService[]): Promise<void> {
    for (const service of services) {
      const command = controlCommand(this.layout, this.#programs, service);
      await startProcess(this.layout.control, service, this.inside(...command));
    }
  }

  async stop(service: ControlService, signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    await stopProcess(this.layout.control, service, signal);
  }

  /** Loads image archives into the runtime's store of every node. */
  async load(archives: readonly string[]): Promise<void> {
    await Promise.all(this.nodes.map(async (node) => node.load(archives)));
  }

  /** Waits until these nodes are ready; by default, all of them. */
  async untilReady(nodes: readonly ClusterNode[] = this.nodes): Promise<void> {
    const names = nodes.map(({ name }) => `node/${name}`);
    await eventually(`${names.join()} to be ready`, async () => {
      const wait = ['wait', '--for=condition=Ready', ...names, '--timeout=2s'];
      return (await this.#kubectl(...wait)).exitCode === 0 ? true : undefined;
    });
  }

  /** Stops only the processes of this cluster and undoes every change to the machine. Throws if something is left. */
  async down(): Promise<void> {
    const { layout, nodes } = this;
    // The nodes first: the API server would delete nothing for them any more.
    await Promise.all(nodes.map(async (node) => node.powerOff()));
    for (const name of ['scheduler', 'controller-manager', 'apiserver']) {
      await stopProcess(layout.control, name);
    }
    for (const name of await processNames(layout.control)) await stopProcess(layout.control, name);
    await removeNetwork(layout);
    await machine.removeLogLinks(layout);
    await machine.removeCgroups(layout);
    await machine.restoreMachine();
    const left = (await Promise.all(nodes.map(async (node) => node.loopDevices()))).flat();
    if (left.length > 0) throw new Error(`the cluster left behind: ${left.join(', ')}`);
  }

  /** `command` in the control plane's network namespace, where the cluster's addresses answer. */
  inside(...command: readonly string[]): string[] {
    return ['nsenter', `--net=/run/netns/${this.layout.control.namespace}`, ...command];
  }

  async #kubectl(...args: readonly string[]): Promise<{ exitCode: number }> {
    const kubectl = [join(this.#programs, 'kubectl'), '--kubeconfig', this.layout.kubeconfig];
    const [file = '', ...rest] = this.inside(...kubectl, ...args);
    return attempt(file, rest);
  }

  async #startControlPlane(): Promise<void> {
    await makePki(this.layout);
    await this.start('etcd', 'apiserver');
    await this.#untilReadyz();
    await this.start('controller-manager', 'scheduler');
  }

  async #untilReadyz(): Promise<void> {
    await eventually(
      'the API server',
      async () => {
        const { exitCode } = await this.#kubectl('get', '--raw', '/readyz');
        return exitCode === 0 ? true : undefined;
      },
      { timeoutMs: 120_000 },
    );
  }
}
