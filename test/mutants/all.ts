/** Every defect, by kind, in the order in which they are tried and told. */
import type { Kind } from './mutant.ts';
import { durability } from './rows/durability.ts';
import { freezes } from './rows/freezes.ts';
import { locks } from './rows/locks.ts';

export const kinds: readonly Kind[] = [durability, locks, freezes];
