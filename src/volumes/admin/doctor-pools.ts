import { join } from 'node:path';
import { timedOut, withTimeout } from '../../async.ts';
import { messageOf, VolumeError } from '../../errors.ts';
import type { Files, Host } from '../../host/host.ts';
import { ownedBy } from '../../host/kernel/gate.ts';
import { KnownPools } from '../../state/known-pools.ts';
import { formatBytes } from '../../units.ts';
import type { Domain } from '../domain.ts';
import { nodeTagOf } from '../ids.ts';
import type { AskPool } from '../pool/ask-pools.ts';
import { poolRootIn } from '../pool/embedded.ts';
import { filesystemOf, findMarker } from '../pool/open-directory.ts';
import type { PoolSettings } from '../pool/settings.ts';
import { doctorWarnPercent, isFreeBelow, poolAnswerTimeoutMs } from '../pool/thresholds.ts';
import { type Finding, fail, ok, warn } from './doctor.ts';
import { listPoolFacts, type PoolFacts } from './pools/facts.ts';

/** What the running driver says of its pools: one finding for each, and one for each ability that is missing. */
export async function checkPools(domain: Domain, ask: AskPool): Promise<readonly Finding[]> {
  const pools = await listPoolFacts(domain, ask);
  return pools.flatMap((pool) => poolFindings(pool));
}

function poolFindings(pool: PoolFacts): readonly Finding[] {
  const name = `pool:${pool.settings.name}`;
  const { problem, space, abilities } = pool;
  if (problem !== undefined || space === undefined || abilities === undefined) {
    const [what, ...remedies] = (problem ?? 'is being opened; ask again').split('; ');
    const remedy =
      remedies.length > 0 ? remedies.join('; ') : "check its disk and the driver's log";
    return [fail(name, what ?? '', remedy)];
  }
  const findings: Finding[] = [];
  const free = `${formatBytes(space.freeBytes)} of ${formatBytes(space.totalBytes)} free`;
  if (isFreeBelow(space, doctorWarnPercent)) {
    findings.push(
      warn(
        name,
        `${pool.settings.path} (${abilities.filesystem}) has only ${free}`,
        'delete volumes, snapshots or other files there, or enlarge its filesystem: thin volumes fail to write when it is full',
      ),
    );
  } else {
    findings.push(
      ok(
        name,
        `${pool.settings.path} (${abilities.filesystem}): ${free}, room for ${formatBytes(pool.roomBytes)} more`,
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
        "fine without snapshots; else put the pool on XFS or btrfs, or give it an XFS image of its own ('loopcsi pool init NAME=DIR --reflink SIZE')",
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
        `${abilities.filesystem} cannot punch holes: what volumes free is not given back`,
        'put the pool on ext4, XFS or btrfs',
      ),
    );
  }
  return findings;
}

/**
 * Pools of this node that the driver was not told of: `--pool` given once takes the place of the default pool, and its volumes
 * seem to be gone.
 */
export async function checkUnconfiguredPools(
  files: Files,
  knownPools: KnownPools,
  configured: readonly string[],
): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  for (const path of await knownPools.directories()) {
    if (configured.includes(path)) continue;
    const look = (): Promise<number> => volumesIn(files, path);
    // Of a disk that hangs nothing can be told.
    const volumes = await withTimeout(ownedBy(`look ${path}`, look), poolAnswerTimeoutMs).catch(
      () => 0,
    );
    if (volumes === 0 || volumes === timedOut) continue;
    findings.push(
      warn(
        'forgotten-pool',
        `${path} is a pool of this node with ${volumes === 1 ? '1 volume' : `${volumes} volumes`}, and no --pool names it`,
        `add it to the driver's options, beside the others: --pool NAME=${path}`,
      ),
    );
  }
  return findings;
}

/** `checkUnconfiguredPools` while no driver runs. */
export async function checkUnconfiguredPoolsOffline(
  { files }: Host,
  stateDir: string,
  configured: readonly string[],
): Promise<readonly Finding[]> {
  if (!(await files.exists(stateDir))) return [];
  return checkUnconfiguredPools(files, await KnownPools.open(files, stateDir), configured);
}

/** Entries of a pool that is not served; 0 where there is none. */
async function volumesIn(files: Files, path: string): Promise<number> {
  const root = await poolRootIn(files, path);
  if ((await findMarker(files, root, path)) === undefined) return 0;
  return (await files.list(join(root, 'volumes'))).length;
}

/** What can be seen of a pool while no driver runs. Writes nothing. */
export async function checkPoolOffline(
  settings: PoolSettings,
  node: { readonly host: Host; readonly stateDir: string; readonly nodeId: string },
): Promise<Finding> {
  const name = `pool:${settings.name}`;
  const { path } = settings;
  const { files } = node.host;
  try {
    const seen = (await files.exists(node.stateDir))
      ? await (await KnownPools.open(files, node.stateDir)).seenAt(path)
      : undefined;
    if (!(await files.exists(path))) return absent(settings, seen);
    const root = await poolRootIn(files, path);
    const marker = await findMarker(files, root, settings.name);
    if (marker === undefined && root !== path) {
      return ok(name, `${path} holds an image of its own, which the driver mounts when it starts`);
    }
    if (marker === undefined) return withoutMarker(settings, seen);
    const nodeTag = nodeTagOf(node.nodeId);
    if (marker.nodeTag !== nodeTag) {
      return fail(
        name,
        `${path} belongs to a node with tag ${marker.nodeTag}, this one is ${nodeTag}`,
        `start the driver with the --node-id it had, or take the pool over with 'loopcsi pool adopt ${settings.name}'`,
      );
    }
    if (seen !== undefined && seen !== marker.uuid) {
      return fail(
        name,
        `${path} is another pool than was seen there before`,
        `mount the right disk, or accept this one with 'loopcsi pool adopt ${settings.name}'`,
      );
    }
    const { freeBytes, totalBytes } = await files.capacity(path);
    return ok(
      name,
      `${path} (${await filesystemOf(files, path)}): ${formatBytes(freeBytes)} of ${formatBytes(totalBytes)} free; not served`,
    );
  } catch (error) {
    const message = error instanceof VolumeError ? error.message : `${path}: ${messageOf(error)}`;
    return fail(name, message, 'look at the directory and its disk');
  }
}

function withoutMarker({ name, path, create }: PoolSettings, seen: string | undefined): Finding {
  if (seen !== undefined) {
    return fail(
      `pool:${name}`,
      `${path} holds no pool, but pool ${seen} was seen there before`,
      'mount its disk',
    );
  }
  if (create) return ok(`pool:${name}`, `${path} becomes a pool when the driver starts`);
  return fail(
    `pool:${name}`,
    `${path} is no pool yet`,
    `make it one with 'loopcsi pool init ${name}=${path}'`,
  );
}

function absent({ name, path, create }: PoolSettings, seen: string | undefined): Finding {
  if (create && seen === undefined)
    return ok(`pool:${name}`, `${path} is made when the driver starts`);
  return fail(`pool:${name}`, `${path} does not exist`, 'mount its disk, or make the directory');
}
