/** Finds state that a crash, an operator or another program left behind. Changes nothing. */

import { join } from 'node:path';
import type { LoopDevice, Mount } from '../../host/host.ts';
import { isLabelled } from '../../host/loop/status.ts';
import { exposesDevice } from '../../host/mount/loop-mounts.ts';
import { nodeTagIn } from '../../ids.ts';
import { formatBytes } from '../../units.ts';
import { poolEntryAt } from '../attachment/device-owner.ts';
import { deletedSuffix, mayBeOfOtherDriver } from '../attachment/foreign-device.ts';
import { targetsOf } from '../attachment/mount-errors.ts';
import { describeDeviceUsers } from '../attachment/unmount.ts';
import type { Domain } from '../domain.ts';
import { inLane } from '../engine/lanes.ts';
import { ownerText } from '../owner.ts';
import { recordAreas } from '../pool/layout.ts';
import type { Pool } from '../pool/pool.ts';
import { isUnavailable, makePoolQuery, type PoolQuery } from '../pool/pool-query.ts';
import { type Finding, ok, splitMessage, warn } from './doctor.ts';
import { listVolumeFacts, type VolumeFacts } from './inspect.ts';
import { remedyWithoutOwner } from './leftover-devices.ts';

interface LeftoverContext {
  readonly devices: readonly LoopDevice[];
  readonly mounts: readonly Mount[];
  readonly volumes: readonly VolumeFacts[];
  /** Whether an operation is running: entries in `tmp/` may then belong to it. */
  readonly isOperationRunning: boolean;
}

/** Returns the leftovers of all pools, or one `ok` finding if there are none. */
export async function checkLeftovers(
  domain: Domain,
  query: PoolQuery = makePoolQuery(),
): Promise<readonly Finding[]> {
  const isOperationRunning = domain.operations.runningCount > 0;
  const [devices, mounts, page] = await Promise.all([
    domain.host.loops.list(),
    domain.host.mounts.list(),
    listVolumeFacts(domain, { maxEntries: 0, startingToken: '', pool: '' }, query),
  ]);
  const context: LeftoverContext = { devices, mounts, volumes: page.entries, isOperationRunning };
  const { orphans, foreign } = await orphanDevices(domain, context, query);
  const findings = [
    ...orphans,
    ...(await unusedDevices(domain, context)),
    ...(await leftoversInPools(domain, context, query)),
    ...unhealthyVolumes(context),
  ];
  const others = [...foreignDevices(foreign), ...(await readersOfVolumes(domain, context))];
  if (findings.length > 0) return [...findings, ...others];
  return [
    ...others,
    ok(
      'leftovers',
      `none; ${page.entries.length === 1 ? '1 volume' : `${page.entries.length} volumes`} checked`,
    ),
  ];
}

/**
 * Finds loop devices that are attached to deleted images, or to files of the pools that have no record; and those that may be of
 * another driver.
 */
async function orphanDevices(
  domain: Domain,
  context: LeftoverContext,
  query: PoolQuery,
): Promise<{ readonly orphans: readonly Finding[]; readonly foreign: readonly LoopDevice[] }> {
  const numbersOfVolumes = new Set(context.volumes.flatMap(({ device }) => device?.number ?? []));
  const orphans: Finding[] = [];
  const foreign: LoopDevice[] = [];
  for (const device of context.devices) {
    if (numbersOfVolumes.has(device.number) || !isLabelled(device)) continue;
    const file = (await domain.host.loops.backingPath(device)) ?? '';
    const pool = domain.pools.served.find(({ root }) => file.startsWith(`${root}/`));
    if (pool === undefined) continue;
    const deps = inLane(domain, { kind: 'inspect', id: pool.name, pool: pool.name });
    const mayBeForeign = query(pool, () => mayBeOfOtherDriver(deps, device, { file, pool }));
    // `checkPools` reports a pool that does not answer.
    const isForeign = await mayBeForeign.catch(undefinedIfUnavailable);
    if (isForeign === true) foreign.push(device);
    if (isForeign !== false) continue;
    if (context.volumes.some(({ imagePath }) => imagePath === file)) continue;
    if (context.isOperationRunning && poolEntryAt(domain.pools.all, file)?.area === 'tmp') continue;
    const targets = context.mounts
      .filter((mount) => exposesDevice(mount, device))
      .map(({ target }) => target);
    const isDeleted = file.endsWith(deletedSuffix);
    const remedy =
      remedyWithoutOwner({ device, file, pool, isDeleted }) ||
      `run 'loopcsi gc', which detaches it`;
    orphans.push(
      warn(
        `loop-device:${device.path}`,
        `${device.path} is attached to ${file}, which is no longer a volume${await usersText(domain, device)}${targets.length > 0 ? `, and mounted at ${targets.join(', ')}` : ''}`,
        targets.length > 0 ? `unmount ${targets.join(', ')}, then ${remedy}` : remedy,
      ),
    );
  }
  return { orphans, foreign };
}

function undefinedIfUnavailable(error: unknown): undefined {
  if (!isUnavailable(error)) throw error;
}

/** They are no problem, but an operator may wonder what they are. */
function foreignDevices(devices: readonly LoopDevice[]): readonly Finding[] {
  if (devices.length === 0) return [];
  const paths = devices.map(({ path }) => path).join(', ');
  return [
    ok(
      'foreign-loop-devices',
      `${paths}: the image has a path in a pool of this driver, but not its inode; maybe of another driver in another mount namespace`,
    ),
  ];
}

