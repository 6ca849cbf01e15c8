/** What a crash, a person or another program left, and nobody will clear away by itself. Looks only. */
import { join } from 'node:path';
import type { LoopDevice, Mount } from '../../host/host.ts';
import { showsDevice } from '../../host/mount/loop-mounts.ts';
import { formatBytes } from '../../units.ts';
import type { Domain } from '../domain.ts';
import { type AskPool, askingPools, isUnavailable } from '../pool/ask-pools.ts';
import { recordAreas } from '../pool/layout.ts';
import type { Pool } from '../pool/pool.ts';
import { type Finding, ok, warn } from './doctor.ts';
import { listVolumeFacts, type VolumeFacts } from './inspect.ts';

interface Seen {
  readonly devices: readonly LoopDevice[];
  readonly mounts: readonly Mount[];
  readonly volumes: readonly VolumeFacts[];
  /** The driver is in the middle of something, so what stands in `tmp/` may belong to it. */
  readonly isWorking: boolean;
}

/** Leftovers of all pools; one finding that all is clean when there are none. */
export async function checkLeftovers(
  domain: Domain,
  ask: AskPool = askingPools(),
): Promise<readonly Finding[]> {
  const isWorking = domain.operations.runningCount > 0;
  const [devices, mounts, page] = await Promise.all([
    domain.host.loops.list(),
    domain.host.mounts.list(),
    listVolumeFacts(domain, { maxEntries: 0, startingToken: '', pool: '' }, ask),
  ]);
  const seen: Seen = { devices, mounts, volumes: page.entries, isWorking };
  const findings = [
    ...(await strayDevices(domain, seen)),
    ...unusedDevices(seen),
    ...(await inPools(domain, seen, ask)),
    ...troubled(seen),
  ];
  if (findings.length > 0) return findings;
  return [
    ok(
      'leftovers',
      `none; ${page.entries.length === 1 ? '1 volume' : `${page.entries.length} volumes`} looked at`,
    ),
  ];
}

/** Devices on files of our pools that no record explains, or on images that were deleted. */
async function strayDevices(domain: Domain, seen: Seen): Promise<readonly Finding[]> {
  const ours = new Set(seen.volumes.flatMap(({ device }) => device?.number ?? []));
  const roots = domain.pools.served.map((pool) => `${pool.root}/`);
  const findings: Finding[] = [];
  for (const device of seen.devices) {
    if (ours.has(device.number) || !device.label.startsWith('loopcsi:')) continue;
    const file = (await domain.host.loops.backingPath(device)) ?? '';
    if (!roots.some((root) => file.startsWith(root))) continue;
    if (seen.volumes.some(({ imagePath }) => imagePath === file)) continue;
    if (seen.isWorking && file.includes('/tmp/')) continue;
    const at = seen.mounts
      .filter((mount) => showsDevice(mount, device))
      .map(({ target }) => target);
    findings.push(
      warn(
        `loop-device:${device.path}`,
        `${device.path} holds ${file}, which is no volume any more${at.length > 0 ? `, mounted at ${at.join(', ')}` : ''}`,
        at.length > 0
          ? `unmount ${at.join(', ')}, then 'losetup --detach ${device.path}'`
          : `'losetup --detach ${device.path}', or restart the driver, which does it`,
      ),
    );
  }
  return findings;
}

function unusedDevices(seen: Seen): readonly Finding[] {
  if (seen.isWorking) return [];
  return seen.volumes.flatMap(({ record, device, stagedAt, publishedAt }) => {
    if (device === undefined || stagedAt.length > 0 || publishedAt.length > 0) return [];
    return [
      warn(
        `loop-device:${device.path}`,
        `${device.path} holds volume '${record.id}', which is mounted nowhere here`,
        'another mount namespace may use it; if none does, the next start of the driver detaches it',
      ),
    ];
  });
}

async function inPools(domain: Domain, seen: Seen, ask: AskPool): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  for (const pool of domain.pools.served) {
    const inDirectories = async (): Promise<readonly Finding[]> => [
      ...(seen.isWorking ? [] : await halfMade(domain, pool)),
      ...(await trashed(domain, pool)),
    ];
    try {
      findings.push(...(await ask(pool, () => domain.ownedBy(`look ${pool.name}`, inDirectories))));
    } catch (error) {
      // That it does not answer is told of the pool.
      if (!isUnavailable(error)) throw error;
    }
    findings.push(...setAside(pool), ...groupless(pool));
  }
  return findings;
}

async function halfMade(domain: Domain, pool: Pool): Promise<readonly Finding[]> {
  const entries = await domain.host.files.list(pool.pathOf('tmp'));
  if (entries.length === 0) return [];
  return [
    warn(
      `pool:${pool.name}:tmp`,
      `${entries.length} half-made entries stand in ${pool.pathOf('tmp')}`,
      'the next start of the driver removes them',
    ),
  ];
}

async function trashed(domain: Domain, pool: Pool): Promise<readonly Finding[]> {
  const entries = await domain.host.files.list(pool.pathOf('trash'));
  if (entries.length === 0) return [];
  const { trashBytes } = await pool.space.facts();
  return [
    warn(
      `pool:${pool.name}:trash`,
      `${entries.length} deleted entries with ${formatBytes(trashBytes)} are still being freed in ${join(pool.root, 'trash')}`,
      'wait; when it does not shrink, look at the log of the driver',
    ),
  ];
}

function setAside(pool: Pool): readonly Finding[] {
  return recordAreas.flatMap((area) =>
    [...pool.indexOf(area).aside].map(([id, { kind, message, mayBeWhole = false }]) => {
      const name = `pool:${pool.name}:record`;
      if (kind === 'unreadable' && !mayBeWhole) {
        return warn(
          name,
          `'${id}' cannot be read: ${message}`,
          'its image is untouched; put the record back from a backup, or move its directory out of the pool',
        );
      }
      const [what = '', ...remedies] = message.split('; ');
      return warn(name, what, remedies.join('; '));
    }),
  );
}

/** Members of a group whose record is gone: the cut was never complete. */
function groupless(pool: Pool): readonly Finding[] {
  return [...pool.snapshots.values()].flatMap(({ id, groupId }) => {
    if (groupId === null || pool.groups.get(groupId) !== undefined) return [];
    return [
      warn(
        `pool:${pool.name}:group`,
        `snapshot '${id}' belongs to group '${groupId}', which has no record here`,
        `delete it with 'loopcsi snapshot delete ${id}' unless the group stands in another pool`,
      ),
    ];
  });
}

/** Told once for the pool, not for each of its volumes. */
const reasonsOfPools = ['PoolNearlyFull', 'PoolInodesLow', 'PoolNotAnswering', 'PoolNotServed'];

function troubled(seen: Seen): readonly Finding[] {
  return seen.volumes.flatMap(({ record, conditions }) =>
    conditions
      .filter(({ reason }) => !reasonsOfPools.includes(reason))
      .map(({ reason, message }) => {
        const [what, ...remedies] = message.split('; ');
        return warn(`volume:${record.name}`, `${reason}: ${what ?? ''}`, remedies.join('; '));
      }),
  );
}
