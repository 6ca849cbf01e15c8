import { PassThrough } from 'node:stream';
import test from 'ava';
import fc from 'fast-check';
import { describePool } from '../../../src/cli/pool-format.ts';
import { Terminal } from '../../../src/cli/terminal.ts';
import type { Pool } from '../../../src/csi/admin-types.ts';
import { decode, encode, messageType } from '../../../src/csi/codec.ts';
import { poolMessage } from '../../../src/rpc/admin-messages.ts';
import { GiB } from '../../../src/units.ts';
import { poolDefaults } from '../../../src/volumes/pool/settings.ts';
import { promisableBytesOf } from '../../../src/volumes/pool/space.ts';

const streams = {
  stdin: new PassThrough(),
  stdout: new PassThrough(),
  stderr: new PassThrough(),
};
const terminal = new Terminal(streams, {});
const type = messageType('loopcsi.v1.Pool');

/** Whole GiB, so that the printed sizes are exact. */
const size = fc.bigInt({ min: 0n, max: 90n }).map((gibibytes) => gibibytes * GiB);

/** The text of a pool after a round trip through the Admin service. */
function textOf(space: Parameters<typeof promisableBytesOf>[0]): string {
  const capacityBytes = promisableBytesOf(space);
  const message = poolMessage({
    settings: {
      ...poolDefaults,
      name: 'p',
      path: '/p',
      overcommitPerMille: space.overcommitPerMille,
    },
    isEmbedded: false,
    problem: undefined,
    wasRead: true,
    marker: undefined,
    abilities: undefined,
    space,
    capacityBytes: capacityBytes > 0n ? capacityBytes : 0n,
    volumeCount: 0,
    snapshotCount: 0,
  });
  return describePool(terminal, decode(type, encode(type, { ...message })) as Pool);
}

test('the printed terms of the capacity add up to the printed capacity', (t) => {
  const facts = fc.record({
    totalBytes: fc.constant(100n * GiB),
    freeBytes: size,
    reserveBytes: size,
    overcommitPerMille: fc.constantFrom(1000, 2000, 3000),
    promisedBytes: size,
    allocatedBytes: size,
    snapshotBytes: size,
    outstandingBytes: size,
    inFlightBytes: size,
    trashBytes: size,
    watermarkBytes: size,
  });
  fc.assert(
    fc.property(facts, (space) => {
      const text = textOf(space);
      let sum = 0n;
      let result: bigint | undefined;
      for (const [, sign, number] of text.matchAll(/^\S*\s+([−+= ])\s+(\d+)(?:Gi)?  \S/gm)) {
        if (sign === '=') result = BigInt(number ?? '');
        else sum += BigInt(number ?? '') * (sign === '−' ? -1n : 1n);
      }
      t.is(sum, result ?? -1n, text);
    }),
  );
});
