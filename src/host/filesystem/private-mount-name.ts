import { randomUUID } from 'node:crypto';

const prefix = 'mount-';

/** Returns a unique name for the mount point of a private mount. */
export function makePrivateMountName(): string {
  return `${prefix}${randomUUID()}`;
}

/** Whether a directory with this name is the mount point of a private mount. Earlier versions used `thaw.N`. */
export function isPrivateMountName(name: string): boolean {
  return (name.startsWith(prefix) && name !== prefix) || /^thaw\.\d+$/.test(name);
}
