import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { VolumeError } from '../../../errors.ts';
import { hasErrno } from '../../../host/errors.ts';
import type { Host } from '../../../host/host.ts';
import { findNodeTag } from '../../../ids.ts';
import type { KnownPools } from '../../../state/known-pools.ts';
import { type PoolMarker, poolMarker, writeRecord } from '../../../state/records.ts';
import type { Reached } from '../../engine/fault-points.ts';
import { isEmbedded, openEmbedded } from '../../pool/embedded.ts';
import { poolFiles, recordAreas } from '../../pool/layout.ts';
import { findMarker } from '../../pool/open-directory.ts';
import { lockPool } from '../../pool/process-lock.ts';
import type { PoolSettings } from '../../pool/settings.ts';

/**
 * Writes the lost marker of a pool again, with the uuid that this node last saw at its directory and the node tag in which its
 * ids end. Throws `wrong-state` if there is a marker, if there is nothing to recover, or if the ids have different node tags;
 * `busy` while another process serves the pool.
 */
export async function recoverPool(
  settings: PoolSettings,
  deps: {
    readonly host: Host;
    readonly knownPools: KnownPools;
    readonly reached: Reached;
    readonly nowMs: number;
  },
): Promise<PoolMarker> {
  const { name } = settings;
  const { files } = deps.host;
  const directory = await files.resolveDirectory(settings.path).catch((error: unknown) => {
    if (!hasErrno(error, 'ENOENT')) throw error;
    throw wrongStateError(name, `${settings.path} does not exist; mount its disk`);
  });
  const root = (await isEmbedded(files, settings))
    ? await openEmbedded(settings, { directory, mayCreate: false, deps })
    : directory;
  if ((await findMarker(files, root, name)) !== undefined) {
    throw wrongStateError(name, `${root} has a pool.json, so there is nothing to recover`);
  }
  const nodeTag = await findCommonNodeTag(deps.host, root, name);
  const lock = await lockPool(files, { name, root }, 'busy');
  try {
    const marker = {
      schemaVersion: 1 as const,
      uuid: (await deps.knownPools.seenAt(settings.path)) ?? randomUUID(),
      nodeTag,
      createdAtMs: deps.nowMs,
    };
    await writeRecord(files, join(root, poolFiles.marker), { schema: poolMarker, value: marker });
    return marker;
  } finally {
    await lock.release();
  }
}

/** Returns the node tag in which all ids end. */
async function findCommonNodeTag({ files }: Host, root: string, name: string): Promise<string> {
  const tags = new Set<string>();
  for (const area of recordAreas) {
    const ids = await files.list(join(root, area)).catch((error: unknown) => {
      if (hasErrno(error, 'ENOENT')) return [];
      throw error;
    });
    for (const id of ids) {
      const tag = findNodeTag(id);
      if (tag !== undefined) tags.add(tag);
    }
  }
  const [tag, ...others] = tags;
  if (tag === undefined) {
    throw wrongStateError(
      name,
      `${root} contains no volumes or snapshots of a pool, so there is nothing to recover; mount its disk, or remove the pool from the state of this node with 'loopcsi pool forget ${name}'`,
    );
  }
  if (others.length === 0) return tag;
  const all = [tag, ...others].join(', ');
  throw wrongStateError(
    name,
    `the ids in ${root} have the tags of several nodes (${all}); move the entries of the other nodes elsewhere`,
  );
}

function wrongStateError(name: string, problem: string): VolumeError {
  return new VolumeError('wrong-state', `pool '${name}': ${problem}`);
}
