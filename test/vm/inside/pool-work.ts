/** A driver with its pool on a disk, and the scripted work in it. */
import { poolOn, World } from '../../crash/world.ts';
import type { PoolFilesystem } from '../power-cuts/recording.ts';
import { type Acknowledge, work } from '../power-cuts/work.ts';

interface PoolWork {
  readonly type: PoolFilesystem;
  readonly rounds: number;
  /** The driver as it is shipped; otherwise its modules, of which one may be another. */
  readonly isPlain: boolean;
  readonly acknowledge: Acknowledge;
}

/** Mounts the formatted disk, works in it, and takes the driver and the mount away again. */
export async function workOn(device: string, options: PoolWork): Promise<void> {
  const { type, rounds, isPlain, acknowledge } = options;
  const world = await World.make({
    ground: type,
    isPlain,
    layGround: poolOn(device),
  });
  try {
    await work(world, acknowledge, { rounds, poolFilesystem: type });
  } catch (error) {
    console.log((await world.driver.log()).slice(-3_000));
    throw error;
  } finally {
    for (const left of await world.end()) console.log(`# left over: ${left}`);
  }
}
