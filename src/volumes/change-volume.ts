import type { Domain } from './domain.ts';
import { withReason } from './engine/failures.ts';
import { targetLock, volumeLock } from './engine/locks.ts';
import type { Call, Operation } from './engine/operations.ts';
import type { FoundVolume } from './pool/pool.ts';

/** A call about one volume. */
export interface VolumeCall {
  /** Name of the RPC or command, for messages. */
  readonly name: string;
  readonly volumeId: string;
  /** Paths that the call mounts or unmounts; they are locked with the volume. */
  readonly targets?: readonly string[];
  /** A repeated call with an equal request joins the call in progress. */
  readonly request: unknown;
}

/**
 * Runs a call that changes a volume. The volume is looked up again under its lock, since it may have been deleted meanwhile, and
 * errors get a reason. `work` gets the domain with a host in the volume's lane, and calls `operation.beginEffects` before its first
 * effect. Besides the errors of `work`, throws `not-found` and `busy`.
 */
export async function changeVolume<T>(
  domain: Domain,
  call: Call,
  volumeCall: VolumeCall,
  work: (domain: Domain, volume: FoundVolume, operation: Operation) => Promise<T>,
): Promise<T> {
  const find = (): FoundVolume => domain.pools.getVolume(volumeCall.volumeId);
  find();
  return lockVolume(domain, call, { ...volumeCall, find }, work);
}

/** Like `changeVolume`, for a call whose volume may not exist: `find` is called under the lock. */
export async function lockVolume<T, Found extends FoundVolume | undefined>(
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
