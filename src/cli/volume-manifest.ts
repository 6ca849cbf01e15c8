import type { Command } from 'commander';
import type { Volume } from '../csi/admin-types.ts';
import type { Volume as CsiVolume, Topology } from '../csi/types.ts';
import { UsageError } from './errors.ts';
import { getVolume, requireField } from './lookup.ts';
import type { Session } from './session.ts';

interface ManifestOptions {
  /** `NAMESPACE/CLAIM` */
  readonly claim: string;
  readonly storageClass?: string;
}

/** The class that the chart creates. */
const defaultClass = 'loopcsi';

export function addClassOption(command: Command): Command {
  return command.option(
    '--storage-class <NAME>',
    `StorageClass in the manifest, which must exist for the claim to be expanded; default: ${defaultClass}`,
  );
}

export function addManifestCommand(volume: Command, session: Session): void {
  addClassOption(
    volume
      .command('manifest')
      .description('print a PersistentVolume and a claim for a volume, for kubectl')
      .argument('<volume>', 'id or name')
      .argument('<claim>', 'NAMESPACE/CLAIM'),
  ).action(async (idOrName: string, claim: string, options: { readonly storageClass?: string }) => {
    const found = await getVolume(session, idOrName);
    const manifest = await manifestOf(session, found, { claim, ...options });
    await session.show({ manifest }, () => manifest);
  });
}

/** Returns a PersistentVolume that is bound to the claim, and the claim, as YAML. Throws `UsageError` for an invalid claim. */
export async function manifestOf(
  session: Session,
  volume: Volume,
  { claim, storageClass = defaultClass }: ManifestOptions,
): Promise<string> {
  const { identity, controller } = await session.driver();
  const { name: driver } = await identity.GetPluginInfo({});
  const found = await controller.ControllerGetVolume({ volume_id: volume.volume_id });
  const csi = requireField(found.volume, 'volume');
  const objects = objectsFor(volume, { claim: parseClaim(claim), storageClass, driver, csi });
  const { stringify } = await import('yaml');
  return objects
    .map((object) => stringify(object))
    .join('---\n')
    .trimEnd();
}

interface ClaimName {
  readonly namespace: string;
  readonly name: string;
}

/** Throws `UsageError` unless the text has the form NAMESPACE/CLAIM. */
export function parseClaim(text: string): ClaimName {
  const [, namespace, name] =
    /^([a-z0-9][a-z0-9-]{0,62})\/([a-z0-9][a-z0-9.-]{0,252})$/.exec(text) ?? [];
  if (namespace !== undefined && name !== undefined) return { namespace, name };
  throw new UsageError(`'${text}' does not name a claim: write NAMESPACE/CLAIM`);
}

interface Binding {
  readonly claim: ClaimName;
  readonly storageClass: string;
  /** Name of the CSI driver. */
  readonly driver: string;
  /** The volume as the driver would return it from CreateVolume. */
  readonly csi: CsiVolume;
}

function objectsFor(
  volume: Volume,
  { claim, storageClass, driver, csi }: Binding,
): readonly object[] {
  const volumeMode = volume.kind === 'BLOCK' ? 'Block' : 'Filesystem';
  const common = { accessModes: ['ReadWriteOnce'], storageClassName: storageClass, volumeMode };
  const storage = String(volume.size_bytes);
  const volumeName = persistentVolumeName(volume);
  const fsType = volume.fs_type === '' ? {} : { fsType: volume.fs_type };
  const handle = { driver, volumeHandle: volume.volume_id, ...fsType };
  return [
    {
      apiVersion: 'v1',
      kind: 'PersistentVolume',
      metadata: {
        name: volumeName,
        annotations: { 'pv.kubernetes.io/provisioned-by': driver },
      },
      spec: {
        capacity: { storage },
        ...common,
        persistentVolumeReclaimPolicy: 'Retain',
        claimRef: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', ...claim },
        csi: { ...handle, volumeAttributes: csi.volume_context },
        nodeAffinity: { required: { nodeSelectorTerms: csi.accessible_topology.map(termOf) } },
      },
    },
    {
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: claim,
      spec: { ...common, volumeName, resources: { requests: { storage } } },
    },
  ];
}

function termOf({ segments }: Topology) {
  const matchExpressions = Object.entries(segments).map(([key, value]) => ({
    key,
    operator: 'In',
    values: [value],
  }));
  return { matchExpressions };
}

/** The name of the volume where Kubernetes allows it, otherwise characters of it with the node's part of the id. */
function persistentVolumeName({ name, volume_id: id }: Volume): string {
  if (/^[a-z0-9](?:[a-z0-9.-]{0,200}[a-z0-9])?$/.test(name)) return name;
  const readable = name
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-+|-+$/g, '');
  const tail = id
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .slice(-40)
    .replace(/^-+/, '');
  return [readable.slice(0, 80).replace(/-+$/, ''), tail].filter((part) => part !== '').join('-');
}
