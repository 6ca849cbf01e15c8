import { join } from 'node:path';
import type { Host, ImageStatus } from '../../host/host.ts';
import type { Domain } from '../domain.ts';
import { inLane } from '../engine/lanes.ts';
import { volumeLock } from '../engine/locks.ts';
import type { Call } from '../engine/operations.ts';
import { createTemporaryDirectory } from '../pool/commit.ts';
import { callIdOf } from '../pool/contents.ts';
import { imageFile } from '../pool/layout.ts';
import type { FoundVolume, Pool } from '../pool/pool.ts';
import { type Capture, captureVolumes, planCapture } from './capture.ts';

/** The data of a volume at one point in time, until it is closed. */
export interface OpenedVolume {
  /** Its calls run in a lane of their own. */
  readonly host: Host;
  /** Of an image that does not change. */
  readonly path: string;
  readonly image: ImageStatus;
  /** Whether the data was captured: the volume is not locked then. */
  readonly isCaptured: boolean;
  readonly frozenMs: number;
  readonly close: () => Promise<void>;
}

interface OpenOptions {
  readonly subject: string;
  /** The call, for messages about the lock. */
  readonly rpc: string;
  /** Called before the volume is frozen or flushed. It may throw. */
  readonly beforeEffects?: (
    host: Host,
    found: FoundVolume & { readonly isInUse: boolean },
  ) => Promise<void>;
}

/**
 * Opens the data of a volume for reading. In a pool with reflink it is captured, so its volume stays usable; otherwise the volume stays
 * locked, and must not be in use. Throws `wrong-state`, with advice, for a volume in use that cannot be captured; `not-found`, `busy`.
 */
export async function openVolumeData(
  domain: Domain,
  call: Call,
  volume: FoundVolume,
  { subject, rpc, beforeEffects }: OpenOptions,
): Promise<OpenedVolume> {
  const { record, pool } = volume;
  const release = domain.operations.locks.acquire({ shared: [volumeLock(callIdOf(volume))] }, rpc);
  let isKept = false;
  try {
    const inOwnLane = inLane(domain, { kind: 'metadata', id: record.id, pool: pool.name });
    const { host } = inOwnLane;
    const found = volume.area === 'volumes' ? domain.pools.getVolume(record.id) : volume;
    const capture = await planCapture(inOwnLane, found, { pool, freezeForCopy: false, subject });
    const isInUse = capture.flush !== undefined || capture.freeze !== undefined;
    await beforeEffects?.(host, { ...found, isInUse });
    if (capture.isShared) return await openCapture(inOwnLane, call, capture, subject);
    if (capture.flush !== undefined) await host.loops.sync(capture.flush);
    isKept = true;
    const { imagePath: path } = found;
    const close = async (): Promise<void> => release();
    return { host, path, image: capture.image, isCaptured: false, frozenMs: 0, close };
  } finally {
    if (!isKept) release();
  }
}

/** Captures the volume in `tmp/`, which the next start clears if the driver is killed. */
async function openCapture(
  domain: Domain,
  call: Call,
  capture: Capture,
  subject: string,
): Promise<OpenedVolume> {
  const { record, pool } = capture.source;
  const { host } = domain;
  // The source needs as many new blocks when it rewrites the shared ones.
  const reservation = await pool.space.reserve(capture.image.allocatedBytes, subject);
  let directory: string | undefined;
  const close = async (): Promise<void> => {
    try {
      if (directory !== undefined) await removeCapture(host, pool, directory);
    } finally {
      // A capture that could not be removed is a leftover from now on.
      if (directory !== undefined) domain.openCaptures.delete(directory);
      reservation.release();
    }
  };
  try {
    directory = await createTemporaryDirectory(domain, pool, record.id);
    domain.openCaptures.add(directory);
    const path = join(directory, imageFile);
    const { signal } = call;
    const { frozenMs } = await captureVolumes(domain, [{ capture, to: path }], { subject, signal });
    const image = await host.files.imageStatus(path);
    return { host, path, image, isCaptured: true, frozenMs, close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function removeCapture(host: Host, pool: Pool, directory: string): Promise<void> {
  await host.files.removeTree(directory);
  pool.space.invalidate();
}
