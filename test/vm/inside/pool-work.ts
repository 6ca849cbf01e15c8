/** Runs the scripted workload on a driver whose pool is on a disk. */
import { poolOn, TestNode } from '../../crash/test-node.ts';
import type { PoolFilesystem } from '../power-cuts/recording.ts';
import { type Acknowledge, work } from '../power-cuts/work.ts';

interface PoolWork {
  readonly type: PoolFilesystem;
  readonly rounds: number;
  /** Whether the shipped driver runs; otherwise its modules do, one of which may be replaced. */
  readonly isPlain: boolean;
  readonly acknowledge: Acknowledge;
}

/** Mounts the formatted disk, runs the workload, stops the driver and unmounts the disk. */
export async function workOn(device: string, options: PoolWork): Promise<void> {
  const { type, rounds, isPlain, acknowledge } = options;
  const testNode = await TestNode.make({
    poolFs: type,
    isPlain,
    preparePool: poolOn(device),
  });
  try {
    await work(testNode, acknowledge, { rounds, poolFilesystem: type });
  } catch (error) {
    console.log((await testNode.driver.log()).slice(-3_000));
    throw error;
  } finally {
    for (const left of await testNode.end()) console.log(`# left over: ${left}`);
  }
}
