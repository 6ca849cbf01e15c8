/** Copies between the node of the matrix and another one. The test does what the controller does: it opens and offers the source. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';
import { Client as Channel, status } from '@grpc/grpc-js';
import { type Client, makeClientOn } from '../../src/csi/client.ts';
import type { CreateVolumeResponse } from '../../src/csi/types.ts';
import { groupIdFor, nodeTagOf, snapshotIdFor, volumeIdFor } from '../../src/ids.ts';
import { agentChannelCredentials, agentChannelOptions } from '../../src/tls/agent-channel.ts';
import { MiB } from '../../src/units.ts';
import type { Certificates } from '../helpers/certificates.ts';
import { portOf } from '../helpers/driver.ts';
import { until } from '../helpers/until.ts';
import * as calls from './calls.ts';
import { GroupController } from './group-controller.ts';
import { brokenInvariants, waitUntilIdle } from './invariants.ts';
import { TestNode } from './test-node.ts';

const peerId = 'peer-node';
const tags = { peer: nodeTagOf(peerId), own: nodeTagOf('test-node') } as const;
const local = '127.0.0.1';

/** What a copy is made of: a volume or a snapshot of the node that sends. */
type Source = { readonly volume: string } | { readonly snapshot: string };

const peers = new Map<TestNode, Peer>();

/** The other node of this one. It is made when it is needed, and checked and removed when the node is cleared. */
export async function peerOf(testNode: TestNode): Promise<Peer> {
  const found = peers.get(testNode);
  if (found !== undefined) return found;
  const peer = await Peer.make(testNode);
  peers.set(testNode, peer);
  testNode.recordUndo(async () => {
    peers.delete(testNode);
    await peer.end();
  });
  return peer;
}

class Peer {
  /** The node that is killed, and the one of the peer. */
  readonly #own: TestNode;
  readonly #peer: TestNode;
  readonly #certificates: Certificates;
  /** The last ticket of the node that is killed, and the driver that issued it. */
  #issued: { readonly pid: number; readonly ticket: string; readonly source: object } | undefined;

  /** Started for the first group. */
  #controller: GroupController | undefined;

  private constructor(own: TestNode, peer: TestNode, certificates: Certificates) {
    this.#own = own;
    this.#peer = peer;
    this.#certificates = certificates;
  }

  static async make(own: TestNode): Promise<Peer> {
    const { certificates, poolFs } = own.options;
    if (certificates === undefined) throw new Error('the row has no peer');
    const flags = () => [`--node-id=${peerId}`];
    return new Peer(
      own,
      await TestNode.make({ poolFs, certificates, flags, isPlain: true }),
      certificates,
    );
  }

