/** The rows: defects that a named test must detect, in the order in which they are tried. */
import type { Subject } from './defect.ts';
import { copies } from './rows/copies.ts';
import { devices } from './rows/devices.ts';
import { durability } from './rows/durability.ts';
import { freezes } from './rows/freezes.ts';
import { gate } from './rows/gate.ts';
import { locks } from './rows/locks.ts';
import { mounts } from './rows/mounts.ts';
import { pools } from './rows/pools.ts';

export const subjects: readonly Subject[] = [
  durability,
  locks,
  freezes,
  devices,
  mounts,
  pools,
  copies,
  gate,
];
