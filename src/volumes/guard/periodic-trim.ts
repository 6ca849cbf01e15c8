import { messageOf } from '../../errors.ts';
import type { Domain } from '../domain.ts';
import { findGuarded } from './space-guarded.ts';

/** Often enough for what fstrim.timer of distributions does weekly, seldom enough to cost nothing. */
const trimEveryMs = 24 * 3_600_000;
const lookEveryMs = 600_000;

/**
 * `trim: periodic`: once a day each mounted volume of that kind is told to give freed blocks back to the pool (FITRIM), one
 * after the other. Answers a function that ends it.
 */
export function trimPeriodically(domain: Domain): () => void {
  const trimmedAtMs = new Map<string, number>();
  const timer = setInterval(() => {
    trimDue(domain, trimmedAtMs).catch((error: unknown) => {
      domain.log.warn({ problem: messageOf(error) }, 'looking for volumes to trim failed');
    });
  }, lookEveryMs);
  timer.unref();
  return () => {
    clearInterval(timer);
  };
}

/** Trims what is due. A volume is due a day after it was first seen mounted, or trimmed. */
export async function trimDue(domain: Domain, trimmedAtMs: Map<string, number>): Promise<void> {
  for (const pool of domain.pools.served) {
    for (const { record, target, device } of await findGuarded(domain.host, pool)) {
      if (record.trim !== 'periodic') continue;
      const last = trimmedAtMs.get(record.id);
      if (last === undefined) trimmedAtMs.set(record.id, domain.now());
      if (last === undefined || domain.now() - last < trimEveryMs) continue;
      trimmedAtMs.set(record.id, domain.now());
      try {
        const bytes = await domain.ownedBy(`trim ${record.id}`, () =>
          domain.host.mounts.trim(target, device),
        );
        domain.log.debug({ volumeId: record.id, bytes: bytes.toString() }, 'trimmed');
      } catch (error) {
        domain.log.warn({ volumeId: record.id, problem: messageOf(error) }, 'could not be trimmed');
      }
    }
  }
}
