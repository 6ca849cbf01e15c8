import { randomUUID } from 'node:crypto';

const prefix = 'mount-';

/** A new name for the mount point of a private mount. */
export function makePrivateMountName(): string {
  return `${prefix}${randomUUID()}`;
}

/** Whether a directory of that name is the mount point of a private mount; `thaw.N` is from earlier versions. */
export function isPrivateMountName(name: string): boolean {
  return (name.startsWith(prefix) && name !== prefix) || /^thaw\.\d+$/.test(name);
}
