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
 * Recovers one pool from a crash before it is served: thaws filesystems, detaches unused devices, removes everything from `tmp/`
 * except copies that can be resumed, removes inline volumes whose target no longer exists, and queues the trash for deletion. If
 * an entry fails or hangs, this is logged and recovery continues with the others; only a failure of the pool itself prevents it
 * from being served. Idempotent.
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

/**
 * Logs programs that an earlier run of the driver started and that still use an image. Calls that need that image are refused.
 */
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
        'a program of an earlier run of the driver was still using an image; calls that need the image are refused until the program exits',
      );
    }
  }
}

/** Logs block volumes that lost their device while no driver held it open. The only remedy is to stop their pods. */
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
        'a block volume had lost its device; stop the pods that use it',
      );
    });
  });
  await runConcurrently(jobs, maxConcurrentVolumes);
}

async function removeOrphanedInline(domain: Domain, pool: Pool): Promise<void> {
  const jobs = [...pool.ephemerals.values()].map((record) => () => {
    const volume = pool.volumeOf('ephemeral', record);
    return recoverVolume(domain, pool, callIdOf(volume), async (domain) => {
      // A target exists even if stat fails, for example for the root of a filesystem that was shut down.
      const target = record.ephemeralTarget;
      if (target !== null && (await domain.host.files.exists(target))) return;
      await detachAndDiscard(domain, volume);
    });
  });
  await runConcurrently(jobs, maxConcurrentVolumes);
}
