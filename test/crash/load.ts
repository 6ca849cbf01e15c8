/**
 * Volume life cycles under load. Workers record what the driver acknowledged, which a killed driver must find again. A call
 * without an answer may or may not have taken effect, so its result is recorded as unknown.
 */
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import type { Kind } from './calls.ts';
import * as calls from './calls.ts';
import type { Random } from './random.ts';
import type { TestNode } from './test-node.ts';

/** The acknowledged state of one volume. */
interface Claim {
  readonly name: string;
  readonly kind: Kind;
  version: number;
  exists: 'yes' | 'no' | 'unknown';
  staged: 'yes' | 'no' | 'unknown';
  /** Text whose fsync succeeded. */
  text: string | undefined;
  snapshots: Set<string>;
}

export interface LoadOptions {
  /** Number of volumes of each worker. */
  readonly namesPerWorker?: number;
  /** Maximum number of times that a text is repeated in its file. */
  readonly repeats?: number;
  /** Other software uses the volumes too, so FAILED_PRECONDITION (in use) is a valid answer. */
  readonly withOtherSoftware?: boolean;
  /** Is called, and awaited, before and after each step. */
  readonly journal?: Journal;
}

/** Records what is certain, for a check after the load and its machine were killed. */
export interface Journal {
  /** The recorded fact about that volume is no longer certain. */
  begins(name: string): Promise<void>;
  ends(fact: Fact): Promise<void>;
}

export class Load {
  readonly #testNode: TestNode;
  readonly #random: Random;
  readonly #claims = new Map<string, Claim>();
  #stopped = true;
  #count = 0;
  /** Calls that were answered with success. */
  done = 0;
  /** Errors that are not explained by a kill of the driver or by other software. */
  readonly unexplained: string[] = [];

  /** Bytes that were read back unchanged. */
  verifiedBytes = 0;
  readonly #options: LoadOptions;

  constructor(testNode: TestNode, random: Random, options: LoadOptions = {}) {
    this.#testNode = testNode;
    this.#random = random;
    this.#options = options;
  }

