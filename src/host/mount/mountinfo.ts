import { realpath } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { hasErrno } from '../errors.ts';
import type { Mount } from '../host.ts';
import { readKernelText } from '../kernel/calls.ts';
import { fsCall } from '../kernel/descriptor.ts';

/** /proc/self/mountinfo (proc_pid_mountinfo(5)): what is mounted in our namespace. */

const mountinfoPath = '/proc/self/mountinfo';

/** The lines of the last look: a table changes by a line or two from one look to the next. */
let parsed: ReadonlyMap<string, Mount | undefined> = new Map();

/** All mounts, bottom first where stacked. */
export async function readMounts(): Promise<readonly Mount[]> {
  return parseMountinfo(await readMountinfo());
}

/**
 * The topmost mount whose target is exactly `target`. Symlinks in its parents are resolved, since the kernel lists real
 * paths; a symlink in the last component is no mount point.
 */
export async function findMountAt(target: string): Promise<Mount | undefined> {
  return findIn(await readMountinfo(), target);
}

/** The same, and all other mounts of the same filesystem, from one look at the table. */
export async function findWithOthers(
  target: string,
): Promise<{ found: Mount; others: readonly Mount[] } | undefined> {
  const text = await readMountinfo();
  const found = await findIn(text, target);
  if (found === undefined) return undefined;
  const others = parseMountinfo(text).filter(
    ({ majorMinor, id }) => majorMinor === found.majorMinor && id !== found.id,
  );
  return { found, others };
}

async function findIn(text: string, target: string): Promise<Mount | undefined> {
  // A path that the kernel lists is a real one; only another path may lead there through symlinks.
  const exact = lastMountAt(text, target);
  if (exact !== undefined) return exact;
  const real = await realTarget(target);
  return real === undefined || real === target ? undefined : lastMountAt(text, real);
}

/** `target` with its parents' symlinks resolved; undefined when a parent does not exist. */
export async function realTarget(target: string): Promise<string | undefined> {
  try {
    const parent = await fsCall('realpath', target, () => realpath(dirname(target)));
    return join(parent, basename(target));
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}

/** Parses the whole text; only the lines that the last look did not have. Lines of a form that we do not know are left out. */
export function parseMountinfo(text: string): readonly Mount[] {
  const lines = new Map<string, Mount | undefined>();
  // Two lines are never the same: each begins with the mount's id.
  for (const line of text.split('\n')) {
    lines.set(line, parsed.has(line) ? parsed.get(line) : parseLine(line));
  }
  parsed = lines;
  return [...lines.values()].filter((mount) => mount !== undefined);
}

/** The last line's mount whose target is `target`, parsing only the lines that name it. */
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
  // The optional fields in the middle end with a lone hyphen.
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

/** The kernel writes blanks, tabs, newlines and backslashes as three octal digits. */
function unescapeField(field: string): string {
  if (!field.includes('\\')) return field;
  // Decoded as bytes by readFile already: the escapes only ever stand for ASCII.
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

function readMountinfo(): Promise<string> {
  return readKernelText(mountinfoPath);
}
