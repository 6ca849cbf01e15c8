import type { Domain } from './domain.ts';
import { withReason } from './engine/failures.ts';
import { targetLock, volumeLock } from './engine/locks.ts';
import type { Call, Operation } from './engine/operations.ts';
import type { FoundVolume } from './pool/pool.ts';

/** A call about one volume. */
interface VolumeCall {
  /** Name of the RPC or command, for messages. */
  readonly name: string;
  readonly volumeId: string;
  /** Paths that the call mounts or unmounts; they are locked together with the volume. */
  readonly targets?: readonly string[];
  /** A repeated call with an equal request joins the call in progress. */
  readonly request: unknown;
}

/**
 * Runs a call that changes a volume, under the lock of the volume. The volume is looked up again once it is locked, since it may
 * have been deleted in the meantime. Every failure becomes a `VolumeError`. `work` is passed a domain whose host runs in the lane
 * of the volume, and calls `operation.beginEffects` before its first effect. Throws `not-found` and `busy` in addition to the
 * errors of `work`.
 */
export async function changeVolume<T>(
  domain: Domain,
  call: Call,
  volumeCall: VolumeCall,
  work: (domain: Domain, volume: FoundVolume, operation: Operation) => Promise<T>,
): Promise<T> {
  const find = (): FoundVolume => domain.pools.getVolume(volumeCall.volumeId);
  find();
  return withVolumeLock(domain, call, { ...volumeCall, find }, work);
}

/** Runs a call whose volume may not exist, under the lock of the id. `find` looks up the volume once the id is locked. */
export async function withVolumeLock<T, Found extends FoundVolume | undefined>(
  domain: Domain,
  call: Call,
  { name, volumeId, targets = [], request, find }: VolumeCall & { readonly find: () => Found },
  work: (domain: Domain, volume: Found, operation: Operation) => Promise<T>,
): Promise<T> {
  const exclusive = [volumeLock(volumeId), ...targets.map(targetLock)];
  const lane = { kind: 'volume', id: volumeId } as const;
  const plan = { name, lane, exclusive, request };
  return domain.operations.run(domain, call, plan, async (domain, operation) => {
    const volume = find();
    const about = { subject: `volume '${volumeId}'`, disk: volume?.pool };
    return withReason(domain, about, (domain) => work(domain, volume, operation));
  });
}