  /** Runs workers until `stop`; resolves when all have ended. */
  async run(workers: number): Promise<void> {
    this.#stopped = false;
    await Promise.all(Array.from({ length: workers }, (_, index) => this.#work(index)));
  }

  /** A method, since the type checker assumes that the field has not changed during an await. */
  #isStopped(): boolean {
    return this.#stopped;
  }

  stop(): void {
    this.#stopped = true;
  }

  async #work(worker: number): Promise<void> {
    while (!this.#stopped) {
      const claim = this.#claimOf(worker);
      const { journal } = this.#options;
      try {
        await journal?.begins(claim.name);
        await this.#step(claim);
        await journal?.ends(factOf(claim));
        this.done += 1;
      } catch (error) {
        if (this.#stopped) return;
        // A call can fail because of a kill before `stop` is called for that kill.
        await new Promise((resolve) => setTimeout(resolve, 200));
        if (this.#isStopped()) return;
        const { code } = error as { code?: unknown };
        if (this.#options.withOtherSoftware === true && code === status.FAILED_PRECONDITION)
          continue;
        this.unexplained.push(`${claim.name}: ${String(error)}`);
      }
    }
  }

  /** Each volume belongs to one worker, so no other call changes it and every answer is certain. */
  #claimOf(worker: number): Claim {
    const name = `load-${worker}-${this.#random.below(this.#options.namesPerWorker ?? 2)}`;
    let claim = this.#claims.get(name);
    if (claim === undefined) {
      const kind = this.#random.pick<Kind>(['ext4', 'ext4', 'xfs', 'btrfs', 'block']);
      claim = {
        name,
        kind,
        version: 0,
        exists: 'no',
        staged: 'no',
        text: undefined,
        snapshots: new Set(),
      };
      this.#claims.set(name, claim);
    }
    return claim;
  }

  async #step(claim: Claim): Promise<void> {
    if (claim.exists !== 'yes') return this.#create(claim);
    if (claim.staged !== 'yes') {
      return this.#random.below(3) === 0 ? this.#delete(claim) : this.#stage(claim);
    }
    switch (this.#random.below(7)) {
      case 0:
        return this.#snapshot(claim);
      case 3:
      case 4:
        return this.#verify(claim);
      case 1:
        return this.#unstage(claim);
      case 2:
        return this.#expand(claim);
      default:
        return this.#write(claim);
    }
  }

  async #create(claim: Claim): Promise<void> {
    claim.exists = 'unknown';
    claim.version += 1;
    await calls.create(this.#testNode, claim.name, { kind: claim.kind });
    claim.exists = 'yes';
  }

  async #delete(claim: Claim): Promise<void> {
    claim.exists = 'unknown';
    claim.version += 1;
    claim.text = undefined;
    await calls.destroy(this.#testNode, claim.name);
    claim.exists = 'no';
  }

  async #stage(claim: Claim): Promise<void> {
    claim.staged = 'unknown';
    await calls.stage(this.#testNode, claim.name, claim.kind);
    claim.staged = 'yes';
  }

  async #unstage(claim: Claim): Promise<void> {
    claim.staged = 'unknown';
    await calls.unstage(this.#testNode, claim.name);
    claim.staged = 'no';
  }

  async #expand(claim: Claim): Promise<void> {
    await calls.expand(this.#testNode, claim.name, (calls.sizes[claim.kind] * 3n) / 2n);
  }

  async #snapshot(claim: Claim): Promise<void> {
    // A snapshot of a raw device in use needs a pool that shares blocks.
    if (claim.kind === 'block' && ['directory', 'ext4'].includes(this.#testNode.options.poolFs))
      return;
    this.#count += 1;
    const name = `${claim.name}-s${this.#count}`;
    await calls.snapshot(this.#testNode, name, claim.name, { freeze: 'yes' });
    claim.snapshots.add(name);
    if (claim.snapshots.size < 3) return;
    const [oldest = name] = claim.snapshots;
    claim.snapshots.delete(oldest);
    await calls.deleteSnapshot(this.#testNode, oldest);
  }

  async #write(claim: Claim): Promise<void> {
    this.#count += 1;
    const repeats = 1 + this.#random.below(this.#options.repeats ?? 200);
    const text = `${claim.name} ${this.#count} `.repeat(repeats);
    claim.text = undefined;
    await writeText(this.#testNode, claim, text);
    claim.text = text;
  }

  /** Reads the text back; the volume may have been unstaged, grown or snapshotted since it was written. */
  async #verify(claim: Claim): Promise<void> {
    if (claim.text === undefined) return;
    const found = await readText(this.#testNode, claim, claim.text.length);
    if (found !== claim.text) {
      throw new Error(`${claim.name} lost synced text: it contains '${found.slice(0, 60)}'`);
    }
    this.verifiedBytes += Buffer.byteLength(found);
  }

  /** The certain facts at this instant. The results of calls in progress are unknown. */
  facts(): readonly Fact[] {
    return [...this.#claims.values()].map(factOf);
  }

  /** Compares every claim with the driver and the disk after a restart, and replaces unknown states by the present ones. */
  async brokenClaims(): Promise<readonly string[]> {
    const { broken, existing } = await brokenFacts(this.#testNode, this.facts());
    for (const claim of this.#claims.values()) {
      const isThere = existing.has(claim.name);
      claim.exists = isThere ? 'yes' : 'no';
      claim.staged = isThere ? 'yes' : 'no';
      claim.version += 1;
      if (!isThere) claim.text = undefined;
    }
    return broken;
  }
}

/** The acknowledged state of a volume. Each call that creates or deletes it increments `version`. */
export interface Fact {
  readonly name: string;
  readonly kind: Kind;
  readonly version: number;
  readonly exists: Claim['exists'];
  readonly text: string | undefined;
  readonly snapshots: readonly string[];
}

function factOf({ name, kind, version, exists, text, snapshots }: Claim): Fact {
  return { name, kind, version, exists, text, snapshots: [...snapshots] };
}

/** The facts that were certain for the entire time between two instants. */
export function certainBetween(before: readonly Fact[], after: readonly Fact[]): readonly Fact[] {
  return before.flatMap((fact) => {
    const later = after.find(({ name }) => name === fact.name);
    if (later?.version !== fact.version || later.exists !== fact.exists) return [];
    const text = later.text === fact.text ? fact.text : undefined;
    const snapshots = fact.snapshots.filter((one) => later.snapshots.includes(one));
    return [{ ...fact, text, snapshots }];
  });
}

/** Facts that the driver and the disk contradict, and the names of the existing volumes, which are left staged. */
export async function brokenFacts(
  testNode: TestNode,
  facts: readonly Fact[],
): Promise<{ broken: readonly string[]; existing: ReadonlySet<string> }> {
  const broken: string[] = [];
  const existing = new Set<string>();
  const { entries } = await testNode.controller.ListVolumes({});
  const volumes = new Set(entries.map(({ volume }) => volume?.volume_id ?? ''));
  const listed = await testNode.controller.ListSnapshots({});
  const snapshots = new Set(listed.entries.map(({ snapshot }) => snapshot?.snapshot_id ?? ''));
  for (const fact of facts) {
    const { name, exists } = fact;
    const isThere = volumes.has(calls.volumeIdOf(name));
    if (exists === 'yes' && !isThere) broken.push(`${name} was acknowledged, but does not exist`);
    if (exists === 'no' && isThere) broken.push(`${name} was deleted, but exists`);
    for (const snapshot of fact.snapshots) {
      if (!snapshots.has(calls.snapshotIdOf(snapshot))) {
        broken.push(`snapshot ${snapshot} was acknowledged, but does not exist`);
      }
    }
    if (!isThere) continue;
    existing.add(name);
    broken.push(...(await brokenText(testNode, fact)));
  }
  return { broken, existing };
}

async function brokenText(testNode: TestNode, fact: Fact): Promise<readonly string[]> {
  const { name, kind, text } = fact;
  await calls.stage(testNode, name, kind);
  if (text === undefined) return [];
  const found = await readText(testNode, fact, text.length).catch((error: unknown) =>
    String(error),
  );
  return found === text ? [] : [`${name}: synced text is lost: '${found.slice(0, 60)}'`];
}

/** Each volume, also a raw one, contains a text that begins with the volume's name. */
const textPathOf = async (testNode: TestNode, { name, kind }: { name: string; kind: Kind }) =>
  join(await testNode.stagingPathOf(name), kind === 'block' ? 'device' : 'file');

async function writeText(testNode: TestNode, of: { name: string; kind: Kind }, text: string) {
  if (of.kind !== 'block') {
    await calls.writeSynced(await testNode.stagingPathOf(of.name), 'file', text);
    return;
  }
  const device = await open(await textPathOf(testNode, of), 'r+');
  try {
    await device.write(text, 0);
    await device.sync();
  } finally {
    await device.close();
  }
}

/** Reads the text. `length` is the length of a text in a raw volume, which has no end of file. */
async function readText(testNode: TestNode, of: { name: string; kind: Kind }, length: number) {
  const path = await textPathOf(testNode, of);
  if (of.kind !== 'block') return readFile(path, 'utf8');
  const device = await open(path);
  try {
    const { buffer } = await device.read(Buffer.alloc(length), 0, length, 0);
    return buffer.toString('utf8');
  } finally {
    await device.close();
  }
}
