import test from 'ava';
import fc from 'fast-check';
import { GiB } from '../../../../src/units.ts';
import {
  capacityTermsOf,
  describeCapacity,
  promisableBytesOf,
  reserveBytesOf,
  type SpaceFacts,
} from '../../../../src/volumes/pool/space.ts';

const empty: SpaceFacts = {
  totalBytes: 100n * GiB,
  freeBytes: 100n * GiB,
  reserveBytes: 0n,
  overcommitPerMille: 1000,
  promisedBytes: 0n,
  allocatedBytes: 0n,
  snapshotBytes: 0n,
  outstandingBytes: 0n,
  inFlightBytes: 0n,
  trashBytes: 0n,
  watermarkBytes: 0n,
};

const cases: readonly { name: string; facts: Partial<SpaceFacts>; expect: bigint }[] = [
  { name: 'an empty pool offers all its bytes', facts: {}, expect: 100n },
  { name: 'the reserve is kept', facts: { reserveBytes: 5n * GiB }, expect: 95n },
  {
    name: 'bytes that other files use are subtracted',
    facts: { freeBytes: 60n * GiB },
    expect: 60n,
  },
  {
    name: 'a thin volume counts with its promised size',
    facts: { promisedBytes: 30n * GiB, outstandingBytes: 30n * GiB },
    expect: 70n,
  },
  {
    name: 'a written volume is not counted twice',
    facts: {
      freeBytes: 80n * GiB,
      promisedBytes: 30n * GiB,
      allocatedBytes: 20n * GiB,
      outstandingBytes: 10n * GiB,
    },
    expect: 70n,
  },
  {
    name: 'a snapshot counts completely, because its source may be rewritten',
    facts: {
      freeBytes: 80n * GiB,
      promisedBytes: 20n * GiB,
      allocatedBytes: 40n * GiB,
      snapshotBytes: 20n * GiB,
      outstandingBytes: 20n * GiB,
    },
    expect: 60n,
  },
  {
    name: 'running operations and trash count',
    facts: {
      inFlightBytes: 10n * GiB,
      trashBytes: 5n * GiB,
      allocatedBytes: 5n * GiB,
      freeBytes: 95n * GiB,
    },
    expect: 85n,
  },
  {
    name: 'the reserve is kept free even if blocks are shared',
    facts: {
      freeBytes: 30n * GiB,
      reserveBytes: 10n * GiB,
      promisedBytes: 40n * GiB,
      allocatedBytes: 90n * GiB,
      outstandingBytes: 5n * GiB,
    },
    expect: 15n,
  },
  {
    name: 'overcommit multiplies neither snapshots nor running operations nor trash',
    facts: {
      overcommitPerMille: 2000,
      allocatedBytes: 30n * GiB,
      freeBytes: 70n * GiB,
      snapshotBytes: 5n * GiB,
      inFlightBytes: 3n * GiB,
      trashBytes: 2n * GiB,
    },
    expect: 190n,
  },
  {
    name: 'overcommit multiplies the space without the reserve and other files',
    facts: { overcommitPerMille: 2000, reserveBytes: 5n * GiB, freeBytes: 90n * GiB },
    expect: 170n,
  },
  { name: 'overcommit multiplies the space', facts: { overcommitPerMille: 2500 }, expect: 250n },
  {
    name: 'overcommit promises more than the free blocks',
    facts: { overcommitPerMille: 2000, promisedBytes: 150n * GiB, outstandingBytes: 150n * GiB },
    expect: 50n,
  },
  {
    name: 'an overcommitted pool below its watermark promises nothing',
    facts: { overcommitPerMille: 3000, freeBytes: GiB, watermarkBytes: 2n * GiB },
    expect: 0n,
  },
  {
    name: 'the result is negative if too much is promised',
    facts: { promisedBytes: 120n * GiB, outstandingBytes: 120n * GiB },
    expect: -20n,
  },
];

for (const { name, facts, expect } of cases) {
  test(`promisableBytesOf: ${name}`, (t) => {
    t.is(promisableBytesOf({ ...empty, ...facts }), expect * GiB);
  });
}