  /** An idle raw block volume of the peer with that much data. */
  async filledBlock(name: string, bytes: bigint): Promise<void> {
    await this.#create(name, 'block', bytes);
    const file = await open(this.#imageOf(this.#peer, 'volumes', this.#volumeId(name)), 'r+');
    try {
      const chunk = Buffer.alloc(Number(4n * MiB), 'loopcsi');
      for (let at = 0n; at < bytes; at += 4n * MiB)
        await file.write(chunk, 0, chunk.length, Number(at));
      await file.sync();
    } finally {
      await file.close();
    }
  }

  /** A staged ext4 volume of the peer with a file of that text. */
  async stagedExt4(name: string, text: string): Promise<void> {
    await this.#create(name, 'ext4', calls.sizes.ext4);
    this.#peer.recordUndo(() => this.#unstage(name));
    await calls.writeSynced(await this.#stage(name), 'file', text);
  }

  async snapshot(name: string, volume: string): Promise<void> {
    const snapshot_id = snapshotIdFor(name, tags.peer);
    const { controller } = this.#peer;
    this.#peer.recordUndo(() =>
      calls.retryWhileAborted(() => controller.DeleteSnapshot({ snapshot_id })),
    );
    const request = { name, source_volume_id: this.#volumeId(volume) };
    await until(
      `snapshot ${name} is ready`,
      async () => (await controller.CreateSnapshot(request)).snapshot?.ready_to_use === true,
    );
  }

  /** The node copies a volume or snapshot of the peer. */
  async receive(
    name: string,
    { sizeBytes, ...source }: Source & { readonly sizeBytes?: bigint },
  ): Promise<CreateVolumeResponse> {
    const kind = sizeBytes === undefined ? 'block' : 'ext4';
    const volume_id = calls.volumeIdOf(name);
    this.#own.recordUndo(() =>
      calls.retryWhileAborted(() => this.#own.controller.DeleteVolume({ volume_id })),
    );
    return this.#copy(name, source, { from: this.#peer, to: this.#own, kind, sizeBytes });
  }

  /** The peer copies a volume or snapshot of the node. */
  async take(name: string, source: Source): Promise<CreateVolumeResponse> {
    await this.#requireOldTicketRefused();
    const volume_id = this.#volumeId(name);
    this.#peer.recordUndo(() =>
      calls.retryWhileAborted(() => this.#peer.controller.DeleteVolume({ volume_id })),
    );
    const kind = 'volume' in source && name === 'c' ? 'ext4' : 'block';
    return this.#copy(name, source, { from: this.#own, to: this.#peer, kind });
  }

  /** Throws unless the copy on the node has the bytes of its source on the peer. */
  async requireReceived(name: string, source: Source): Promise<void> {
    await this.#requireEqual(name, source, { from: this.#peer, to: this.#own });
  }

  /** Throws unless the copy on the peer has the bytes of its source on the node. */
  async requireTaken(name: string, source: Source): Promise<void> {
    await this.#requireEqual(name, source, { from: this.#own, to: this.#peer });
  }

  /** Throws unless the volume of the peer has the file with that text. */
  async requireFile(name: string, text: string): Promise<void> {
    await calls.requireText(await this.#stage(name), 'file', text);
    await this.#unstage(name);
  }

  /** A group of a volume of the node and one of the peer. The one whose id is the first keeps its record. */
  async takeGroup(name: string, { own, peer }: { readonly own: string; readonly peer: string }) {
    this.#controller ??= await this.#startController();
    const volumes = [calls.volumeIdOf(own), this.#volumeId(peer)];
    this.#own.recordUndo(() => this.deleteGroup(name, { own, peer }));
    return this.#controller.take(await this.#addresses(), name, volumes);
  }

  async deleteGroup(name: string, { own, peer }: { readonly own: string; readonly peer: string }) {
    this.#controller ??= await this.#startController();
    const [ownId, peerVolumeId] = [calls.volumeIdOf(own), this.#volumeId(peer)];
    const groupId = groupIdFor(name, ownId < peerVolumeId ? tags.own : tags.peer);
    const snapshotIds = [
      snapshotIdFor(`${name}/${ownId}`, tags.own),
      snapshotIdFor(`${name}/${peerVolumeId}`, tags.peer),
    ];
    return this.#controller.delete(await this.#addresses(), groupId, snapshotIds);
  }

  async #startController(): Promise<GroupController> {
    return GroupController.start(this.#own, this.#certificates);
  }

  async #addresses(): Promise<readonly string[]> {
    const ports = [this.#own, this.#peer].map((node) => portOf(node.driver, 'agentPort'));
    return (await Promise.all(ports)).map((port) => `${local}:${port}`);
  }

  /** Deletes everything on the peer. Throws if something was left there. */
  async end(): Promise<void> {
    await this.#controller?.stop();
    await this.#peer.clear();
    await waitUntilIdle(this.#peer);
    const problems = [
      ...(await brokenInvariants(this.#peer, 'empty')),
      ...(await this.#peer.end()),
    ];
    if (problems.length > 0) throw new Error(`on the peer: ${problems.join('; ')}`);
  }

  async #copy(
    name: string,
    copied: Source,
    way: { from: TestNode; to: TestNode; kind: calls.Kind; sizeBytes?: bigint | undefined },
  ): Promise<CreateVolumeResponse> {
    const { from, to, kind, sizeBytes = 0n } = way;
    const { id, content } = this.#contentOf(copied, from);
    const source = { kind: content.type, id, copy_name: name };
    const [sender, receiver] = [await this.#agentOf(from), await this.#agentOf(to)];
    try {
      return await calls.retryWhileAborted(async () => {
        const request = { source, peer_addresses: [local] };
        const { ticket } = await sender.client.OpenSource(request);
        if (from === this.#own) this.#issued = { pid: from.driver.pid, ticket, source };
        const node_id = from === this.#peer ? peerId : 'test-node';
        await receiver.client.OfferSource({ source, node_id, address: sender.address, ticket });
        const made = await to.controller.CreateVolume({
          name,
          capacity_range: { required_bytes: sizeBytes },
          volume_capabilities: [calls.capabilityFor(kind)],
          volume_content_source: content,
        });
        await sender.client.CloseSource({ source });
        return made;
      });
    } finally {
      sender.client.close();
      receiver.client.close();
    }
  }

  /** A ticket is of no use once the driver that issued it has ended. */
  async #requireOldTicketRefused(): Promise<void> {
    const { pid, ticket, source } = this.#issued ?? {};
    if (ticket === undefined || source === undefined || pid === this.#own.driver.pid) return;
    const channel = await this.#channelTo(this.#own, 'agent');
    const sources = makeClientOn('loopcsi.agent.v1.Sources', channel);
    try {
      const code = await sources.Describe({ ticket, source }).then(
        () => status.OK,
        (error: unknown) => (error as { code?: status }).code,
      );
      if (code !== status.UNAUTHENTICATED)
        throw new Error(`the ticket of a driver that was killed: ${String(code)}`);
    } finally {
      sources.close();
    }
  }

  async #requireEqual(
    name: string,
    source: Source,
    { from, to }: { readonly from: TestNode; readonly to: TestNode },
  ): Promise<void> {
    const { id, content } = this.#contentOf(source, from);
    const area = content.type === 'volume' ? 'volumes' : 'snapshots';
    const copy = volumeIdFor(name, tagOf(to));
    const [expected, found] = await Promise.all([
      hashOf(this.#imageOf(from, area, id)),
      hashOf(this.#imageOf(to, 'volumes', copy)),
    ]);
    if (expected !== found) throw new Error(`${copy} differs from ${id}`);
  }

  #contentOf(source: Source, from: TestNode) {
    if ('volume' in source) {
      const id = volumeIdFor(source.volume, tagOf(from));
      return { id, content: { type: 'volume', volume: { volume_id: id } } as const };
    }
    const id = snapshotIdFor(source.snapshot, tagOf(from));
    return { id, content: { type: 'snapshot', snapshot: { snapshot_id: id } } as const };
  }

  #imageOf(node: TestNode, area: 'volumes' | 'snapshots', id: string): string {
    return node.pathOf('pool', area, id, 'disk.img');
  }

  #volumeId(name: string): string {
    return volumeIdFor(name, tags.peer);
  }

  async #create(name: string, kind: calls.Kind, required_bytes: bigint): Promise<void> {
    const volume_id = this.#volumeId(name);
    const { controller } = this.#peer;
    this.#peer.recordUndo(() =>
      calls.retryWhileAborted(() => controller.DeleteVolume({ volume_id })),
    );
    const volume_capabilities = [calls.capabilityFor(kind)];
    await controller.CreateVolume({
      ...{ name, volume_capabilities },
      capacity_range: { required_bytes },
    });
  }

  async #stage(name: string): Promise<string> {
    const staging_target_path = await this.#peer.stagingPathOf(name);
    await this.#peer.node.NodeStageVolume({
      ...{ volume_id: this.#volumeId(name), staging_target_path },
      volume_capability: calls.capabilityFor('ext4'),
    });
    return staging_target_path;
  }

  async #unstage(name: string): Promise<void> {
    const staging_target_path = await this.#peer.stagingPathOf(name);
    const volume_id = this.#volumeId(name);
    await this.#peer.node.NodeUnstageVolume({ volume_id, staging_target_path });
  }

  async #agentOf(
    node: TestNode,
  ): Promise<{ readonly client: Client<'loopcsi.agent.v1.Agent'>; readonly address: string }> {
    const channel = await this.#channelTo(node, 'controller');
    const address = `${local}:${await portOf(node.driver, 'agentPort')}`;
    return { client: makeClientOn('loopcsi.agent.v1.Agent', channel), address };
  }

  async #channelTo(node: TestNode, role: 'controller' | 'agent'): Promise<Channel> {
    const { authority, [role]: pair } = this.#certificates;
    const context = createSecureContext({
      ca: authority.certificate,
      cert: pair.certificate,
      key: pair.key,
      minVersion: 'TLSv1.3',
    });
    const port = await portOf(node.driver, 'agentPort');
    const trusted = agentChannelCredentials(context, 'loopcsi.io');
    return new Channel(`${local}:${port}`, trusted, agentChannelOptions);
  }
}

function tagOf(node: TestNode): string {
  return node.options.isPlain === true ? tags.peer : tags.own;
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}
