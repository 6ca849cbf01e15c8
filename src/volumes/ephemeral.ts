import { createHash } from 'node:crypto';
import { messageOf, VolumeError } from '../errors.ts';
import { formatBytes } from '../units.ts';
import { attachmentOf, ensureAttached } from './attachment.ts';
import { chooseCapacity } from './capacity.ts';
import { makeVolume } from './create.ts';
import { removeVolume } from './delete.ts';
import type { Domain } from './domain.ts';
import { explained } from './failures.ts';
import type { PublishInput } from './model.ts';
import { mountWords } from './mount-words.ts';
import { leastBytesOf, newRecord } from './new-volume.ts';
import { readNotes, writeNotes } from './node-notes.ts';
import type { Call } from './operations.ts';
import type { Pool } from './pool.ts';
import type { FoundVolume } from './pools.ts';
import { isReadOnly, livePublications, publicationOf, requireAlike } from './publications.ts';
import { ensureTarget, removeTarget, targetOptions } from './target-path.ts';

type EphemeralInput = PublishInput & Required<Pick<PublishInput, 'ephemeral'>>;

/**
 * An inline ephemeral volume: made, attached and mounted at its target in one call, and freed again when that fails, since no
 * retry is promised. Its id is the kubelet's and has no form, so it lives in an area of its own under a hash.
 */
export async function publishEphemeral(
  domain: Domain,
  call: Call,
  input: EphemeralInput,
): Promise<void> {
  const { volumeId, capability } = input;
  if (capability.kind === 'block') {
    throw new VolumeError(
      'invalid',
      `volume '${volumeId}': an inline ephemeral volume cannot be a block volume`,
    );
  }
  await domain.operations.run(
    {
      name: 'NodePublishVolume',
      owner: volumeId,
      exclusive: [`volume:${volumeId}`],
      request: input,
    },
    call,
    async (operation) => {
      const existing = domain.pools.findEphemeral(volumeId);
      if (existing !== undefined && (await isPublishedAlike(domain, existing, input))) return;
      const volume = existing ?? (await prepare(domain, input, () => operation.beginEffects()));
      await explained(`volume '${volumeId}'`, volume.pool, async () => {
        try {
          await mountThere(domain, volume, input);
        } catch (error) {
          await freeQuietly(domain, volume, input.targetPath);
          throw error;
        }
      });
    },
  );
}

async function isPublishedAlike(
  domain: Domain,
  volume: FoundVolume,
  input: EphemeralInput,
): Promise<boolean> {
  if (volume.record.ephemeralTarget !== input.targetPath) {
    throw new VolumeError(
      'wrong-state',
      `volume '${input.volumeId}' is published at ${volume.record.ephemeralTarget ?? 'another target'}; an inline ephemeral volume has one target only`,
    );
  }
  const top = await domain.host.mounts.at(input.targetPath);
  if (top === undefined) return false;
  const present = await attachmentOf(domain, volume);
  const published = livePublications((await readNotes(domain, volume)).published, present);
  requireAlike(volume, { top, present, wanted: publicationOf(input), published });
  return true;
}

/** Makes the volume, within the configured bounds: any pod author may ask for one. */
async function prepare(
  domain: Domain,
  input: EphemeralInput,
  beginEffects: () => void,
): Promise<FoundVolume> {
  const { volumeId, capability, ephemeral } = input;
  const what = `volume '${volumeId}'`;
  const { settings, host } = domain;
  const fsType = capability.fsType === '' ? settings.defaultFsType : capability.fsType;
  const pool = await domain.pools.choose(ephemeral.settings.pool);
  const sizeBytes = chooseCapacity(
    { requiredBytes: ephemeral.sizeBytes ?? settings.ephemeral.defaultBytes, limitBytes: 0n },
    { leastBytes: leastBytesOf(domain, fsType), what },
  );
  requireBounds(domain, pool, { sizeBytes, what });
  const record = newRecord(domain, {
    id: `_${createHash('sha256').update(volumeId).digest('hex')}.${settings.nodeTag}`,
    input: {
      name: volumeId,
      range: { requiredBytes: sizeBytes, limitBytes: 0n },
      kind: 'mount',
      fsType,
      settings: ephemeral.settings,
      parameters: {},
      source: null,
    },
    sizeBytes,
    ephemeralTarget: input.targetPath,
  });
  mountWords(record, capability.mountFlags);
  if (host.filesystems[fsType].leastBytes > settings.ephemeral.maximumBytes) {
    throw new VolumeError(
      'out-of-range',
      `${what}: ${fsType} needs more than inline volumes may have`,
    );
  }
  beginEffects();
  const made = await makeVolume(domain, pool, record);
  await domain.reached('ephemeral:made');
  const imagePath = pool.pathOf('ephemeral', made.id, 'disk.img');
  return { pool, record: made, area: 'ephemeral', imagePath };
}

function requireBounds(
  domain: Domain,
  pool: Pool,
  asked: { sizeBytes: bigint; what: string },
): void {
  const { maximumBytes, poolCapBytes } = domain.settings.ephemeral;
  const { sizeBytes, what } = asked;
  if (sizeBytes > maximumBytes) {
    throw new VolumeError(
      'out-of-range',
      `${what}: ${formatBytes(sizeBytes)} is more than the ${formatBytes(maximumBytes)} an inline volume may have (--ephemeral-max-size); use a claim instead`,
    );
  }
  let taken = 0n;
  for (const record of pool.ephemerals.values()) taken += record.sizeBytes;
  if (taken + sizeBytes > poolCapBytes) {
    throw new VolumeError(
      'no-space',
      `${what}: inline volumes have ${formatBytes(taken)} of the ${formatBytes(poolCapBytes)} they may have in pool '${pool.name}' (--ephemeral-pool-cap)`,
    );
  }
}

async function mountThere(
  domain: Domain,
  volume: FoundVolume,
  input: EphemeralInput,
): Promise<void> {
  const { record } = volume;
  if (record.fsType === null) throw new Error('an ephemeral volume without a filesystem');
  const wanted = publicationOf(input);
  const device = await ensureAttached(domain, volume, await attachmentOf(domain, volume));
  await domain.reached('publish:attached');
  await writeNotes(volume, {
    schemaVersion: 1,
    staged: null,
    published: [wanted],
    dockerMountIds: [],
  });
  await domain.reached('publish:noted');
  await ensureTarget(domain, input.targetPath, 'directory');
  await domain.reached('publish:target-made');
  const filesystem = domain.host.filesystems[record.fsType];
  await domain.host.mounts.mountDevice(device.path, input.targetPath, {
    fsType: record.fsType,
    options: [
      ...filesystem.mountOptions,
      ...mountWords(record, input.capability.mountFlags),
      ...(isReadOnly(input) ? ['ro'] : []),
    ],
    ...targetOptions(domain, input.targetPath),
  });
  await domain.reached('publish:mounted');
}

async function freeQuietly(domain: Domain, volume: FoundVolume, targetPath: string): Promise<void> {
  try {
    const { mounts } = await attachmentOf(domain, volume);
    if (mounts.some((mount) => mount.target === targetPath)) {
      await domain.host.mounts.unmount(targetPath, targetOptions(domain, targetPath));
    }
    await removeTarget(domain, targetPath);
    await removeVolume(domain, volume);
  } catch (error) {
    domain.log.warn(
      { volumeId: volume.record.name, problem: messageOf(error) },
      'an inline volume could not be freed after its publish failed; the next start does it',
    );
  }
}
