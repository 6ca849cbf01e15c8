import test from 'ava';
import fc from 'fast-check';
import {
  type BtrfsSuperblock,
  parseBtrfsSuperblock,
} from '../../../../src/host/filesystem/btrfs/superblock.ts';
import { crc32c, crc32cInverted } from '../../../../src/host/filesystem/crc32c.ts';
import {
  ext4Fills,
  journalHasData,
  journalRecordsError,
  parseExt4Superblock,
} from '../../../../src/host/filesystem/ext4/superblock.ts';
import { formatUuid, requireUuid } from '../../../../src/host/filesystem/uuid.ts';
import { parseXfsSuperblock } from '../../../../src/host/filesystem/xfs/superblock.ts';
import { GiB, MiB } from '../../../../src/units.ts';
import {
  btrfsSuperblock,
  ext4Superblock,
  sealExt4,
  uuid,
  withBitFlipped,
  xfsSuperblock,
} from './superblock-fixtures.ts';

test('CRC-32C has the values of RFC 3720 for its check string and for 32 zeroes', (t) => {
  t.is(crc32cInverted(Buffer.from('123456789')), 0xe3069283);
  t.is(crc32cInverted(Buffer.alloc(32)), 0x8a9136aa);
  t.is(crc32c(Buffer.from('123456789')), ~0xe3069283 >>> 0);
});

test('ext4: the fields are read', (t) => {
  const parsed = parseExt4Superblock(ext4Superblock({ blocks: (3n << 32n) | 5n }));
  t.is(parsed?.uuid, uuid);
  t.is(parsed?.blockBytes, 4096);
  t.is(parsed?.blocks, (3n << 32n) | 5n);
  t.is(parsed?.journalBlock, 131_072n);
});

for (const { name, state, incompat, expect } of [
  { name: 'valid', state: 1, incompat: 0x2c2, expect: 'clean' },
  { name: 'a journal to replay', state: 1, incompat: 0x2c6, expect: 'needs-replay' },
  { name: 'errors take precedence over a replay', state: 3, incompat: 0x2c6, expect: 'has-errors' },
  { name: 'errors', state: 2, incompat: 0x2c2, expect: 'has-errors' },
  {
    name: 'not unmounted cleanly, without a journal',
    state: 0,
    incompat: 0x2c2,
    expect: 'has-errors',
  },
  { name: 'orphans, which the mount handles', state: 5, incompat: 0x2c2, expect: 'clean' },
] as const) {
  test(`ext4 state: ${name}`, (t) => {
    t.is(parseExt4Superblock(ext4Superblock({ state, incompat }))?.state, expect);
  });
}

test('ext4: every flipped bit is detected', (t) => {
  const whole = ext4Superblock();
  for (let bit = 0; bit < 1024 * 8; bit += 1) {
    if (parseExt4Superblock(withBitFlipped(whole, bit)) !== undefined) t.fail(`bit ${bit}`);
  }
  t.pass();
});

test('ext4: a mounted superblock may be read without its checksum', (t) => {
  const stale = withBitFlipped(ext4Superblock(), 0x0c * 8);
  t.is(parseExt4Superblock(stale), undefined);
  t.is(parseExt4Superblock(stale, { verify: false })?.uuid, uuid);
});

test('ext4: short, empty and foreign bytes are not a superblock', (t) => {
  t.is(parseExt4Superblock(Buffer.alloc(0)), undefined);
  t.is(parseExt4Superblock(Buffer.alloc(1024)), undefined);
  t.is(parseExt4Superblock(ext4Superblock().subarray(0, 1000)), undefined);
  const huge = ext4Superblock();
  huge.writeUInt32LE(40, 0x18);
  t.is(parseExt4Superblock(sealExt4(huge)), undefined);
});

test('ext4: a filesystem fills its image if the last group would be too small for its tables', (t) => {
  const eight = parseExt4Superblock(ext4Superblock({ blocks: 262_144n }));
  if (eight === undefined) return t.fail();
  t.true(ext4Fills(eight, GiB));
  t.true(ext4Fills(eight, GiB - MiB));
  t.true(ext4Fills(eight, GiB + MiB));
  t.false(ext4Fills(eight, GiB + 16n * MiB));
  const odd = parseExt4Superblock(ext4Superblock({ blocks: 262_144n + 4096n }));
  if (odd === undefined) return t.fail();
  t.false(ext4Fills(odd, GiB + 17n * MiB));
});