const bytes = fc.bigInt({ min: 0n, max: 200n * GiB });
const anyFacts = fc
  .record({
    totalBytes: bytes,
    freePercent: fc.bigInt({ min: 0n, max: 100n }),
    reserveBytes: bytes,
    overcommitPerMille: fc.integer({ min: 1, max: 5000 }),
    promisedBytes: bytes,
    allocatedBytes: bytes,
    snapshotBytes: bytes,
    outstandingBytes: bytes,
    inFlightBytes: bytes,
    trashBytes: bytes,
    watermarkBytes: bytes,
  })
  .map(({ freePercent, ...rest }): SpaceFacts => {
    return { ...rest, freeBytes: (rest.totalBytes * freePercent) / 100n };
  });

test('the terms of the capacity add up, whatever the pool contains', (t) => {
  fc.assert(
    fc.property(anyFacts, (facts) => {
      const terms = capacityTermsOf(facts);
      const base = terms.totalBytes - terms.otherBytes - terms.reserveBytes;
      const sum =
        (base * BigInt(terms.overcommitPerMille)) / 1000n -
        terms.volumeBytes -
        terms.snapshotBytes -
        terms.inFlightBytes -
        terms.trashBytes -
        terms.blocksBytes -
        terms.heldBackBytes;
      t.is(sum, terms.capacityBytes);
      t.is(terms.capacityBytes, promisableBytesOf(facts));
      t.true(terms.blocksBytes >= 0n && terms.heldBackBytes >= 0n);
    }),
  );
});

test('the terms are named, and those that are 0 are left out', (t) => {
  const full = {
    ...empty,
    freeBytes: 40n * GiB,
    allocatedBytes: 50n * GiB,
    reserveBytes: 5n * GiB,
    promisedBytes: 30n * GiB,
    snapshotBytes: 20n * GiB,
    inFlightBytes: 2n * GiB,
    trashBytes: GiB,
    outstandingBytes: 10n * GiB,
  };
  t.is(
    describeCapacity(capacityTermsOf(full)),
    '100 GiB in total − 10 GiB used by other files − 5 GiB reserve − 30 GiB promised to volumes − 20 GiB for snapshots − ' +
      '2 GiB for what is being created − 1 GiB of deleted entries − 9 GiB for shared blocks',
  );
  t.is(describeCapacity(capacityTermsOf(empty)), '100 GiB in total');
  const over = { ...empty, overcommitPerMille: 2500, watermarkBytes: 200n * GiB };
  t.is(
    describeCapacity(capacityTermsOf(over)),
    '100 GiB in total + 150 GiB by overcommit 2.5 − 250 GiB held back below the trim watermark',
  );
  const under = { ...full, overcommitPerMille: 500, outstandingBytes: 0n };
  t.is(
    describeCapacity(capacityTermsOf(under)),
    '100 GiB in total − 10 GiB used by other files − 5 GiB reserve − 42.5 GiB by overcommit 0.5 − 30 GiB promised to volumes − ' +
      '20 GiB for snapshots − 2 GiB for what is being created − 1 GiB of deleted entries + 10.5 GiB promised too much',
  );
});

test('promisableBytesOf: without overcommit further promises always fit into the free blocks', (t) => {
  const bytes = fc.bigInt({ min: 0n, max: 200n * GiB });
  fc.assert(
    fc.property(
      bytes,
      bytes,
      bytes,
      bytes,
      bytes,
      (free, outstanding, allocated, inFlight, snapshots) => {
        const facts = {
          ...empty,
          totalBytes: 300n * GiB,
          freeBytes: free,
          outstandingBytes: outstanding,
          allocatedBytes: allocated,
          inFlightBytes: inFlight,
          snapshotBytes: snapshots,
        };
        t.true(promisableBytesOf(facts) + outstanding + inFlight <= free);
      },
    ),
  );
});

test('promisableBytesOf: a promise lowers the result by its size', (t) => {
  const promise = 7n * GiB;
  const before = promisableBytesOf(empty);
  const after = promisableBytesOf({ ...empty, promisedBytes: promise, outstandingBytes: promise });
  t.is(before - after, promise);
});

test('reserveBytesOf: a reserve is a number of bytes or a percentage of the size', (t) => {
  t.is(reserveBytesOf({ bytes: 3n }, 100n), 3n);
  t.is(reserveBytesOf({ perMille: 50 }, 100n * GiB), 5n * GiB);
});
