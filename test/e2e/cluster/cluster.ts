/** A real one-node Kubernetes cluster below one directory: its start, its end, and the failures that tests cause. */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { attempt, eventually, run } from '../../../scripts/command.ts';
import type { Layout } from './layout.ts';
import * as machine from './machine.ts';
import { makePki } from './pki.ts';
import { findProcess, processNames, startProcess, stopProcess } from './processes.ts';
import { type Service, serviceCommand } from './services.ts';
import { writeSettings } from './settings.ts';

export class Cluster {
  readonly layout: Layout;
  readonly #programs: string;

  constructor(layout: Layout, programs: string) {
    this.layout = layout;
    this.#programs = programs;
  }

  /** Starts everything, loads the images and returns when the node is ready, after some 15 s. */
  async up(archives: readonly string[]): Promise<void> {
    const { layout } = this;
    const folders = [layout.logs, layout.pki, join(layout.settings, 'cni'), layout.processes];
    for (const folder of [...folders, layout.pools, join(layout.state, 'kubelet')]) {
      await mkdir(folder, { recursive: true });
    }
    await machine.makeNetwork(layout);
    await machine.keepSysctls();
    await machine.shareState(layout);
    await machine.makeCgroups(layout);
    await makePki(layout);
    await writeSettings(layout);
    await this.start('etcd', 'containerd', 'apiserver');
    await this.#untilRuntimeAnswers();
    await this.load(archives);
    await this.#untilReadyz();
    await this.start('controller-manager', 'scheduler', 'kubelet', 'proxy');
    await this.untilNodeReady();
    await eventually('the default service account', async () => {
      const { exitCode } = await this.#kubectl('get', 'serviceaccount', 'default');
      return exitCode === 0 ? true : undefined;
    });
  }

  async start(...services: readonly Service[]): Promise<void> {
    const path = `${this.#programs}:${process.env['PATH'] ?? ''}`;
    for (const service of services) {
      const argv = serviceCommand(this.layout, this.#programs, service);
      await startProcess(this.layout, service, argv, { PATH: path });
    }
  }

  async stop(service: Service, signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    await stopProcess(this.layout, service, signal);
  }

  /** Loads image archives into the runtime's store. */
  async load(archives: readonly string[]): Promise<void> {
    for (const archive of archives) {
      await this.#ctr('images', 'import', archive);
    }
  }

  async untilNodeReady(): Promise<void> {
    await eventually(`node ${this.layout.nodeName} to be ready`, async () => {
      const wait = [
        'wait',
        '--for=condition=Ready',
        `node/${this.layout.nodeName}`,
        '--timeout=2s',
      ];
      const { exitCode } = await this.#kubectl(...wait);
      return exitCode === 0 ? true : undefined;
    });
  }

  /** Stops kubelet and runtime and kills every container, as a crash of the machine does, without touching mounts yet. */
  async killNode(): Promise<void> {
    await this.stop('kubelet', 'SIGKILL');
    await this.stop('proxy', 'SIGKILL');
    await this.stop('containerd', 'SIGKILL');
    await eventually('the end of all containers', async () => {
      const alive = [
        ...(await machine.shimProcesses(this.layout)),
        ...(await machine.podProcesses(this.layout)),
      ];
      for (const pid of alive) killIfThere(pid);
      return alive.length === 0 ? true : undefined;
    });
  }

  /**
   * Simulates a reboot: ends all processes, mounts and loop devices of the node, keeps its files, and starts the node again.
   * etcd and the API server keep running, like a control plane on another machine.
   */
  async reboot(): Promise<void> {
    const { layout } = this;
    await this.killNode();
    await machine.unmountAll(layout, [layout.state, layout.kubeletDir]);
    await machine.detachLoopDevices(layout);
    await rm(join(layout.state, 'containerd/state'), { recursive: true, force: true });
    await rm(join(layout.state, 'runc'), { recursive: true, force: true });
    await this.start('containerd');
    await this.#untilRuntimeAnswers();
    await this.start('kubelet', 'proxy');
    await this.untilNodeReady();
  }

  /** Stops only the processes of this cluster and undoes every change to the machine. Throws if something is left. */
  async down(): Promise<void> {
    const { layout } = this;
    const first = ['kubelet', 'proxy', 'scheduler', 'controller-manager', 'apiserver'];
    for (const name of first) await stopProcess(layout, name);
    if ((await findProcess(layout, 'containerd')) !== undefined) await this.#deleteTasks();
    for (const name of await processNames(layout)) await stopProcess(layout, name);
    await eventually('the end of all containers', async () => {
      const alive = [
        ...(await machine.podProcesses(layout)),
        ...(await machine.shimProcesses(layout)),
      ];
      for (const pid of alive) killIfThere(pid);
      return alive.length === 0 ? true : undefined;
    });
    await machine.unmountAll(layout);
    await machine.detachLoopDevices(layout);
    await machine.removeNetwork(layout);
    await machine.removeLogLinks(layout);
    await machine.removeCgroups(layout);
    await machine.restoreSysctls();
    const left = [...(await machine.mountsOf(layout)), ...(await machine.loopDevicesOf(layout))];
    if (left.length > 0) throw new Error(`the cluster left behind: ${left.join(', ')}`);
  }

  /** `command` in the cluster's network namespace, where its addresses answer. */
  inside(...command: readonly string[]): string[] {
    return ['nsenter', `--net=/run/netns/${this.layout.namespace}`, ...command];
  }

  async #kubectl(...args: readonly string[]): Promise<{ exitCode: number }> {
    const kubectl = [join(this.#programs, 'kubectl'), '--kubeconfig', this.layout.kubeconfig];
    const [file = '', ...rest] = this.inside(...kubectl, ...args);
    return attempt(file, rest);
  }

  async #ctr(...args: readonly string[]): Promise<string> {
    return run('ctr', ['--address', this.layout.criSocket, '--namespace', 'k8s.io', ...args]);
  }

  async #deleteTasks(): Promise<void> {
    const tasks = await this.#ctr('tasks', 'list', '--quiet').catch(() => '');
    for (const task of tasks.split('\n').filter((name) => name !== '')) {
      await this.#ctr('tasks', 'delete', '--force', task).catch(() => undefined);
    }
  }

  async #untilRuntimeAnswers(): Promise<void> {
    await eventually('containerd', async () => {
      const { exitCode } = await attempt('ctr', ['--address', this.layout.criSocket, 'version']);
      return exitCode === 0 ? true : undefined;
    });
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

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended meanwhile.
  }
}
