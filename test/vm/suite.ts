/**
 * What a suite of the virtual machine is. Each file of `test/vm/suites/` exports one as `suite`, and `npm run test:vm` finds it
 * there. A suite has a machine of its own, so a panic or a power cut in one changes nothing for the next.
 */
import type { Boot } from './machine/boot.ts';
import type { Report } from './report.ts';

/** A disk of the machine, `/dev/vm/NAME` inside: an image file on the host, which is removed after the suite. */
export interface SuiteDisk {
  /** Lower-case letters, digits and hyphens, at most 20 characters. */
  readonly name: string;
  /** The image is sparse, so a size costs nothing by itself. */
  readonly bytes: bigint;
  /**
   * QEMU's cache mode. `unsafe` (default) drops flushes, which is fast and right for a machine that is never killed. A power cut
   * needs `directsync` or `none`: what the guest was told to be written is in the image then.
   */
  readonly cache?: 'unsafe' | 'none' | 'directsync' | 'writeback';
}

/** What runs inside, in the project's directory. Everything it writes to standard output reaches the host line by line. */
export type Inside = (
  | {
      /** Test files for AVA, relative to `dist/test`, without the ending: `integration/serve.test`. They run one at a time. */
      readonly tests: readonly string[];
      /** Only the tests with these titles, as `ava --match` has them. */
      readonly match?: readonly string[];
      /** After so many minutes without an ended test AVA gives up. Default: 10. */
      readonly idleMinutes?: number;
    }
  | {
      /** A module of `dist/test/vm/inside`, without the ending. It prints TAP. */
      readonly program: string;
      readonly args?: readonly string[];
    }
) & { readonly environment?: Readonly<Record<string, string>> };

/** What a suite has on the host while it runs. */
export interface Bench {
  /** The image of a disk of the suite. Only to be read or changed while no machine is up. */
  imageOf(diskName: string): string;
  /** A directory on the host that is removed after the suite. */
  readonly directory: string;
  /** What the last machine that ended by itself left in its directory `/out`. */
  readonly out: string;
  readonly report: Report;
  /** Whether `--sample` was given. */
  readonly isSample: boolean;
  /** Aborts when the time of the suite is over, or the whole run was told to end. */
  readonly signal: AbortSignal;
  /**
   * Starts a machine with the disks of the suite, as the last one left them. Not more than one at a time. Test points that it
   * prints are counted, unless `onLine` is given and keeps them.
   */
  boot(inside: Inside, options?: { readonly onLine?: (line: string) => void }): Promise<Boot>;
}

interface SuiteBase {
  readonly name: string;
  /** One line for `--list`. */
  readonly about: string;
  /** Minutes that it may take, on a machine without KVM. */
  readonly minutes: number;
  readonly disks?: readonly SuiteDisk[];
  /** Default: 3 GiB. */
  readonly memoryMiB?: number;
  /** Words for the kernel's command line besides the usual ones. */
  readonly kernelArguments?: readonly string[];
}

export type Suite = SuiteBase &
  (
    | {
        readonly inside: Inside;
        /** What runs instead with `--sample`. Without it the suite is no part of the sample. */
        readonly sample?: Inside;
        /** Looks at the images and at `out` when the machine has ended by itself. What it finds goes to `bench.report`. */
        readonly check?: (bench: Bench) => Promise<void>;
      }
    | {
        /** A suite that boots more than once, or cuts the power. It reports its own test points. */
        readonly drive: (bench: Bench) => Promise<void>;
        readonly isSample?: boolean;
      }
  );
