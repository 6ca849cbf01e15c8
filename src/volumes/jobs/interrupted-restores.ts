import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { messageOf } from '../../errors.ts';
import type { Host } from '../../host/host.ts';
import type { VolumeId } from '../../ids.ts';
import type { Logger } from '../../observe/log.ts';
import { type RestoreProgress, readRecord, restoreProgress } from '../../state/records.ts';
import { inLane } from '../engine/lanes.ts';
import { syncsBeforeRename, temporaryPathFor } from '../pool/commit.ts';
import { entryFiles, imageFile } from '../pool/layout.ts';
import type { Pool } from '../pool/pool.ts';

/** Time for which an interrupted copy is kept for a repeated call. */
const defaultKeepMs = 10 * 60_000;

export type CopySource = RestoreProgress['source'];

/** How far a copy is. */
export interface CopyPosition {
  readonly doneBytes: bigint;
  /** The digest of what was received so far; undefined for a copy within this node. */
  readonly digest?: string | undefined;
}

export const noneCopied: CopyPosition = { doneBytes: 0n };

/** A copy that was started and did not finish, by an earlier run of the driver, or because its source was lost. */
export interface InterruptedRestore extends CopyPosition {
  readonly pool: Pool;
  readonly directory: string;
  readonly source: CopySource;
  readonly allocatedBytes: bigint;
}

/**
 * Interrupted copies of snapshots or imported images for new volumes, on pools that cannot share blocks. A snapshot never
 * changes, and the state of an image shows whether it has, so copied data stays valid: a start keeps an interrupted copy in
 * `tmp/`, and a repeated call resumes it. If no call comes within 10 minutes, the copy is removed.
 */
export class InterruptedRestores {
  readonly #deps: { readonly host: Host; readonly log: Logger };
  readonly #kept = new Map<VolumeId, InterruptedRestore & { readonly timer: NodeJS.Timeout }>();
  readonly #keepMs: number;

  constructor(deps: { host: Host; log: Logger }, keepMs: number = defaultKeepMs) {
    this.#deps = deps;
    this.#keepMs = keepMs;
  }

  /** Called by the recovery for each entry of `tmp/`, and when the source of a copy is lost. Returns whether the entry is kept. */
  async keep(host: Host, pool: Pool, entry: string): Promise<boolean> {
    const { log } = this.#deps;
    const path = join(pool.directoryOf('tmp'), entry);
    const progress = await readRecord(
      host.files,
      restoreProgress,
      join(path, entryFiles.restoreProgress),
    ).catch(() => undefined);
    if (progress === undefined) return false;
    const { volumeId, source, doneBytes, digest } = progress;
    const other = this.#kept.get(volumeId);
    if (pool.volumes.get(volumeId) !== undefined || (other !== undefined && other.pool !== pool)) {
      return false;
    }
    const directory = temporaryPathFor(pool, volumeId);
    if (syncsBeforeRename(pool)) await pool.sync('tmp');
    await host.files.renameNoReplace(path, directory);
    const { allocatedBytes } = await host.files.imageStatus(join(directory, imageFile));
    clearTimeout(other?.timer);
    if (other !== undefined) await host.files.removeTree(other.directory);
    const timer = this.#discardLater(volumeId);
    const position = { doneBytes, digest };
    this.#kept.set(volumeId, { pool, directory, source, ...position, allocatedBytes, timer });
    log.info({ pool: pool.name, volumeId, doneBytes }, 'an interrupted copy was kept');
    return true;
  }

  /** Whether the directory in `tmp/` is kept for a repeated call. */
  isKept(directory: string): boolean {
    return [...this.#kept.values()].some((one) => one.directory === directory);
  }

  /** Finds the interrupted copy of that source for that volume. It is kept until `claim` or `discard`. */
  find(
    volumeId: VolumeId,
    wanted: { pool: Pool; source: CopySource },
  ): InterruptedRestore | undefined {
    const found = this.#kept.get(volumeId);
    if (found?.pool !== wanted.pool) return undefined;
    return isDeepStrictEqual(found.source, wanted.source) ? found : undefined;
  }

  /** The pool of an interrupted copy for that volume; undefined if there is none. */
  poolOf(volumeId: VolumeId): Pool | undefined {
    return this.#kept.get(volumeId)?.pool;
  }

  /** What the interrupted copy for that volume is a copy of; undefined if there is none. */
  sourceOf(volumeId: VolumeId): CopySource | undefined {
    return this.#kept.get(volumeId)?.source;
  }

  /** Keeps the copy until the returned function is called, for an operation that waits before it resumes it. */
  hold(volumeId: VolumeId): () => void {
    clearTimeout(this.#kept.get(volumeId)?.timer);
    return () => {
      const kept = this.#kept.get(volumeId);
      if (kept === undefined) return;
      clearTimeout(kept.timer);
      this.#kept.set(volumeId, { ...kept, timer: this.#discardLater(volumeId) });
    };
  }

  #discardLater(volumeId: VolumeId): NodeJS.Timeout {
    return setTimeout(() => void this.discard(volumeId), this.#keepMs).unref();
  }

  /** Passes the ownership of the copy to the caller, which now removes or commits its directory. */
  claim(volumeId: VolumeId): void {
    clearTimeout(this.#kept.get(volumeId)?.timer);
    this.#kept.delete(volumeId);
  }

  /** Removes the copy, because no call will resume it. */
  async discard(volumeId: VolumeId): Promise<void> {
    const { log } = this.#deps;
    const found = this.#kept.get(volumeId);
    if (found === undefined) return;
    const pool = found.pool.name;
    const { host } = inLane(this.#deps, { kind: 'recover', id: volumeId, pool });
    this.claim(volumeId);
    try {
      await host.files.removeTree(found.directory);
      log.info({ volumeId }, 'an interrupted copy was removed');
    } catch (error) {
      log.warn({ volumeId, problem: messageOf(error) }, 'an interrupted copy could not be removed');
    }
  }

  stop(): void {
    for (const { timer } of this.#kept.values()) clearTimeout(timer);
  }
}
