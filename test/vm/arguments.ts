/** The command line of `npm run test:vm`. */
import { parseArgs } from 'node:util';
import { architectures, hostArchitecture } from './machine/architecture.ts';
import { type MachineKind, releases } from './machine/release.ts';

export const usage = `usage: npm run test:vm [-- OPTION...]

  --only TEXT        the suites whose name holds the text
  --sample           the part of the suites that takes a few minutes
  --release NAME     ${releases.join(', ')}; bookworm if not given
  --arch NAME        ${architectures.join(', ')}; this machine's if not given
  --list             names the suites, and runs none
  --shell            a shell in the machine on this terminal instead of suites
`;

export type Options =
  | {
      readonly kind: 'suites';
      readonly machine: MachineKind;
      readonly only: string;
      readonly isSample: boolean;
    }
  | { readonly kind: 'shell'; readonly machine: MachineKind }
  | { readonly kind: 'list' };

/** Throws an error with one line for the user who typed them. */
export function parseArguments(argv: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      only: { type: 'string', default: '' },
      sample: { type: 'boolean', default: false },
      release: { type: 'string', default: releases[0] },
      arch: { type: 'string', default: hostArchitecture },
      list: { type: 'boolean', default: false },
      shell: { type: 'boolean', default: false },
      // scripts/run-tests.ts gives it to every suite; the output is TAP anyway.
      tap: { type: 'boolean', default: false },
    },
  });
  const release = releases.find((name) => name === values.release);
  if (release === undefined) {
    throw new Error(`there is no release ${values.release}: use ${releases.join(', ')}`);
  }
  const architecture = architectures.find((name) => name === values.arch);
  if (architecture === undefined) {
    throw new Error(`there is no architecture ${values.arch}: use ${architectures.join(', ')}`);
  }
  const machine = { release, architecture };
  if (values.list) return { kind: 'list' };
  if (values.shell) return { kind: 'shell', machine };
  return { kind: 'suites', machine, only: values.only, isSample: values.sample };
}
