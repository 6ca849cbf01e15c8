import { messageOf } from '../../errors.ts';
import type { VolumeCondition } from '../model.ts';

export function condition(
  status: VolumeCondition['status'],
  reason: string,
  message: string,
): VolumeCondition {
  return { status, reason, message };
}

/** For an image or a node state that the disk cannot read; the message names the file. */
export function imageUnreadableCondition(error: unknown): VolumeCondition {
  return condition('INACCESSIBLE', 'ImageUnreadable', `${messageOf(error)}; check the pool's disk`);
}

/** For a volume or a pool whose disk does not answer. */
export function notAnsweringCondition({ message }: Error): VolumeCondition {
  return condition('INACCESSIBLE', 'PoolNotAnswering', message);
}
