/** The side of a copy between nodes that has the source. */
import { VolumeError } from '../../errors.ts';
import type { Host } from '../../host/host.ts';
import type { SnapshotRecord, VolumeRecord } from '../../state/records.ts';
import type { Domain } from '../domain.ts';
import { toVolumeError } from '../engine/failures.ts';
import { inLane } from '../engine/lanes.ts';
import type { Call } from '../engine/operations.ts';
import type { EnteredSource, OpenedSource } from '../jobs/sent-volumes.ts';
import type { DescribeOptions, End, Piece, ReadPosition, SentCopy, SourceFacts } from '../model.ts';
import { filesystemFactsOf } from './filesystem-facts.ts';
import { openVolumeData } from './open-volume-data.ts';
import { digestWith } from './pieces.ts';
import { readData } from './read-data.ts';
import { readySnapshot, requireWholeImage } from './ready-snapshot.ts';

/** Bytes after which a fault point of a reading is reached again. */
const reportEveryBytes = 64 * 1024 * 1024;

/** Another one after each boot (proc_sys_kernel(5)). */
const bootId = '/proc/sys/kernel/random/boot_id';

/** Throws `not-found` and `unavailable` for a source that is not there, `busy`, and `wrong-state` for a damaged one. */
export async function describeSource(
  domain: Domain,
  call: Call,
  copy: SentCopy,
  { state }: DescribeOptions,
): Promise<SourceFacts> {
  try {
    // A capture of an earlier copy of that name is only of use for the copy that can go on from it.
    if (copy.source.kind === 'volume')
      await domain.sentVolumes.replaceUnless(keyOf(copy), ({ facts }) => facts.state === state);
    const { opened, leave } = await enter(domain, call, copy);
    try {
      await domain.reached('send:described');
      return opened.facts;
    } finally {
      await leave(true);
    }
  } catch (error) {
    throw await toVolumeError(error, subjectOf(copy));
  }
}

/**
 * Reads a source for another node, in a slot of its own and within the rate of all of them. A snapshot is locked against deletion
 * meanwhile. Throws as `describeSource` does, and `wrong-state` if the data is not that of the beginning of the copy.
 */
export async function* readSource(
  domain: Domain,
  call: Call,
  { copy, state, from }: { copy: SentCopy; state: string; from: ReadPosition },
): AsyncGenerator<Piece | End> {
  const { signal } = call;
  const subject = subjectOf(copy);
  let turn: Turn | undefined;
  let isKept = true;
  const report = domain.transfers.report({ direction: 'send', ...copy, peer: call.peer ?? '' });
  try {
    turn = await enterInTurn(domain, call, copy);
    const { host, path, facts } = turn.entered.opened;
    requireState(facts, { state, from }, subject);
    report.begins();
    await domain.reached('send:begun');
    let digest = from.digest;
    let sentBytes = 0;
    const reading = { from: from.offset, signal, reuseBuffers: true };
    for await (const { offset, data } of readData(host, path, reading)) {
      await domain.transfers.pace(data.length, signal);
      digest = digestWith(digest, { offset, data });
      domain.observer.transferred('sent', data.length);
      report.advances(offset + BigInt(data.length), facts.sizeBytes);
      yield { offset, data, digest };
      const before = sentBytes;
      sentBytes += data.length;
      if (Math.floor(before / reportEveryBytes) < Math.floor(sentBytes / reportEveryBytes))
        await domain.reached('send:advanced');
    }
    await domain.reached('send:ended');
    yield { sizeBytes: facts.sizeBytes, digest };
  } catch (error) {
    const reason = error instanceof VolumeError ? error.reason : 'internal';
    // A capture that cannot be read is of no use for the next reading either.
    isKept = reason === 'cancelled' || reason === 'wrong-state';
    throw await toVolumeError(error, subject);
  } finally {
    report.ends();
    turn?.endSending();
    await turn?.entered.leave(isKept);
  }
}

/** Removes what was kept of a volume for the copy, since the copy exists. */
export async function closeSource(domain: Domain, copy: SentCopy): Promise<void> {
  await domain.sentVolumes.close(keyOf(copy));
}

/** A source that is open, and a slot of those that send. */
interface Turn {
  readonly entered: EnteredSource;
  readonly endSending: () => void;
}

/**
 * Waits for a slot. A capture is entered before, so that it is not given up meanwhile, and a snapshot, so that it is not deleted. A volume that
 * would be locked instead can be used until its turn has come.
 */
