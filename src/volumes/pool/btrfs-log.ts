import type { Pool } from './pool.ts';

/**
 * Whether the pool's `tmp/` must be synced between the creation of an entry in it and the rename. Otherwise btrfs may log the entry
 * under both names, and does not mount after a power cut (ADR 0013).
 */
export function syncsBeforeRename({ abilities }: Pick<Pool, 'abilities'>): boolean {
  return abilities?.filesystem === 'btrfs';
}
