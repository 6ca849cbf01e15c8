import { VolumeError } from '../../../errors.ts';
import type { FsType, SectorSize } from '../../../host/host.ts';
import type { Domain } from '../../domain.ts';
import { toVolumeError } from '../../engine/failures.ts';
import { inLane } from '../../engine/lanes.ts';
import type { Call } from '../../engine/operations.ts';
import type { FoundVolume } from '../../pool/pool.ts';
import type { FoundSnapshot } from '../../pool/pools.ts';
import { openVolumeData } from '../../snapshot/open-volume-data.ts';
import { readData } from '../../snapshot/read-data.ts';
import { findSnapshot, findVolume } from '../inspect.ts';

export interface ExportInput {
  readonly kind: 'volume' | 'snapshot';
  readonly idOrName: string;
  readonly startingOffset: bigint;
  /** The state of an interrupted export that is continued; '' for a new one. */
  readonly expectedState: string;
}

export interface ExportStart {
  readonly name: string;
  readonly sizeBytes: bigint;
  readonly allocatedBytes: bigint;
  /** Identifies the data; '' if it cannot be exported again, because the volume is in use. */
  readonly state: string;
  readonly fsType: FsType | null;
  readonly sectorSize: SectorSize;
  readonly frozenMs: number;
}

export type ExportStep =
  | { readonly start: ExportStart }
  | { readonly offset: bigint; readonly data: Buffer };

/** What is exported, while it is locked or captured. */
interface Opened {
  readonly host: Domain['host'];
  readonly path: string;
  readonly start: ExportStart;
  readonly close: () => Promise<void>;
}

/**
 * Reads an image: first its facts, then its data, without holes. An image in a pool with reflink is captured first, so its volume
 * stays usable; another one stays locked, and must not be in use. Throws `wrong-state`, with advice, for a volume in use that
 * cannot be captured, and if the data is not in the expected state; `not-found`, `busy`.
 */
export async function* exportImage(
  domain: Domain,
  call: Call,
  input: ExportInput,
): AsyncGenerator<ExportStep> {
  const found =
    input.kind === 'volume'
      ? findVolume(domain, input.idOrName)
      : domain.pools.getSnapshot(findSnapshot(domain, input.idOrName).record.id);
  const subject = `${input.kind} '${found.record.name}'`;
  try {
    const opened =
      'area' in found
        ? await openVolume(domain, call, { volume: found, input, subject })
        : await openSnapshot(domain, found, { input, subject });
    try {
      // A reader may take any time, for example over a hole that it writes as zeros, so an export has no time limit.
      yield* readImage(opened, call.signal, input.startingOffset);
    } finally {
      await opened.close();
    }
  } catch (error) {
    throw await toVolumeError(error, subject, found.pool);
  }
}

function requireState(
  { state, sizeBytes }: ExportStart,
  { expectedState, startingOffset }: ExportInput,
  subject: string,
): void {
  if (startingOffset < 0n || startingOffset > sizeBytes) {
    throw new VolumeError(
      'out-of-range',
      `${subject}: offset ${startingOffset} is beyond its end at ${sizeBytes} bytes; start at a lower offset`,
    );
  }
  if (expectedState === '' || expectedState === state) return;
  const why = state === '' ? 'is in use' : 'has changed since that export began';
  throw new VolumeError(
    'wrong-state',
    `${subject} ${why}, so the interrupted export cannot be continued; start it again, or export a snapshot, which never changes`,
  );
}

async function* readImage(
  opened: Opened,
  signal: AbortSignal,
  from: bigint,
): AsyncGenerator<ExportStep> {
  yield { start: opened.start };
  yield* readData(opened.host, opened.path, { from, signal });
}

async function openSnapshot(
  domain: Domain,
  { record, pool, imagePath }: FoundSnapshot,
  { input, subject }: { input: ExportInput; subject: string },
): Promise<Opened> {
  pool.requireServed();
  if (record.state !== 'ready') {
    throw new VolumeError(
      'unavailable',
      `${subject} is still being copied; try again when it is ready`,
    );
  }
  const release = domain.operations.locks.acquire(
    { shared: [`snapshot:${record.id}`] },
    'ExportImage',
  );
  try {
    const { host } = inLane(domain, { kind: 'metadata', id: record.id, pool: pool.name });
    const start = await startOf(host, { record, pool, imagePath, isInUse: false });
    requireState(start, input, subject);
    return { host, path: imagePath, start, close: async () => release() };
  } catch (error) {
    release();
    throw error;
  }
}

async function openVolume(
  domain: Domain,
  call: Call,
  { volume, input, subject }: { volume: FoundVolume; input: ExportInput; subject: string },
): Promise<Opened> {
  let start: ExportStart | undefined;
  const opened = await openVolumeData(domain, call, volume, {
    subject,
    rpc: 'ExportImage',
    // A refused export must neither freeze nor flush the volume.
    beforeEffects: async (host, found) => {
      start = await startOf(host, found);
      requireState(start, input, subject);
    },
  });
  if (start === undefined) throw new Error('the volume was opened without its facts');
  return { ...opened, start: { ...start, frozenMs: opened.frozenMs } };
}

/** The state has no device number, which may change when the pool is mounted again. */
async function startOf(
  { files }: Domain['host'],
  {
    record,
    pool,
    imagePath,
    isInUse,
  }: Pick<FoundVolume | FoundSnapshot, 'record' | 'pool' | 'imagePath'> & {
    readonly isInUse: boolean;
  },
): Promise<ExportStart> {
  const { allocatedBytes } = await files.imageStatus(imagePath);
  const { inode, sizeBytes, modifiedNs } = await files.status(imagePath);
  return {
    name: record.name,
    sizeBytes,
    allocatedBytes,
    state: isInUse ? '' : `${pool.marker?.uuid ?? ''}:${inode}:${sizeBytes}:${modifiedNs}`,
    fsType: record.fsType,
    sectorSize: record.sectorSize,
    frozenMs: 0,
  };
}
