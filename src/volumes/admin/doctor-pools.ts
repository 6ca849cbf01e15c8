import { timedOut, withTimeout } from '../../async.ts';
import { messageOf, VolumeError } from '../../errors.ts';
import type { Files, Host } from '../../host/host.ts';
import { nodeTagOf } from '../../ids.ts';
import { KnownPools } from '../../state/known-pools.ts';
import { formatBytes } from '../../units.ts';
import type { Domain } from '../domain.ts';
import { inLane } from '../engine/lanes.ts';
import { poolRootIn } from '../pool/embedded.ts';
import { areaIn } from '../pool/layout.ts';
import { filesystemOf, findMarker } from '../pool/open-directory.ts';
import type { PoolQuery } from '../pool/pool-query.ts';
import type { PoolSettings } from '../pool/settings.ts';
import { doctorWarnPercent, isFreeBelow, poolAnswerTimeoutMs } from '../pool/thresholds.ts';
import { type Finding, fail, ok, splitMessage, warn } from './doctor.ts';
import { listPoolFacts, type PoolFacts } from './pools/facts.ts';

/** Checks the pools of the running driver. Returns one finding for each pool, and one for each ability that it lacks. */
export async function checkPools(domain: Domain, query: PoolQuery): Promise<readonly Finding[]> {
  const pools = await listPoolFacts(domain.pools, query);
  return pools.flatMap((pool) => poolFindings(pool));
}

function poolFindings(pool: PoolFacts): readonly Finding[] {
  const name = `pool:${pool.settings.name}`;
  const { problem, space, abilities } = pool;
  if (problem !== undefined || space === undefined || abilities === undefined) {
    const found = splitMessage(problem ?? 'the pool is being opened; run the command again');
    const remedy = found.remedy === '' ? "check its disk and the driver's log" : found.remedy;
    return [fail(name, found.problem, remedy)];
  }
  const findings: Finding[] = [];
  const free = `${formatBytes(space.freeBytes)} of ${formatBytes(space.totalBytes)} free`;
  if (isFreeBelow(space, doctorWarnPercent)) {
    findings.push(
      warn(
        name,
        `${pool.settings.path} (${abilities.filesystem}) has only ${free}`,
        'delete volumes, snapshots or other files there, or enlarge its filesystem: writes to thin volumes fail when it is full',
      ),
    );
  } else {
    findings.push(
      ok(
        name,
        `${pool.settings.path} (${abilities.filesystem}): ${free}, capacity for ${formatBytes(pool.capacityBytes)} more`,
      ),
    );
  }
  return [...findings, ...abilityFindings(name, abilities)];
}

function abilityFindings(
  name: string,
  abilities: NonNullable<PoolFacts['abilities']>,
): readonly Finding[] {
  const findings: Finding[] = [];
  if (!abilities.reflink) {
    findings.push(
      warn(
        `${name}:reflink`,
        `${abilities.filesystem} cannot share blocks: snapshots and clones copy their data`,
        "ignore this if you take no snapshots; otherwise use a pool on XFS or btrfs, or one in its own XFS image ('loopcsi pool init NAME=DIR --reflink SIZE')",
      ),
    );
  }
  if (!abilities.directIo) {
    findings.push(
      warn(
        `${name}:direct-io`,
        `${abilities.filesystem} has no direct I/O: data is cached twice`,
        'put the pool on ext4, XFS or btrfs',
      ),
    );
  }
  if (!abilities.discard) {
    findings.push(
      warn(
        `${name}:discard`,
        `${abilities.filesystem} cannot punch holes: space that volumes free is not returned to the pool`,
        'put the pool on ext4, XFS or btrfs',
      ),
    );
  }
  return findings;
}

/**
 * Finds pools of this node that no --pool names. The first `--pool` replaces the default pool, whose volumes then seem to be
 * lost.
 */
export async function checkUnconfiguredPools(
  deps: { readonly host: Host },
  knownPools: KnownPools,
  configured: readonly string[],
): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  for (const path of await knownPools.directories()) {
    if (configured.includes(path)) continue;
    const { files } = inLane(deps, { kind: 'inspect', id: path }).host;
    // A pool whose disk hangs is skipped.
    const volumes = await withTimeout(countVolumesIn(files, path), poolAnswerTimeoutMs).catch(
      () => 0,
    );
    if (volumes === 0 || volumes === timedOut) continue;
    findings.push(
      warn(
        'forgotten-pool',
        `${path} is a pool of this node with ${volumes === 1 ? '1 volume' : `${volumes} volumes`}, but no --pool names it`,
        `add it to the driver's flags: --pool NAME=${path}`,
      ),
    );
  }
  return findings;
}

