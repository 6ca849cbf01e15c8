/** A controller over the node of the matrix and its peer, for group snapshots with volumes of both. */
import { mkdir } from 'node:fs/promises';
import { pollUntil } from '../../src/async.ts';
import { type RunningController, startController } from '../../src/controller/controller.ts';
import { tlsCredentials } from '../../src/controller/tls.ts';
import { type Client, makeClient } from '../../src/csi/client.ts';
import { createLog } from '../../src/observe/log.ts';
import { FollowedCredentials } from '../../src/tls/credentials.ts';
import { type Certificates, writeTlsFiles } from '../helpers/certificates.ts';
import { changeableDiscovery, quickTimings } from '../helpers/controller.ts';
import * as calls from './calls.ts';
import type { TestNode } from './test-node.ts';

const driverName = 'loopcsi.io';
const log = createLog({ level: 'silent' });

export class GroupController {
  readonly #discovery: ReturnType<typeof changeableDiscovery>;
  readonly #running: RunningController;
  readonly #followed: FollowedCredentials;
  readonly #groups: Client<'csi.v1.GroupController'>;

  private constructor(
    discovery: ReturnType<typeof changeableDiscovery>,
    running: RunningController,
    { followed, endpoint }: { followed: FollowedCredentials; endpoint: string },
  ) {
    this.#discovery = discovery;
    this.#running = running;
    this.#followed = followed;
    this.#groups = makeClient('csi.v1.GroupController', `unix://${endpoint}`);
  }

  static async start(
    node: TestNode,
    { controller, authority }: Certificates,
  ): Promise<GroupController> {
    const directory = node.pathOf('controller');
    await mkdir(directory, { recursive: true });
    await writeTlsFiles(directory, controller, authority.certificate);
    const followed = await FollowedCredentials.follow({
      directory,
      driverName,
      role: 'controller',
      log,
    });
    const discovery = changeableDiscovery();
    const endpoint = node.pathOf('controller.sock');
    const running = await startController({
      endpoint,
      driverName,
      version: '0',
      discovery,
      credentials: tlsCredentials(followed, driverName),
      log,
      shutdownTimeoutMs: 1_000,
      timings: quickTimings,
    });
    return new GroupController(discovery, running, { followed, endpoint });
  }

  /** Connects to the agents at these addresses, which are new after a start of their drivers. */
  async #connect(addresses: readonly string[]): Promise<void> {
    this.#discovery.set(addresses);
    const areReady = (): boolean =>
      addresses.every((address) =>
        this.#running.agents
          .nodes()
          .some((node) => node.agent !== undefined && node.addresses.includes(address)),
      );
    if (!(await pollUntil(areReady, { timeoutMs: 30_000, pauseMs: 20 })))
      throw new Error('the controller does not reach both nodes');
  }

  async take(addresses: readonly string[], name: string, source_volume_ids: readonly string[]) {
    await this.#connect(addresses);
    return calls.retryWhileAborted(() =>
      this.#groups.CreateVolumeGroupSnapshot({ name, source_volume_ids }),
    );
  }

  async delete(
    addresses: readonly string[],
    group_snapshot_id: string,
    snapshot_ids: readonly string[],
  ) {
    await this.#connect(addresses);
    return calls.retryWhileAborted(() =>
      this.#groups.DeleteVolumeGroupSnapshot({ group_snapshot_id, snapshot_ids }),
    );
  }

  async stop(): Promise<void> {
    this.#groups.close();
    await this.#running.stop();
    this.#followed.close();
  }
}