async function enterInTurn(domain: Domain, call: Call, copy: SentCopy): Promise<Turn> {
  const entered = await enter(domain, call, copy);
  const isLocked = copy.source.kind === 'volume' && !entered.opened.isCaptured;
  if (isLocked) await entered.leave(false);
  let endSending: (() => void) | undefined;
  try {
    endSending = await domain.transfers.beginSending(call.signal);
    return { endSending, entered: isLocked ? await enter(domain, call, copy) : entered };
  } catch (error) {
    endSending?.();
    if (!isLocked) await entered.leave(true);
    throw error;
  }
}

/** Opens the source, or the capture of it that was made for this copy. */
async function enter(domain: Domain, call: Call, copy: SentCopy): Promise<EnteredSource> {
  if (copy.source.kind === 'snapshot') {
    const opened = await openSnapshot(domain, copy.source.id);
    return { opened, leave: () => opened.close() };
  }
  const open = (): Promise<OpenedSource> => openVolume(domain, call, copy);
  const { opened, leave } = await domain.sentVolumes.enter(keyOf(copy), open);
  // An idle volume that cannot be captured is locked, which must not outlast a reading.
  return { opened, leave: (isKept) => leave(isKept && opened.isCaptured) };
}

async function openSnapshot(domain: Domain, snapshotId: string): Promise<OpenedSource> {
  const release = domain.operations.locks.acquire(
    { shared: [`snapshot:${snapshotId}`] },
    'a copy to another node',
  );
  try {
    const found = readySnapshot(domain, snapshotId);
    const { record, pool, imagePath: path } = found;
    const lane = { kind: 'metadata', id: record.id, pool: pool.name } as const;
    const inOwnLane = inLane(domain, lane);
    const { host } = inOwnLane;
    const image = await requireWholeImage(inOwnLane, found);
    const { inode } = await host.files.status(path);
    // Without the device number, which may change when the pool is mounted again.
    const state = `${pool.marker?.uuid ?? ''}:${inode}:${record.createdAtMs}`;
    const facts = await factsOf(host, record, { path, ...image, state });
    const close = async (): Promise<void> => {
      release();
      await domain.reached('send:closed');
    };
    return { host, path, facts, isCaptured: false, close };
  } catch (error) {
    release();
    throw error;
  }
}

async function openVolume(domain: Domain, call: Call, copy: SentCopy): Promise<OpenedSource> {
  const volume = domain.pools.getVolume(copy.source.id);
  const { record, pool } = volume;
  // A capture belongs to the copy, not to the call that began it, whose caller may leave.
  const lasting = { ...call, signal: new AbortController().signal };
  const opened = await openVolumeData(domain, lasting, volume, {
    subject: `volume '${copy.copyName}'`,
    rpc: 'a copy to another node',
  });
  const close = async (): Promise<void> => {
    await opened.close();
    await domain.reached('send:closed');
  };
  try {
    if (opened.isCaptured) await domain.reached('send:captured');
    const { host, path, image } = opened;
    const { inode, modifiedNs } = await host.files.status(path);
    // After a loss of power, an image that was rewritten may have its earlier time of modification.
    const boot = opened.isCaptured ? '' : `:${(await host.files.readText(bootId)).trim()}`;
    const state = `${pool.marker?.uuid ?? ''}:${inode}:${image.sizeBytes}:${modifiedNs}${boot}`;
    return { ...opened, close, facts: await factsOf(host, record, { path, ...image, state }) };
  } catch (error) {
    await close();
    throw error;
  }
}

async function factsOf(
  host: Host,
  record: SnapshotRecord | VolumeRecord,
  image: { path: string; sizeBytes: bigint; allocatedBytes: bigint; state: string },
): Promise<SourceFacts> {
  const { kind, sectorSize, provisioning } = record;
  const { state, sizeBytes, allocatedBytes } = image;
  const { fsType, growthLimit } = await filesystemFactsOf(host, record, image);
  return { state, kind, fsType, sectorSize, provisioning, sizeBytes, allocatedBytes, growthLimit };
}

function requireState(
  facts: SourceFacts,
  { state, from: { offset } }: { state: string; from: ReadPosition },
  subject: string,
): void {
  if (state !== facts.state) {
    throw new VolumeError(
      'wrong-state',
      `${subject} is not what was read before: it has changed, or it is a later one with the same name; repeat the call`,
    );
  }
  if (offset >= 0n && offset <= facts.sizeBytes) return;
  throw new VolumeError(
    'out-of-range',
    `offset ${offset} is beyond the end of ${subject}, which has ${facts.sizeBytes} bytes`,
  );
}

function subjectOf({ source: { kind, id } }: SentCopy): string {
  return `${kind} '${id}'`;
}

function keyOf({ source: { id }, copyName }: SentCopy): string {
  return `${id} for ${copyName}`;
}