/** Runs `checkUnconfiguredPools` while no driver is running. */
export async function checkUnconfiguredPoolsOffline(
  host: Host,
  stateDir: string,
  configured: readonly string[],
): Promise<readonly Finding[]> {
  const { files } = host;
  if (!(await files.exists(stateDir))) return [];
  let knownPools: KnownPools;
  try {
    knownPools = await KnownPools.open(files, stateDir);
  } catch (error) {
    if (!(error instanceof VolumeError)) throw error;
    const { problem, remedy } = splitMessage(error.message);
    return [fail('state-dir', problem, remedy)];
  }
  return checkUnconfiguredPools({ host }, knownPools, configured);
}

/** Returns the number of volumes in the pool at the directory; 0 if it is not a pool. */
async function countVolumesIn(files: Files, path: string): Promise<number> {
  const root = await poolRootIn(files, path);
  if ((await findMarker(files, root, path)) === undefined) return 0;
  return (await files.list(areaIn(root, 'volumes'))).length;
}

/** Checks a pool while no driver is running. Changes nothing. */
export async function checkPoolOffline(
  settings: PoolSettings,
  node: { readonly host: Host; readonly stateDir: string; readonly nodeId: string },
): Promise<Finding> {
  const name = `pool:${settings.name}`;
  const { path } = settings;
  const { files } = node.host;
  try {
    const seenUuid = (await files.exists(node.stateDir))
      ? await (await KnownPools.open(files, node.stateDir)).seenAt(path)
      : undefined;
    if (!(await files.exists(path))) return missingDirectoryFinding(settings, seenUuid);
    const root = await poolRootIn(files, path);
    const marker = await findMarker(files, root, settings.name);
    if (marker === undefined && root !== path) {
      return ok(name, `${path} has an embedded pool, which the driver mounts when it starts`);
    }
    if (marker === undefined) return missingMarkerFinding(settings, seenUuid);
    const nodeTag = nodeTagOf(node.nodeId);
    if (marker.nodeTag !== nodeTag) {
      return fail(
        name,
        `${path} belongs to the node with tag ${marker.nodeTag}; this node has tag ${nodeTag}`,
        `start the driver with its previous --node-id, or run 'loopcsi pool adopt ${settings.name}'`,
      );
    }
    if (seenUuid !== undefined && seenUuid !== marker.uuid) {
      return fail(
        name,
        `${path} contains pool ${marker.uuid}, but pool ${seenUuid} was seen there before`,
        `mount the correct disk, or accept this pool with 'loopcsi pool adopt ${settings.name}'`,
      );
    }
    const { freeBytes, totalBytes } = await files.capacity(path);
    return ok(
      name,
      `${path} (${await filesystemOf(files, path)}): ${formatBytes(freeBytes)} of ${formatBytes(totalBytes)} free; not served`,
    );
  } catch (error) {
    const message = error instanceof VolumeError ? error.message : `${path}: ${messageOf(error)}`;
    return fail(name, message, 'check the directory and its disk');
  }
}

function missingMarkerFinding(
  { name, path, create }: PoolSettings,
  seenUuid: string | undefined,
): Finding {
  if (seenUuid !== undefined) {
    return fail(
      `pool:${name}`,
      `${path} contains no pool, but pool ${seenUuid} was seen there before`,
      'mount its disk',
    );
  }
  if (create) return ok(`pool:${name}`, `${path} becomes a pool when the driver starts`);
  return fail(
    `pool:${name}`,
    `${path} is not a pool yet`,
    `run 'loopcsi pool init ${name}=${path}'`,
  );
}

function missingDirectoryFinding(
  { name, path, create }: PoolSettings,
  seenUuid: string | undefined,
): Finding {
  if (create && seenUuid === undefined)
    return ok(`pool:${name}`, `${path} is created when the driver starts`);
  return fail(`pool:${name}`, `${path} does not exist`, 'mount its disk, or create the directory');
}
