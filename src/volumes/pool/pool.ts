import { join } from 'node:path';
import { callWhenLate } from '../../async.ts';
import { VolumeError } from '../../errors.ts';
import type { Files, Host } from '../../host/host.ts';
import type { EntryId, EntryName } from '../../ids.ts';
import type { Logger } from '../../observe/log.ts';
import type { LaterVersionError } from '../../state/decode.ts';
import type { KnownPools } from '../../state/known-pools.ts';
import {
  type NodeState,
  type PoolMarker,
  poolMarker,
  readRecord,
  type VolumeRecord,
} from '../../state/records.ts';
import type { Reached } from '../engine/fault-points.ts';
import { inLane, poolLane } from '../engine/lanes.ts';
import type { PoolContents, VolumeImage } from './contents.ts';
import { DirectorySync } from './directory-sync.ts';
import { DiskWaits } from './disk-waits.ts';
import {
  areaIn,
  imageFile,
  type PoolArea,
  poolAreas,
  poolFiles,
  type RecordArea,
  recordAreas,
  recordFiles,
  type VolumeArea,
  volumeAreas,
} from './layout.ts';
import {
  type OpenedPool,
  openPoolDirectory,
  type PoolAbilities,
  probeAbilities,
} from './open-directory.ts';
import {
  failedCheckError,
  notAnsweringError,
  openingError,
  probeWrite,
  unavailableError,
} from './problem.ts';
import type { RecordIndex } from './record-index.ts';
import { type AreaIndex, PoolRecords } from './records.ts';
import type { PoolSettings } from './settings.ts';
import { PoolSpace } from './space.ts';
import { fullBytes, poolCheckTimeoutMs } from './thresholds.ts';

interface PoolDeps {
  readonly host: Host;
  readonly knownPools: KnownPools;
  readonly nodeTag: string;
  readonly reached: Reached;
  readonly log: Logger;
  readonly now: () => number;
}

/** A volume, with its pool. */
export interface FoundVolume extends VolumeImage {
  readonly pool: Pool;
}

/**
 * One pool: a directory with images and their records. The records are cached in memory: they are loaded when the pool is opened,
 * and change only together with the files. The pool is checked repeatedly, so a disk that is mounted later is detected.
 */
export class Pool implements PoolContents {
  readonly name: string;
  readonly settings: PoolSettings;
  readonly #records = new PoolRecords();
  readonly volumes = this.#records.volumes;
  readonly ephemerals = this.#records.ephemeral;
  readonly snapshots = this.#records.snapshots;
  readonly groups = this.#records.groups;
  readonly space: PoolSpace;
  /** Cache of the `node.json` files that were read or written, by volume id. */
  readonly nodeStates = new Map<EntryName, NodeState>();
  /** The errors of `node.json` files that a later version of the driver wrote, by volume id. */
  readonly laterNodeStates = new Map<EntryName, LaterVersionError>();
  /** Sum of the sizes of inline volumes that are being created. */
  inlineBytesInFlight = 0n;
  /** Their host runs its calls in the lane of the pool. */
  readonly #deps: PoolDeps;
  #opened: OpenedPool | undefined;
  #directories: DirectorySync | undefined;
  #opening: Promise<boolean> | undefined;
  #abilities: PoolAbilities | undefined;
  #openings = 0;
  /** Whether the state that an earlier run of the driver left in it was recovered, so that calls may use the pool. */
  #isRecovered = false;
  #wasRead = false;
  #wasServed = false;
  #problem: VolumeError | undefined;
  /** A call on its disk has failed since the last successful write probe. */
  #isWriteProbeDue = false;
  readonly #diskWaits = new DiskWaits();
  /** Resolves when its records have been read for the first time, or when the first attempt to open it has ended. */
  readonly firstRead: Promise<void>;
  #firstReadEnded = (): void => undefined;

  constructor(settings: PoolSettings, deps: PoolDeps) {
    this.name = settings.name;
    this.settings = settings;
    this.#deps = inLane(deps, poolLane(this.name));
    this.space = new PoolSpace(this, deps);
    this.firstRead = new Promise((resolve) => {
      this.#firstReadEnded = resolve;
    });
  }

  /** Whether this run of the driver has already served the pool. */
  get wasServed(): boolean {
    return this.#wasServed;
  }

  /** Whether this run of the driver has read its records. They stay known while the pool is not served. */
  get wasRead(): boolean {
    return this.#wasRead;
  }

  get isServed(): boolean {
    return this.#isRecovered && this.#problem === undefined;
  }

  /** The reason why the pool is not served. */
  get problem(): string | undefined {
    return this.#problem?.message;
  }

