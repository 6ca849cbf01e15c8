import type { Domain } from './domain.ts';
import { withReason } from './engine/failures.ts';
import { targetLock } from './engine/locks.ts';
import type { Call, Operation } from './engine/operations.ts';
import type { FoundVolume } from './pool/pool.ts';

/** A call about one volume. */
export interface VolumeCall {
  /** The RPC's or command's name, for messages. */
  readonly name: string;
  readonly volumeId: string;
  /** Paths that the call mounts at, or unmounts: locked with the volume. */
  readonly targets?: readonly string[];
  /** A repeated call with an equal request joins the one that is running. */
  readonly request: unknown;
}

/**
 * The frame of every call that changes a volume: under the volume's lock the volume is found again, since it may have been deleted
 * meanwhile, and what fails gets a reason. `work` calls `operation.beginEffects` before its first effect. Throws `not-found` and
 * `busy` besides what `work` throws.
 */
export async function changeVolume<T>(
  domain: Domain,
  call: Call,
  asked: VolumeCall,
  work: (volume: FoundVolume, operation: Operation) => Promise<T>,
): Promise<T> {
  const find = (): FoundVolume => domain.pools.getVolume(asked.volumeId);
  find();
  return lockVolume(domain, call, { ...asked, find }, work);
}

/** The same frame for a call whose volume may not exist: `find` is called under the lock. */
export async function lockVolume<T, Found extends FoundVolume | undefined>(
  domain: Domain,
  call: Call,
  { name, volumeId, targets = [], request, find }: VolumeCall & { readonly find: () => Found },
  work: (volume: Found, operation: Operation) => Promise<T>,
): Promise<T> {
  const exclusive = [`volume:${volumeId}`, ...targets.map(targetLock)];
  const lane = { kind: 'volume', id: volumeId } as const;
  const plan = { name, lane, exclusive, request };
  return domain.operations.run(plan, call, async (operation) => {
    const volume = find();
    return withReason(`volume '${volumeId}'`, volume?.pool, () => work(volume, operation));
  });
}
