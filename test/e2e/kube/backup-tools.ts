/** What backup tools do with claims and snapshots, step by step, with restic and an object store in the cluster. */
import * as v from 'valibot';
import { images } from '../cluster/images.ts';
import type { ClusterNode } from '../cluster/node.ts';
import { handleOf } from '../snapshot-metadata/cluster.ts';
import type { BlockRange } from '../snapshot-metadata/protocol.ts';
import { textAt } from './api.ts';
import { driverName, release } from './chart.ts';
import type { ClaimOptions } from './objects.ts';
import { api, isBound, type Scenario } from './scenario.ts';

const managedBy = 'snapshot.storage.kubernetes.io/managed-by';
/** Lets a claim have another mode than the volume of the snapshot. Only an administrator may set it. */
export const allowModeChange = {
  'snapshot.storage.kubernetes.io/allow-volume-mode-change': 'true',
} as const;

const key = 'backup';
const secret = 'backup-secret';

/** Succeeds once a program listens at port 7070. */
const isListening = "grep -q ':1B9E .* 0A ' /proc/net/tcp /proc/net/tcp6";

/** The address of an object store in a pod. */
export async function startStore(scenario: Scenario): Promise<string> {
  const serve = `ROOT_ACCESS_KEY=${key} ROOT_SECRET_KEY=${secret} versitygw --port :7070 posix /objects >/tmp/log 2>&1 &`;
  const pod = await scenario.readyPod('store', {
    image: images.backup,
    script: `{ ${serve} } && until ${isListening}; do sleep 1; done`,
    volumes: { '/objects': { emptyDir: {} } },
  });
  return `${textAt(pod, 'status.podIP') ?? ''}:7070`;
}

const summarySchema = v.object({
  message_type: v.literal('summary'),
  data_added: v.number(),
  total_bytes_processed: v.number(),
  files_unmodified: v.number(),
});
export type Summary = Readonly<v.InferOutput<typeof summarySchema>>;

/** A pod with restic, one of whose volumes is backed up or restored. */
export class Mover {
  readonly #scenario: Scenario;
  readonly #name: string;
  readonly #environment: string;

  private constructor(scenario: Scenario, name: string, repository: string) {
    this.#scenario = scenario;
    this.#name = name;
    const [store = '', path = ''] = repository.split(/\/(.*)/);
    this.#environment = [
      `export AWS_ACCESS_KEY_ID=${key} AWS_SECRET_ACCESS_KEY=${secret} RESTIC_PASSWORD=x`,
      `export RESTIC_REPOSITORY=s3:http://${store}/backups/${path}`,
    ].join('\n');
  }

  /** `repository` is STORE/PATH. */
  static async start(
    scenario: Scenario,
    name: string,
    options: {
      readonly repository: string;
      readonly claims: Readonly<Record<string, string>>;
      readonly node: ClusterNode;
      readonly block?: boolean;
    },
  ): Promise<Mover> {
    const { claims, node, block = false } = options;
    const pod = { image: images.backup, claims, node: node.name, block };
    await scenario.readyPod(name, pod, 240_000);
    return new Mover(scenario, name, options.repository);
  }

  async sh(script: string): Promise<string> {
    return this.#scenario.sh(
      this.#name,
      `set -e -o pipefail\n${this.#environment}\nrestic() { command restic --no-cache "$@"; }\n${script}`,
    );
  }

  async createRepository(): Promise<void> {
    await this.sh('restic init');
  }

  /** Backs up a directory. Later backups of it, from any pod and any copy, read only what has changed. */
  async backUp(directory: string): Promise<Summary> {
    const sameHost = '--host mover --ignore-inode';
    return summaryOf(await this.sh(`cd ${directory} && restic backup --json ${sameHost} .`));
  }

  async restore(directory: string, snapshot = 'latest'): Promise<void> {
    await this.sh(`restic restore --quiet --verify --target ${directory} ${snapshot}`);
  }

  /** Reads these ranges of a device, and nothing else, and stores them one after the other as a file of that name. */
  async backUpRanges(
    device: string,
    name: string,
    ranges: readonly BlockRange[],
  ): Promise<Summary> {
    const reads = ranges.map(
      (range) => `dd if=${device} skip=${blocksOf(range.byte_offset)} ${sizeOf(range)}`,
    );
    const store = `restic backup --json --stdin --stdin-filename ${name}`;
    return summaryOf(await this.sh(`{\n${reads.join('\n')}\n} | ${store}`));
  }

  /** Writes them back to where they were. */
  async restoreRanges(device: string, name: string, ranges: readonly BlockRange[]): Promise<void> {
    const writes = ranges.map(
      (range) =>
        `dd of=${device} seek=${blocksOf(range.byte_offset)} ${sizeOf(range)} conv=notrunc`,
    );
    await this.sh(`restic dump latest --path /${name} /${name} | {\n${writes.join('\n')}\n}\nsync`);
  }

  async checkRepository(): Promise<void> {
    await this.sh('restic check --read-data');
  }

  async end(): Promise<void> {
    await this.#scenario.delete('Pod', this.#name);
  }
}

