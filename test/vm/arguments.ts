/** The command line of `npm run test:vm`. */
import { parseArgs } from 'node:util';
import { type Release, releases } from './machine/release.ts';

export const usage = `usage: npm run test:vm [-- OPTION...]

  --only TEXT        the suites whose name holds the text
  --sample           the part of the suites that takes a few minutes
  --release NAME     ${releases.join(', ')}; bookworm if not given
  --list             names the suites, and runs none
  --shell            a shell in the machine on this terminal instead of suites
`;

export type Wish =
  | {
      readonly kind: 'suites';
      readonly release: Release;
      readonly only: string;
      readonly isSample: boolean;
    }
  | { readonly kind: 'shell'; readonly release: Release }
  | { readonly kind: 'list' };

/** Throws an error with one line for the person who typed them. */
export function parseArguments(words: readonly string[]): Wish {
  const { values } = parseArgs({
    args: [...words],
    options: {
      only: { type: 'string', default: '' },
      sample: { type: 'boolean', default: false },
      release: { type: 'string', default: releases[0] },
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
  if (values.list) return { kind: 'list' };
  if (values.shell) return { kind: 'shell', release };
  return { kind: 'suites', release, only: values.only, isSample: values.sample };
}
