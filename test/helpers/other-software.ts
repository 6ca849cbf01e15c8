import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { open } from 'node:fs/promises';
import { execa } from 'execa';
import { mountsBelow } from './scratch-pool.ts';

/** Ends one action of other software; call it once. */
export type StopUse = () => Promise<void>;

/**
 * Actions of other software on the node: services, operators, other programs. The driver is not informed of them.
 */
export interface OtherSoftware {
  /** Opens a device node without claiming it, as udev, LVM and backup agents do. */
  openDevice(number: number): Promise<StopUse>;
  /** `losetup --detach`: LOOP_CLR_FD, even if the device is in use. */
  clearDevice(number: number): Promise<void>;
  /** `losetup --find`: attaches an image to the lowest free number, and returns it. */
  attach(imagePath: string): Promise<number>;
  /** Keeps a file or directory open, so that the mount there is busy. */
  openFile(path: string): Promise<StopUse>;
  /** Keeps the mount at `target`, and only that, in another mount namespace. */
  mountElsewhere(target: string): Promise<StopUse>;
}

const isSystem = /^\/(?:proc|sys|dev|run)(?:\/|$)/;

/** Acts on the real node, as root. */
export const realOtherSoftware: OtherSoftware = {
  openDevice: (number) => keepOpen(`/dev/loop${number}`),
  clearDevice: async (number) => {
    await execa('losetup', ['--detach', `/dev/loop${number}`]);
  },
  attach: async (imagePath) => {
    const { stdout } = await execa('losetup', ['--find', '--show', imagePath]);
    return Number(stdout.replace('/dev/loop', ''));
  },
  openFile: keepOpen,
  mountElsewhere: async (target) => {
    // Unmount all other mounts of the machine in that namespace: copies of them would keep their devices in use.
    const others = (await mountsBelow('')).filter(
      (one) => one !== '/' && !`${target}/`.startsWith(`${one}/`) && !isSystem.test(one),
    );
    others.reverse();
    // Ends when its standard input closes, so also when this process ends.
    const script = 'for one in "$@"; do umount "$one"; done; echo ready; exec cat';
    const options = ['--mount', '--propagation', 'private', 'sh', '-c', script, 'sh', ...others];
    const child = spawn('unshare', options, { stdio: ['pipe', 'pipe', 'ignore'] });
    await once(child.stdout, 'data');
    return () => end(child);
  },
};

async function keepOpen(path: string): Promise<StopUse> {
  const handle = await open(path, 'r');
  let isOpen = true;
  return async () => {
    if (!isOpen) return;
    isOpen = false;
    await handle.close();
  };
}

/** Its mount namespace ends with the process. */
async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}
