import type { Pool } from './pool.ts';

/**
 * Whether the pool's `tmp/` must be synced after an entry was made in it and before that is renamed. btrfs may log the entry under
 * both names otherwise, and does not mount after a power cut (ADR 0013).
 */
export function syncsBeforeRename({ abilities }: Pick<Pool, 'abilities'>): boolean {
  return abilities?.filesystem === 'btrfs';
}
