import { realpath } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { hasErrno } from '../errors.ts';
import type { Mount } from '../host.ts';
import { readKernelText } from '../kernel/calls.ts';
import { fsCall } from '../kernel/descriptor.ts';
import type { Lane } from '../lane.ts';

/** The mounts of this namespace, from /proc/self/mountinfo (proc_pid_mountinfo(5)). */

const mountinfoPath = '/proc/self/mountinfo';

/** The parsed lines of the last read. They are reused, since a table changes by only a line or two between reads. */
let parsed: ReadonlyMap<string, Mount | undefined> = new Map();

/** Reads all mounts. Of mounts stacked on one target, the bottom one comes first. */
export async function readMounts(lane: Lane): Promise<readonly Mount[]> {
  return parseMountinfo(await readMountinfo(lane));
}

/**
 * The topmost mount whose target is exactly `target`. Symlinks in its parents are resolved, since the kernel lists
 * resolved paths; a symlink in the last component is not a mount point.
 */
export async function findMountAt(lane: Lane, target: string): Promise<Mount | undefined> {
  return findInTable(lane, await readMountinfo(lane), target);
}

/** The topmost mount at `target` and all other mounts of the same filesystem, from a single read of the table. */
export async function findMountAndOthers(
  lane: Lane,
  target: string,
): Promise<{ found: Mount; others: readonly Mount[] } | undefined> {
  const text = await readMountinfo(lane);
  const found = await findInTable(lane, text, target);
  if (found === undefined) return undefined;
  const others = parseMountinfo(text).filter(
    ({ majorMinor, id }) => majorMinor === found.majorMinor && id !== found.id,
  );
  return { found, others };
}

async function findInTable(lane: Lane, text: string, target: string): Promise<Mount | undefined> {
  // The kernel lists resolved paths, so only a path that is not listed can contain symlinks.
  const exact = lastMountAt(text, target);
  if (exact !== undefined) return exact;
  const real = await resolveParents(lane, target);
  return real === undefined || real === target ? undefined : lastMountAt(text, real);
}

/** `target` with the symlinks of its parents resolved; undefined when a parent does not exist. */
export async function resolveParents(lane: Lane, target: string): Promise<string | undefined> {
  try {
    const parent = await fsCall(lane, 'realpath', target, () => realpath(dirname(target)));
    return join(parent, basename(target));
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}

/** Parses the table; lines known from the last read are not parsed again. Lines in an unknown format are skipped. */
export function parseMountinfo(text: string): readonly Mount[] {
  const lines = new Map<string, Mount | undefined>();
  // Lines are unique, since each begins with the ID of its mount.
  for (const line of text.split('\n')) {
    lines.set(line, parsed.has(line) ? parsed.get(line) : parseLine(line));
  }
  parsed = lines;
  return [...lines.values()].filter((mount) => mount !== undefined);
}

/** The mount in the last line with this target. Only lines that contain the path are parsed. */
export function lastMountAt(text: string, target: string): Mount | undefined {
  const needle = ` ${escapeField(target)} `;
  for (
    let at = text.lastIndexOf(needle);
    at >= 0;
    at = at === 0 ? -1 : text.lastIndexOf(needle, at - 1)
  ) {
    const end = text.indexOf('\n', at);
    const mount = parseLine(text.slice(text.lastIndexOf('\n', at) + 1, end < 0 ? undefined : end));
    if (mount?.target === target) return mount;
  }
  return undefined;
}

/** One line: `36 35 98:0 /root /target rw,noatime master:1 - ext4 /dev/root rw,errors=continue`. */
function parseLine(line: string): Mount | undefined {
  const fields = line.split(' ');
  // A single hyphen ends the optional fields.
  const hyphen = fields.indexOf('-', 6);
  const [id, parentId, majorMinor, root, target, options] = fields;
  const [fsType, source, superOptions] = hyphen < 0 ? [] : fields.slice(hyphen + 1);
  if (id === undefined || parentId === undefined || majorMinor === undefined || root === undefined)
    return undefined;
  if (target === undefined || options === undefined || fsType === undefined) return undefined;
  return {
    id: Number(id),
    parentId: Number(parentId),
    majorMinor,
    root: unescapeField(root),
    target: unescapeField(target),
    options: options.split(','),
    fsType: unescapeField(fsType),
    source: unescapeField(source ?? ''),
    superOptions: (superOptions ?? '').split(','),
  };
}

/** The kernel writes spaces, tabs, newlines and backslashes as a backslash and three octal digits. */
function unescapeField(field: string): string {
  if (!field.includes('\\')) return field;
  // The text is already decoded as UTF-8: the kernel escapes only ASCII characters.
  return field.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}

function escapeField(text: string): string {
  return text.replace(
    /[ \t\n\\]/g,
    (character) => `\\${character.charCodeAt(0).toString(8).padStart(3, '0')}`,
  );
}

function readMountinfo(lane: Lane): Promise<string> {
  return readKernelText(lane, mountinfoPath);
}