async function unusedDevices(
  domain: Domain,
  context: LeftoverContext,
): Promise<readonly Finding[]> {
  if (context.isOperationRunning) return [];
  const findings: Finding[] = [];
  for (const { record, owner, device, stagedAt, publishedAt } of context.volumes) {
    if (device === undefined || stagedAt.length > 0 || publishedAt.length > 0) continue;
    const users = await usersText(domain, device);
    const ownerOf = owner === undefined ? '' : ` (${ownerText(owner)})`;
    findings.push(
      warn(
        `loop-device:${device.path}`,
        `${device.path} is attached to volume '${record.id}'${ownerOf}, which is not mounted in this mount namespace${users}`,
        users === ''
          ? 'another mount namespace may use it; if not, the next start of the driver detaches it'
          : 'end those processes; the next start of the driver detaches the device if nothing uses it',
      ),
    );
  }
  return findings;
}

/** Names other software that reads images. It is neither a leftover nor a problem, but explains who keeps an image open. */
async function readersOfVolumes(
  domain: Domain,
  { volumes, mounts }: LeftoverContext,
): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  for (const { record, readers } of volumes) {
    for (const device of readers) {
      const targets = targetsOf(mounts.filter((mount) => exposesDevice(mount, device)));
      const at = targets.length === 0 ? '' : `, mounted at ${targets.join(', ')}`;
      findings.push(
        ok(
          `loop-device:${device.path}`,
          `${device.path} is attached read-only to the image of volume '${record.id}' by other software${at}${await usersText(domain, device)}`,
        ),
      );
    }
  }
  return findings;
}

/** Text that follows a problem: `, and is in use by postgres (1234)`, or '' if no user can be found. */
async function usersText(domain: Domain, device: LoopDevice): Promise<string> {
  const users = await describeDeviceUsers(domain.host, device);
  return users === '' ? '' : `, and is in use${users}`;
}

async function leftoversInPools(
  domain: Domain,
  context: LeftoverContext,
  query: PoolQuery,
): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  for (const pool of domain.pools.served) {
    const deps = inLane(domain, { kind: 'inspect', id: pool.name, pool: pool.name });
    const inspectDirectories = async (): Promise<readonly Finding[]> => [
      ...(context.isOperationRunning ? [] : await incompleteEntries(deps, pool)),
      ...(await trashFinding(deps, pool)),
    ];
    try {
      findings.push(...(await query(pool, inspectDirectories)));
    } catch (error) {
      // `checkPools` reports a pool that does not answer.
      if (!isUnavailable(error)) throw error;
    }
    findings.push(...setAsideEntries(pool), ...orphanMembers(pool));
  }
  return findings;
}

async function incompleteEntries(domain: Domain, pool: Pool): Promise<readonly Finding[]> {
  const directory = pool.directoryOf('tmp');
  const entries = (await domain.host.files.list(directory)).filter(
    (entry) => !domain.openCaptures.has(join(directory, entry)),
  );
  if (entries.length === 0) return [];
  return [
    warn(
      `pool:${pool.name}:tmp`,
      `${entries.length} incomplete entries are in ${directory}`,
      'the next start of the driver removes them',
    ),
  ];
}

async function trashFinding(domain: Domain, pool: Pool): Promise<readonly Finding[]> {
  const entries = await domain.host.files.list(pool.directoryOf('trash'));
  if (entries.length === 0) return [];
  const { trashBytes } = await pool.space.facts();
  return [
    warn(
      `pool:${pool.name}:trash`,
      `${entries.length} deleted entries with ${formatBytes(trashBytes)} are still being freed in ${pool.directoryOf('trash')}`,
      'wait; if their number does not decrease, see the log of the driver',
    ),
  ];
}

function setAsideEntries(pool: Pool): readonly Finding[] {
  return recordAreas.flatMap((area) =>
    [...pool.indexOf(area).aside].map(([id, { kind, message, mayBeIntact = false }]) => {
      const name = `pool:${pool.name}:record`;
      if (kind === 'unreadable' && !mayBeIntact) {
        return warn(
          name,
          `'${id}' cannot be read: ${message}`,
          'its image is untouched; restore the record from a backup, or move its directory out of the pool',
        );
      }
      const { problem, remedy } = splitMessage(message);
      return warn(name, problem, remedy);
    }),
  );
}

/** Finds snapshots of a group that has no record, which means that the group snapshot was never completed. */
function orphanMembers(pool: Pool): readonly Finding[] {
  return [...pool.snapshots.values()].flatMap(({ id, groupId, groupPool }) => {
    if (groupId === null || pool.groups.get(groupId) !== undefined) return [];
    // The record is on another node.
    if (groupPool === null && nodeTagIn(groupId) !== pool.marker?.nodeTag) return [];
    return [
      warn(
        `pool:${pool.name}:group`,
        `snapshot '${id}' belongs to group '${groupId}', which has no record in this pool`,
        `delete it with 'loopcsi snapshot delete ${id}' unless another pool has the group`,
      ),
    ];
  });
}

/** Conditions of a pool, which are reported once and not for each of its volumes. */
const poolReasons = ['PoolNearlyFull', 'PoolInodesLow', 'PoolNotAnswering', 'PoolNotServed'];

function unhealthyVolumes(context: LeftoverContext): readonly Finding[] {
  return context.volumes.flatMap(({ record, owner, conditions }) =>
    conditions
      .filter(({ reason }) => !poolReasons.includes(reason))
      .map(({ reason, message }) => {
        const { problem, remedy } = splitMessage(message);
        const subject = owner === undefined ? '' : `${ownerText(owner)}: `;
        return warn(`volume:${record.name}`, `${subject}${reason}: ${problem}`, remedy);
      }),
  );
}