const blockBytes = 4096n;
const blocksOf = (bytes: bigint): bigint => bytes / blockBytes;
const sizeOf = ({ size_bytes }: BlockRange): string =>
  `bs=${blockBytes} count=${blocksOf(size_bytes)} iflag=fullblock 2>/dev/null`;

function summaryOf(output: string): Summary {
  return v.parse(summarySchema, JSON.parse(output.split('\n').at(-1) ?? ''));
}

/**
 * Hands a snapshot over to another namespace, as Velero does: a content and a snapshot of that name with the same handle, which is
 * deleted with them; the first ones are deleted without it. `nodeOf` labels the content for the sidecar of a node.
 */
export async function handOver(
  from: Scenario,
  to: Scenario,
  snapshot: string,
  options: {
    readonly annotations?: Readonly<Record<string, string>>;
    readonly label?: string | undefined;
    readonly sourceVolumeMode?: 'Filesystem' | 'Block';
  } = {},
): Promise<void> {
  const handle = await handleOf(from, snapshot);
  const found = await from.get('VolumeSnapshot', snapshot);
  const first = textAt(found, 'status.boundVolumeSnapshotContentName') ?? '';
  // Names of contents are those of the cluster.
  const name = `${to.namespace}-${snapshot}`;
  const made = await to.create('VolumeSnapshot', {
    metadata: { name: snapshot },
    spec: { volumeSnapshotClassName: release, source: { volumeSnapshotContentName: name } },
  });
  const { label, annotations = {}, sourceVolumeMode } = options;
  await api.create('VolumeSnapshotContent', '', {
    metadata: { name, annotations, labels: label === undefined ? {} : { [managedBy]: label } },
    spec: {
      driver: driverName,
      deletionPolicy: 'Delete',
      volumeSnapshotClassName: release,
      source: { snapshotHandle: handle },
      volumeSnapshotRef: { name: snapshot, namespace: to.namespace, uid: made.metadata['uid'] },
      ...(sourceVolumeMode === undefined ? {} : { sourceVolumeMode }),
    },
  });
  await api.patch('VolumeSnapshotContent', '', first, { spec: { deletionPolicy: 'Retain' } });
  await from.delete('VolumeSnapshot', snapshot);
  await api.delete('VolumeSnapshotContent', '', first);
  await api.untilGone('VolumeSnapshotContent', '', first);
  await to.until('VolumeSnapshot', snapshot, (one) => textAt(one, 'status.readyToUse') === 'true');
}

/**
 * Deletes a claim and its object of the volume, but not the volume, and lets a new claim have that volume, perhaps in another mode, as a
 * restore ends.
 */
export async function rebind(
  from: Scenario,
  claimName: string,
  to: { readonly scenario: Scenario; readonly claim: string; readonly options: ClaimOptions },
): Promise<void> {
  const claim = await from.until('PersistentVolumeClaim', claimName, isBound);
  const old = textAt(claim, 'spec.volumeName') ?? '';
  const volume = await api.until('PersistentVolume', '', old, () => true);
  await api.patch('PersistentVolume', '', old, {
    spec: { persistentVolumeReclaimPolicy: 'Retain' },
  });
  await from.delete('PersistentVolumeClaim', claimName);
  await api.delete('PersistentVolume', '', old);
  await api.untilGone('PersistentVolume', '', old);
  const { scenario, options } = to;
  const name = `restored-${old}`;
  const { claimRef: _claimRef, ...spec } = v.parse(specSchema, volume['spec']);
  await api.create('PersistentVolume', '', {
    metadata: { name, annotations: { 'pv.kubernetes.io/provisioned-by': driverName } },
    spec: {
      ...spec,
      persistentVolumeReclaimPolicy: 'Delete',
      volumeMode: options.block === true ? 'Block' : 'Filesystem',
      csi: { ...spec.csi, fsType: options.block === true ? undefined : 'xfs' },
      claimRef: { namespace: scenario.namespace, name: to.claim },
    },
  });
  await scenario.claim(to.claim, { ...options, volumeName: name });
  await scenario.until('PersistentVolumeClaim', to.claim, isBound);
}

const specSchema = v.looseObject({ csi: v.looseObject({}), claimRef: v.unknown() });
