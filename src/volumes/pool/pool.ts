import { join } from 'node:path';
import { callWhenLate } from '../../async.ts';
import { VolumeError } from '../../errors.ts';
import type { Host } from '../../host/host.ts';
import type { Logger } from '../../observe/log.ts';
import type { KnownPools } from '../../state/known-pools.ts';
import {
  type NodeRecord,
  type PoolMarker,
  poolMarker,
  readRecord,
  type VolumeRecord,
} from '../../state/records.ts';
import type { Reached } from '../engine/fault-points.ts';
import type { InLane } from '../engine/lanes.ts';
import type { PoolContents, VolumeImage } from './contents.ts';
import { DirectorySync } from './directory-sync.ts';
import {
  imageFile,
  type PoolArea,
  poolAreas,
  poolFiles,
  type RecordArea,
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
import { notAnswering, tryChange, unavailable, whyNotOpened, whyUnavailable } from './problem.ts';
import type { Index } from './record-index.ts';
import { type AreaIndex, PoolRecords } from './records.ts';
import { Refusable } from './refusable.ts';
import type { PoolSettings } from './settings.ts';
import { PoolSpace } from './space.ts';
import { fullBytes, poolCheckTimeoutMs } from './thresholds.ts';

export interface PoolDeps {
  readonly host: Host;
  readonly knownPools: KnownPools;
  readonly nodeTag: string;
  readonly reached: Reached;
  readonly log: Logger;
  readonly now: () => number;
  readonly inLane: InLane;
}

/** A volume, with its pool. */
export interface FoundVolume extends VolumeImage {
  readonly pool: Pool;
}

/**
 * One pool: a directory with images and their records. Its records are held in memory, loaded when it is opened and changed
 * only together with the disk; whether it is served is looked at again while running, so a disk mounted later is found.
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
  /** `node.json` of its volumes by id, as far as it was read or written. */
  readonly nodeStates = new Map<string, NodeRecord>();
  /** Sizes of inline ephemeral volumes that are being made. */
  inlineBytesInFlight = 0n;
  readonly #deps: PoolDeps;
  #opened: OpenedPool | undefined;
  #directories: DirectorySync | undefined;
  #opening: Promise<boolean> | undefined;
  #abilities: PoolAbilities | undefined;
  #openings = 0;
  /** What an earlier run left in it is settled: calls may use it. */
  #isSettled = false;
  #wasServed = false;
  #problem: VolumeError | undefined;
  /** Something has failed on its disk since it was last known to take changes. */
  #isSuspected = false;
  readonly #waiting = new Refusable();
  /** Its records were read for the first time, or the first attempt to open it has ended. */
  readonly firstRead: Promise<void>;
  #firstReadEnded = (): void => undefined;

  constructor(settings: PoolSettings, deps: PoolDeps) {
    this.name = settings.name;
    this.settings = settings;
    this.#deps = deps;
    this.space = new PoolSpace(this, deps);
    this.firstRead = new Promise((resolve) => {
      this.#firstReadEnded = resolve;
    });
  }

  /** Whether it was served before, by this run of the driver. */
  get wasServed(): boolean {
    return this.#wasServed;
  }

  get isServed(): boolean {
    return this.#isSettled && this.#problem === undefined;
  }

  /** Why it is not served, for a person. */
  get problem(): string | undefined {
    return this.#problem?.message;
  }

  /** Throws `unavailable` with the reason while the pool is not served. */
  requireServed(): void {
    if (this.#problem !== undefined) throw this.#problem;
    if (!this.#isSettled) throw this.#stillOpening();
  }

  /** Answers what `work` answers, which may wait for the disk. Throws the reason as soon as the pool is not served any more. */
  async whileServed<T>(work: () => Promise<T>): Promise<T> {
    if (this.#problem !== undefined) throw this.#problem;
    return this.#waiting.run(work);
  }

  #stillOpening(): VolumeError {
    return new VolumeError('unavailable', `pool '${this.name}' is still being opened; try again`);
  }

  /** The real path of its directory, also while it is being settled. Throws `unavailable` while it is away. */
  get root(): string {
    if (this.#opened === undefined) throw this.#problem ?? this.#stillOpening();
    return this.#opened.root;
  }

  /** The directory with the image that the pool lies in; undefined for a plain pool, and while it is not served. */
  get embeddedIn(): string | undefined {
    return this.#opened?.embeddedIn;
  }

  get marker(): PoolMarker | undefined {
    return this.#opened?.marker;
  }

  get abilities(): PoolAbilities | undefined {
    return this.#abilities;
  }

  /** How often it was opened: what was begun before it went away must not be finished after it came back. */
  get openings(): number {
    return this.#openings;
  }

  pathOf(area: PoolArea, id = '', file = ''): string {
    return join(this.root, area, id, file);
  }

  /** The image in an entry of that area. */
  imagePathOf(area: PoolArea, id: string): string {
    return this.pathOf(area, id, imageFile);
  }

  /** The volume of that record; `root` only for a pool that is not served. */
  volumeOf(area: VolumeArea, record: VolumeRecord, root: string = this.root): FoundVolume {
    return { pool: this, record, area, imagePath: join(root, area, record.id, imageFile) };
  }

  /** All volumes, inline ones included. */
  *images(root: string = this.root): Generator<FoundVolume> {
    for (const area of volumeAreas) {
      for (const record of this.#records[area].values()) yield this.volumeOf(area, record, root);
    }
  }

  recordPathOf(area: RecordArea, id: string): string {
    return this.pathOf(area, id, recordFiles[area]);
  }

  /** Whether something of that id stands in it. */
  has(id: string): boolean {
    return this.#records.has(id);
  }

  /** fsync of these places: every rename into or out of them that was made before is on the disk. Without any: as in places.ts. */
  async sync(...areas: readonly PoolArea[]): Promise<void> {
    if (this.#directories === undefined) throw this.#problem ?? this.#stillOpening();
    await this.#directories.sync(...areas);
  }

  /** Whether its filesystem has less than 1 MiB free: a program that fails there fails for that. */
  async isFull(): Promise<boolean> {
    if (!this.isServed) return false;
    const facts = await this.space.facts().catch(() => undefined);
    return facts !== undefined && facts.freeBytes < fullBytes;
  }

  /** Something has failed on its disk: the next look tries whether its filesystem still takes changes. */
  suspect(): void {
    this.#isSuspected = true;
  }

  /** What is known of the entries of an area. */
  indexOf(area: VolumeArea): Index<VolumeRecord>;
  indexOf(area: RecordArea): AreaIndex;
  indexOf(area: RecordArea): AreaIndex {
    return this.#records[area];
  }

  /** Reads one entry of an area again: it may have changed, or gone. */
  loadEntry(area: RecordArea, id: string): Promise<void> {
    return this.#records.loadEntry(this.#deps.host.files, this.root, { area, id });
  }

  /** Drops the record of what has left its place on the disk. */
  forget(area: RecordArea, id: string): void {
    this.indexOf(area).delete(id);
    this.nodeStates.delete(id);
    this.space.invalidate();
  }

  /**
   * Opens the directory, or says in `problem` why that cannot be. It is served only when its records are read and `settle` has
   * ended: a call in between would miss volumes, or lose what it makes to the sweep. Answers whether this call has opened it;
   * one that comes while another is at it waits for that one.
   */
  async open(settle: () => Promise<void>): Promise<boolean> {
    if (this.isOpen) return false;
    if (this.#opening !== undefined) {
      await this.#opening;
      return false;
    }
    this.#opening = this.#open(settle);
    try {
      return await this.#opening;
    } finally {
      this.#firstReadEnded();
      this.#opening = undefined;
    }
  }

  async #open(settle: () => Promise<void>): Promise<boolean> {
    try {
      this.#opened ??= await openPoolDirectory(this.settings, {
        ...this.#deps,
        nowMs: this.#deps.now(),
      });
      this.#openings += 1;
      this.#directories ??= await DirectorySync.open(poolAreas, this, this.#deps);
      this.#abilities = await probeAbilities(this, this.#deps);
      await this.#load();
      // Not before: what kept it from being served is said for as long as its disk has not done all this.
      this.#problem = undefined;
      this.#firstReadEnded();
      await settle();
      this.#isSettled = true;
      this.#isSuspected = false;
      this.#wasServed = true;
      this.#deps.log.info(
        { pool: this.name, path: this.root, ...this.#abilities },
        'pool is served',
      );
      return true;
    } catch (error) {
      this.#setProblem(whyNotOpened(this, error));
      await this.close();
      return false;
    }
  }

  /** Whether it was opened and settled, and has not gone since: it may still be refused, while its disk hangs. */
  get isOpen(): boolean {
    return this.#isSettled;
  }

  /**
   * Looks whether the directory is still the one that was opened; when not, the pool is away until it comes back. While the
   * look itself hangs, it is not served.
   */
  async check(): Promise<void> {
    const opened = this.#opened;
    if (opened === undefined) return;
    await callWhenLate(
      () => this.#look(opened),
      poolCheckTimeoutMs,
      () => {
        this.#setProblem(notAnswering(this, poolCheckTimeoutMs));
      },
    );
  }

  async #look(opened: OpenedPool): Promise<void> {
    const { files } = this.#deps.host;
    try {
      const root =
        opened.embeddedIn === undefined
          ? await files.resolveDirectory(this.settings.path)
          : opened.root;
      await files.list(join(root, 'tmp'));
      const marker = await readRecord(files, poolMarker, join(root, poolFiles.marker));
      if (marker.uuid === opened.marker.uuid) {
        if (this.#isSuspected) await tryChange(files, root);
        this.#isSuspected = false;
        this.#answers();
        return;
      }
      this.#setProblem(unavailable(this.name, `${root} is another pool now`));
    } catch (error) {
      this.#setProblem(whyUnavailable(this, error));
    }
    await this.close();
  }

  /** It is as it was; also after a time in which it did not answer. */
  #answers(): void {
    if (this.#problem === undefined || !this.#isSettled) return;
    this.#problem = undefined;
    this.#deps.log.info({ pool: this.name }, 'pool answers again');
  }

  /** Lets go of the directory; it can be opened again. */
  async close(): Promise<void> {
    const [opened, directories] = [this.#opened, this.#directories];
    this.#isSettled = false;
    this.#opened = undefined;
    this.#directories = undefined;
    this.#abilities = undefined;
    // Each whatever becomes of the other: a lock that stays would refuse this pool to ourselves.
    await Promise.allSettled([directories?.close(), opened?.lock.release()]);
  }

  #setProblem(problem: VolumeError): void {
    if (this.#problem?.message !== problem.message) {
      this.#deps.log.error({ pool: this.name, problem: problem.message }, 'pool is not served');
    }
    this.#problem = problem;
    this.#waiting.refuse(problem);
  }

  async #load(): Promise<void> {
    this.nodeStates.clear();
    // What a crash left renamed is answered from now on, so it has to be on the disk first.
    await this.sync('volumes', 'ephemeral', 'snapshots', 'groups');
    const log = this.#deps.log.child({ pool: this.name });
    await this.#records.load(this.#deps.host.files, this.root, log);
  }
}