test('ext4: the superblock of the journal shows data and an error', (t) => {
  const journal = Buffer.alloc(36);
  journal.writeUInt32BE(0xc03b3998, 0);
  t.false(journalRecordsError(journal));
  t.false(journalHasData(journal));
  journal.writeUInt32BE(1, 0x1c);
  t.true(journalHasData(journal));
  t.false(journalHasData(journal.subarray(0, 35)));
  journal.writeInt32BE(-5, 0x20);
  t.true(journalRecordsError(journal));
  t.false(journalRecordsError(journal.subarray(0, 20)));
  t.false(journalRecordsError(Buffer.alloc(36, 1)));
});

test('xfs: the fields are read', (t) => {
  t.deepEqual(parseXfsSuperblock(xfsSuperblock()), {
    uuid,
    blockBytes: 4096,
    blocks: 262_144n,
    sectorBytes: 4096,
    logOffset: (2n * 65_536n + 6n) * 4096n,
    logBytes: 64n * MiB,
    needsRepair: false,
  });
  t.true(parseXfsSuperblock(xfsSuperblock({ incompat: 0x13 }))?.needsRepair);
  t.is(parseXfsSuperblock(xfsSuperblock({ inProgress: 1 })), undefined);
  t.is(parseXfsSuperblock(xfsSuperblock().subarray(0, 512)), undefined);
});

test('xfs: every flipped bit is detected', (t) => {
  const whole = xfsSuperblock();
  for (let bit = 0; bit < 4096 * 8; bit += 7) {
    if (parseXfsSuperblock(withBitFlipped(whole, bit)) !== undefined) t.fail(`bit ${bit}`);
  }
  t.pass();
});

test('btrfs: the fields are read', (t) => {
  const expected: BtrfsSuperblock = { uuid, totalBytes: GiB, hasLogTree: false };
  t.deepEqual(parseBtrfsSuperblock(btrfsSuperblock()), expected);
  t.true(parseBtrfsSuperblock(btrfsSuperblock({ logRoot: 22_020_096n }))?.hasLogTree);
  t.is(parseBtrfsSuperblock(btrfsSuperblock().subarray(0, 4000)), undefined);
});

test('btrfs: a flipped bit after the unused checksum bytes is detected', (t) => {
  const whole = btrfsSuperblock();
  for (let bit = 0; bit < 32; bit += 1) {
    if (parseBtrfsSuperblock(withBitFlipped(whole, bit)) !== undefined) t.fail(`bit ${bit}`);
  }
  for (let bit = 32 * 8; bit < 4096 * 8; bit += 7) {
    if (parseBtrfsSuperblock(withBitFlipped(whole, bit)) !== undefined) t.fail(`bit ${bit}`);
  }
  t.pass();
});

test('a superblock parser never throws, whatever the input', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 4096 }), (array) => {
      const bytes = Buffer.from(array);
      parseXfsSuperblock(bytes);
      parseBtrfsSuperblock(bytes);
      parseExt4Superblock(bytes, { verify: false });
      journalRecordsError(bytes);
      journalHasData(bytes);
    }),
  );
  const block = ext4Superblock();
  fc.assert(
    fc.property(fc.nat(1023), fc.uint8Array({ maxLength: 64 }), (at, change) => {
      const bytes = Buffer.from(block);
      bytes.set(change.subarray(0, 1024 - at), at);
      parseExt4Superblock(bytes, { verify: false });
    }),
  );
  t.pass();
});

test('a UUID is formatted, and anything else is refused', (t) => {
  fc.assert(
    fc.property(fc.uuid(), (text) => {
      t.is(formatUuid(Buffer.from(text.replaceAll('-', ''), 'hex')), requireUuid(text));
    }),
  );
  for (const wrong of ['', 'random', uuid.toUpperCase(), `${uuid} -f`, `-${uuid}`]) {
    t.throws(() => requireUuid(wrong), { instanceOf: TypeError });
  }
});
