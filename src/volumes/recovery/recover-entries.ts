import { runConcurrently } from '../../async.ts';
import { attachmentOf } from '../attachment/attachment.ts';
import { bindTargetsIn } from '../attachment/device-binds.ts';
import { setDuplicatesAside } from '../attachment/duplicates.ts';
import { targetsOf } from '../attachment/mount-errors.ts';
import { readNodeState } from '../attachment/node-state.ts';
import type { Domain } from '../domain.ts';
import { callIdOf } from '../pool/contents.ts';
import type { Pool } from '../pool/pool.ts';
import { maxConcurrentVolumes } from '../pool/thresholds.ts';
import { detachAndDiscard } from '../volume/delete.ts';
import { recoverDevices } from './recover-devices.ts';
import { recoverVolume } from './recover-volume.ts';
import { sweepTemporary } from './sweep-temporary.ts';

/**
 * Recovers what a crash left in one pool, before any call is served: thaws filesystems and detaches unused devices, removes from
 * `tmp/` all but copies that can be resumed, removes inline volumes whose target is gone, and queues the trash. An entry that fails
 * or hangs is logged and left alone: only a failure of the pool itself keeps the pool from being served. Idempotent.
 */
export async function recoverEntries(domain: Domain, pool: Pool): Promise<void> {
  await logPrograms(domain, pool);
  await setDuplicatesAside(domain, pool);
  await recoverDevices(domain, pool);
  await logLostDevices(domain, pool);
  await sweepTemporary(domain, pool);
  await removeOrphanedInline(domain, pool);
  await domain.trash.sweep(domain.host, pool);
}

/** Logs programs that an earlier run of the driver started and that still work on an image: calls that need it are refused. */
async function logPrograms(domain: Domain, pool: Pool): Promise<void> {
  for (const { name, pid, paths } of await domain.host.runningPrograms()) {
    for (const path of paths) {
      if (!path.startsWith(`${pool.root}/`)) continue;
      const [area, id] = path.slice(pool.root.length + 1).split('/');
      domain.log.warn(
        {
          pool: pool.name,
          program: name,
          pid,
          path,
          ...(area === 'volumes' ? { volumeId: id } : {}),
        },
        'a program of an earlier run of the driver still worked on an image; calls that need it are refused until it ends',
      );
    }
  }
}

/** Logs block volumes that lost their device while no driver kept it open. Only ending their pods helps. */
async function logLostDevices(domain: Domain, pool: Pool): Promise<void> {
  const blocks = [...pool.volumes.values()].filter(({ kind }) => kind === 'block');
  const jobs = blocks.map((record) => () => {
    const volume = pool.volumeOf('volumes', record);
    return recoverVolume(domain, pool, record.id, async (domain) => {
      if (bindTargetsIn(await readNodeState(domain, volume)).length === 0) return;
      const { lost } = await attachmentOf(domain, volume);
      if (lost.length === 0) return;
      domain.log.error(
        { volumeId: record.id, targets: targetsOf(lost) },
        'a block volume lost its device; end the pods that use it',
      );
    });
  });
  await runConcurrently(jobs, maxConcurrentVolumes);
}

async function removeOrphanedInline(domain: Domain, pool: Pool): Promise<void> {
  const jobs = [...pool.ephemerals.values()].map((record) => () => {
    const volume = pool.volumeOf('ephemeral', record);
    return recoverVolume(domain, pool, callIdOf(volume), async (domain) => {
      // A target whose stat fails, for example the root of a filesystem that was shut down, exists.
      const target = record.ephemeralTarget;
      if (target !== null && (await domain.host.files.exists(target))) return;
      await detachAndDiscard(domain, volume);
    });
  });
  await runConcurrently(jobs, maxConcurrentVolumes);
}