  /** Throws `unavailable` with the reason if its records have not been read since the driver started, so nothing is known of them. */
  requireRead(): void {
    if (this.#wasRead) return;
    const problem = this.#problem;
    const { message } = problem ?? this.#stillOpening();
    const otherwise =
      problem === undefined
        ? ''
        : '; or, if its disk is lost for good, remove the pool from the configuration of the driver';
    throw new VolumeError(
      'unavailable',
      `the list would be incomplete, because a pool has not been read since the driver started: ${message}${otherwise}`,
      { cause: problem },
    );
  }

  /** Throws `unavailable` with the reason while the pool is not served. */
  requireServed(): void {
    if (this.#problem !== undefined) throw this.#problem;
    if (!this.#isRecovered) throw this.#stillOpening();
  }

  /** Returns the result of `work`, which may wait for the disk. Throws the reason as soon as the pool is no longer served. */
  async whileServed<T>(work: () => Promise<T>): Promise<T> {
    if (this.#problem !== undefined) throw this.#problem;
    return this.#diskWaits.run(work);
  }

  #stillOpening(): VolumeError {
    return new VolumeError(
      'unavailable',
      `pool '${this.name}' is still being opened; try again, and check its disk if that does not end`,
    );
  }

  /** The real path of its directory, known from the start of the recovery. Throws `unavailable` while the pool is not open. */
  get root(): string {
    if (this.#opened === undefined) throw this.#problem ?? this.#stillOpening();
    return this.#opened.root;
  }

  /** The directory with the image of an embedded pool; undefined for other pools, and while the pool is not open. */
  get embeddedIn(): string | undefined {
    return this.#opened?.embeddedIn;
  }

  get marker(): PoolMarker | undefined {
    return this.#opened?.marker;
  }

  get abilities(): PoolAbilities | undefined {
    return this.#abilities;
  }

  /** How many times the pool was opened. An entry that was begun before the pool was opened again must not be committed afterwards. */
  get openings(): number {
    return this.#openings;
  }

  directoryOf(area: PoolArea): string {
    return areaIn(this.root, area);
  }

  /** Path of an entry, or of a file in it. */
  pathOf(area: RecordArea, name: EntryName, file = ''): string {
    return join(this.root, area, name, file);
  }

  /** Path of the image in an entry. */
  imagePathOf(area: RecordArea, name: EntryName): string {
    return this.pathOf(area, name, imageFile);
  }

  /** The volume of a record. `root` is passed only for a pool that may not be served. */
  volumeOf(area: VolumeArea, record: VolumeRecord, root: string = this.root): FoundVolume {
    return { pool: this, record, area, imagePath: join(root, area, record.id, imageFile) };
  }

  /** All volumes, inline ones included. */
  *images(root: string = this.root): Generator<FoundVolume> {
    for (const area of volumeAreas) {
      for (const record of this.#records[area].values()) yield this.volumeOf(area, record, root);
    }
  }

  recordPathOf(area: RecordArea, id: EntryId): string {
    return this.pathOf(area, id, recordFiles[area]);
  }

  /** Whether the pool has an entry with that id. */
  has(id: EntryId): boolean {
    return this.#records.has(id);
  }

  /** Syncs the directories of these areas (see `DirectorySync.sync`). */
  async sync(...areas: readonly PoolArea[]): Promise<void> {
    if (this.#directories === undefined) throw this.#problem ?? this.#stillOpening();
    await this.#directories.sync(...areas);
  }

  /** Whether its filesystem has so little free space that the failure of a program is attributed to it. */
  async isFull(): Promise<boolean> {
    if (!this.isServed) return false;
    const facts = await this.space.facts().catch(() => undefined);
    return facts !== undefined && facts.freeBytes < fullBytes;
  }

  /** Makes the next check run a write probe, because a call on the disk has failed. */
  requestWriteProbe(): void {
    this.#isWriteProbeDue = true;
  }

  /** The records of an area, and its entries that are set aside. */
  indexOf(area: VolumeArea): RecordIndex<VolumeRecord>;
  indexOf(area: RecordArea): AreaIndex;
  indexOf(area: RecordArea): AreaIndex {
    return this.#records.of(area);
  }

  /** Reads one entry again, because it may have changed or been removed. */
  loadEntry(files: Files, area: RecordArea, name: EntryName): Promise<void> {
    return this.#records.loadEntry(files, this.root, { area, name });
  }

  /** Removes from memory the record of an entry that was renamed or removed on the disk. */
  forget(area: RecordArea, id: EntryId): void {
    this.indexOf(area).delete(id);
    this.nodeStates.delete(id);
    this.laterNodeStates.delete(id);
    this.space.invalidate();
  }

  /**
   * Opens the directory, or sets `problem`. The pool is served only after its records were read and `recover` has ended: calls
   * served earlier would miss volumes, and the sweep of `tmp/` could remove their unfinished entries. Returns whether this call
   * opened the pool. Concurrent calls wait for the first one.
   */
  async open(recover: () => Promise<void>): Promise<boolean> {
    if (this.isOpen) return false;
    if (this.#opening !== undefined) {
      await this.#opening;
      return false;
    }
    this.#opening = this.#open(recover);
    try {
      return await this.#opening;
    } finally {
      this.#firstReadEnded();
      this.#opening = undefined;
    }
  }

  async #open(recover: () => Promise<void>): Promise<boolean> {
    try {
      this.#opened ??= await openPoolDirectory(this.settings, {
        ...this.#deps,
        nowMs: this.#deps.now(),
      });
      this.#openings += 1;
      this.#directories ??= await DirectorySync.open(poolAreas, this, this.#deps);
      this.#abilities = await probeAbilities(this, this.#deps);
      await this.#load();
      this.#wasRead = true;
      // Not cleared earlier: until the disk has done all this, the old problem is still the reason.
      this.#problem = undefined;
      this.#firstReadEnded();
      await recover();
      this.#isRecovered = true;
      this.#isWriteProbeDue = false;
      this.#wasServed = true;
      this.#deps.log.info({ pool: this.name, path: this.root, ...this.#abilities }, 'pool opened');
      return true;
    } catch (error) {
      this.#setProblem(openingError(this, error));
      await this.close();
      return false;
    }
  }

  /** Whether it is open and recovered. While its disk hangs, an open pool is not served. */
  get isOpen(): boolean {
    return this.#isRecovered;
  }

  /**
   * Checks that the directory still contains the pool that was opened. If it does not, the pool is closed, and opened again when
   * the directory is back. While the check hangs, the pool is not served.
   */
  async check(): Promise<void> {
    const opened = this.#opened;
    if (opened === undefined) return;
    await callWhenLate(
      () => this.#checkDirectory(opened),
      poolCheckTimeoutMs,
      () => {
        this.#setProblem(notAnsweringError(this, poolCheckTimeoutMs));
      },
    );
  }

  async #checkDirectory(opened: OpenedPool): Promise<void> {
    const { files } = this.#deps.host;
    try {
      const root =
        opened.embeddedIn === undefined
          ? await files.resolveDirectory(this.settings.path)
          : opened.root;
      await files.list(areaIn(root, 'tmp'));
      const marker = await readRecord(files, poolMarker, join(root, poolFiles.marker));
      if (marker.uuid === opened.marker.uuid) {
        if (this.#isWriteProbeDue) await probeWrite(files, root);
        this.#isWriteProbeDue = false;
        this.#clearProblem();
        return;
      }
      this.#setProblem(
        unavailableError(
          this.name,
          `${root} now contains another pool; mount the disk of this pool again`,
        ),
      );
    } catch (error) {
      this.#setProblem(failedCheckError(this, error));
    }
    await this.close();
  }

  /** Serves the pool again after its disk had not answered. */
  #clearProblem(): void {
    if (this.#problem === undefined || !this.#isRecovered) return;
    this.#problem = undefined;
    this.#deps.log.info({ pool: this.name }, 'pool answered again');
  }

  /** Closes the directory. It can be opened again. */
  async close(): Promise<void> {
    const [opened, directories] = [this.#opened, this.#directories];
    this.#isRecovered = false;
    this.#opened = undefined;
    this.#directories = undefined;
    this.#abilities = undefined;
    // Both are released, even if one fails: a lock that remains would prevent this process from opening the pool again.
    await Promise.allSettled([directories?.close(), opened?.lock.release()]);
  }

  #setProblem(problem: VolumeError): void {
    if (this.#problem?.message !== problem.message) {
      this.#deps.log.error(
        { pool: this.name, problem: problem.message },
        'pool became unavailable',
      );
    }
    this.#problem = problem;
    this.#diskWaits.refuseAll(problem);
  }

  async #load(): Promise<void> {
    this.nodeStates.clear();
    this.laterNodeStates.clear();
    // Renames before a crash may not be durable. Calls are answered from these entries, so they are synced first.
    await this.sync(...recordAreas);
    const log = this.#deps.log.child({ pool: this.name });
    await this.#records.load(this.#deps.host.files, this.root, log);
  }
}
