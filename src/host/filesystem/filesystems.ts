import type { Filesystems } from '../host.ts';
import type { Lane } from '../lane.ts';
import type { Run } from '../programs/run.ts';
import { Btrfs } from './btrfs/btrfs.ts';
import { Ext4, type Ext4State } from './ext4/ext4.ts';
import type { PrivateMountDeps } from './private-mount.ts';
import { Xfs } from './xfs/xfs.ts';

interface FilesystemDeps extends PrivateMountDeps {
  readonly ext4State: Ext4State;
  readonly run: Run;
  /** The kernel release from uname(2), such as `6.18.0-1-amd64`. */
  readonly kernelRelease: string;
}

/** Creates the implementations of all filesystems that a volume can have. */
export function makeFilesystems(
  lane: Lane,
  { run, loops, mounts, ext4State, kernelRelease }: FilesystemDeps,
): Filesystems {
  const deps = { loops, mounts };
  return {
    ext4: new Ext4(lane, run, ext4State),
    xfs: new Xfs(lane, run, deps),
    btrfs: new Btrfs(lane, run, deps, { allowsDuplicateUuid: isAtLeast(kernelRelease, 6, 7) }),
  };
}

/** Whether a kernel release is at least this version. */
export function isAtLeast(release: string, major: number, minor: number): boolean {
  const [ours = 0, oursMinor = 0] = release.split(/[.-]/).map(Number);
  return ours > major || (ours === major && oursMinor >= minor);
}
