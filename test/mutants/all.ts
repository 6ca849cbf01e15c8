/** Every defect, by kind, in the order in which they are tried and told. */
import type { Kind } from './mutant.ts';
import { codes } from './rows/codes.ts';
import { devices } from './rows/devices.ts';
import { durability } from './rows/durability.ts';
import { freezes } from './rows/freezes.ts';
import { gate } from './rows/gate.ts';
import { groups } from './rows/groups.ts';
import { guard } from './rows/guard.ts';
import { locks } from './rows/locks.ts';
import { mounts } from './rows/mounts.ts';
import { paths } from './rows/paths.ts';
import { room } from './rows/room.ts';
import { snapshots } from './rows/snapshots.ts';
import { validation } from './rows/validation.ts';

export const kinds: readonly Kind[] = [
  durability,
  locks,
  freezes,
  devices,
  room,
  codes,
  validation,
  paths,
  snapshots,
  groups,
  gate,
  guard,
  mounts,
];
