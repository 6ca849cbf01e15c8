import { readlinkSync } from 'node:fs';
import { realpath } from 'node:fs/promises';
import type { Propagation } from '../host.ts';
import { readKernelText } from '../kernel/calls.ts';
import { fsCall } from '../kernel/descriptor.ts';
import type { Lane } from '../lane.ts';

/** How mounts below an existing directory propagate to other mount namespaces (mount_namespaces(7)). KernelError ENOENT. */
export async function readPropagation(lane: Lane, directory: string): Promise<Propagation> {
  const path = await fsCall(lane, 'realpath', directory, () => realpath(directory));
  const text = await readKernelText(lane, '/proc/self/mountinfo');
  return { ...findPropagation(text, path), isInFirstNamespace: isInFirstNamespace() };
}

/** The mount that contains the path, from the text of mountinfo. */
export function findPropagation(
  mountinfo: string,
  path: string,
): Pick<Propagation, 'target' | 'isShared'> {
  let found = { target: '/', isShared: false };
  for (const line of mountinfo.split('\n')) {
    const fields = line.split(' ');
    const target = unescape(fields[4] ?? '');
    const contains = target === '/' || path === target || path.startsWith(`${target}/`);
    // Of mounts stacked on one target, the last one is visible.
    if (target === '' || !contains || target.length < found.target.length) continue;
    const optional = fields.slice(6, fields.indexOf('-', 6));
    found = { target, isShared: optional.some((field) => field.startsWith('shared:')) };
  }
  return found;
}

function unescape(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}

function isInFirstNamespace(): boolean | undefined {
  try {
    return readlinkSync('/proc/self/ns/mnt') === readlinkSync('/proc/1/ns/mnt');
  } catch {
    return undefined;
  }
}
