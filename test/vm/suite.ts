/**
 * The definition of a suite of the virtual machine. Each file of `test/vm/suites/` exports one as `suite`, and `npm run test:vm`
 * finds it there. A suite has its own machine, so a panic or a power cut in one changes nothing for the next.
 */
import type { Boot } from './machine/boot.ts';
import type { Report } from './report.ts';

/** A disk of the machine, `/dev/vm/NAME` inside: an image file on the host, which is removed after the suite. */
export interface SuiteDisk {
  /** Lower-case letters, digits and hyphens, at most 20 characters. */
  readonly name: string;
  /** The image is sparse, so an unused size costs nothing. */
  readonly bytes: bigint;
  /**
   * QEMU's cache mode. `unsafe` (default) drops flushes, which is fast, and correct for a machine that is never killed. A power cut
   * needs `directsync` or `none`, with which the image has all data of completed writes.
   */
  readonly cache?: 'unsafe' | 'none' | 'directsync' | 'writeback';
}

/** The tests or the program that run in the machine, in the project's directory. The host gets their standard output line by line. */
export type Inside = (
  | {
      /** Test files for AVA, relative to `dist/test`, without the ending: `integration/serve.test`. They run one at a time. */
      readonly tests: readonly string[];
      /** Only the tests with these titles, which are patterns of `ava --match`. */
      readonly match?: readonly string[];
      /** AVA gives up after this number of minutes in which no test ended. Default: 10. */
      readonly idleMinutes?: number;
    }
  | {
      /** A module of `dist/test/vm/inside`, without the ending. It prints TAP. */
      readonly program: string;
      readonly args?: readonly string[];
    }
) & { readonly environment?: Readonly<Record<string, string>> };

/** The files and functions on the host that a suite can use while it runs. */
export interface SuiteContext {
  /** The path of the image of a disk of the suite. Read or change it only while no machine runs. */
  imageOf(diskName: string): string;
  /** A directory on the host that is removed after the suite. */
  readonly directory: string;
  /** A copy of the directory `/out` of the last machine that powered off. */
  readonly out: string;
  readonly report: Report;
  /** Whether `--sample` was given. */
  readonly isSample: boolean;
  /** Aborts when the suite exceeds its time limit, or a signal ends the run. */
  readonly signal: AbortSignal;
  /**
   * Starts a machine with the disks of the suite, as the last machine left them. Only one machine may run at a time. The test
   * points that it prints are counted, unless `onLine` is given, which then gets every line.
   */
  boot(inside: Inside, options?: { readonly onLine?: (line: string) => void }): Promise<Boot>;
}

interface SuiteBase {
  readonly name: string;
  /** One line for `--list`. */
  readonly about: string;
  /** The time limit in minutes, under emulation. */
  readonly minutes: number;
  readonly disks?: readonly SuiteDisk[];
  /** Default: 3 GiB. */
  readonly memoryMiB?: number;
  /** Additional arguments for the kernel's command line. */
  readonly kernelArguments?: readonly string[];
}

export type Suite = SuiteBase &
  (
    | {
        readonly inside: Inside;
        /** Runs instead of `inside` with `--sample`. A suite without it is not part of the sample. */
        readonly sample?: Inside;
        /** Inspects the images and `out` after the machine has powered off, and reports to `context.report`. */
        readonly check?: (context: SuiteContext) => Promise<void>;
      }
    | {
        /** For a suite that boots more than once, or cuts the power. It reports its own test points. */
        readonly drive: (context: SuiteContext) => Promise<void>;
        readonly isSample?: boolean;
      }
  );
