import { messageOf } from '../../errors.ts';
import type { VolumeCondition } from '../model.ts';

export function condition(
  status: VolumeCondition['status'],
  reason: string,
  message: string,
): VolumeCondition {
  return { status, reason, message };
}

/** Returns the condition for an image or a node state that cannot be read from the disk; the message contains the path. */
export function imageUnreadableCondition(error: unknown): VolumeCondition {
  return condition('INACCESSIBLE', 'ImageUnreadable', `${messageOf(error)}; check the pool's disk`);
}

/** Returns the condition of a volume or pool whose disk does not answer. */
export function notAnsweringCondition({ message }: Error): VolumeCondition {
  return condition('INACCESSIBLE', 'PoolNotAnswering', message);
}
