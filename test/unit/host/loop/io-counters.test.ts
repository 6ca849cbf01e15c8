import test from 'ava';
import { ioCountersSince, noIo, parseDiskstats } from '../../../../src/host/loop/io-counters.ts';

const table = `
 254       0 vda 5779254 404802 285095699 4877340 25682388 4330554 4883878885 32514100 0 4505944 40827113 6397632 99054 5728988352 2178832 6780954 1256840
   7       1 loop1 150 3 1776 183 37 6 8504 231 2 352 494 0 0 0 0 29 79
   7      10 loop10 1 0 8 1 0 0 0 0 0 1 1
 259       0 loop-like 1 0 8 1 0 0 0 0 0 1 1
`;

test('the counters of loop devices are read from /proc/diskstats, also without the fields of later kernels', (t) => {
  const all = parseDiskstats(table);
  t.deepEqual([...all.keys()], [1, 10]);
  t.deepEqual(all.get(1), {
    reads: 150,
    readBytes: 1776n * 512n,
    readMs: 183,
    writes: 37,
    writtenBytes: 8504n * 512n,
    writeMs: 231,
    inFlight: 2,
    busyMs: 352,
  });
});

test('what earlier images of the device did is subtracted, and wrapped times stay differences', (t) => {
  const before = { ...noIo, reads: 5, readBytes: 512n, readMs: 2 ** 32 - 10, writes: 1 };
  const now = { ...noIo, reads: 7, readBytes: 1536n, readMs: 30, writes: 1, inFlight: 4 };
  t.deepEqual(ioCountersSince(before, now), {
    ...noIo,
    reads: 2,
    readBytes: 1024n,
    readMs: 40,
    inFlight: 4,
  });
});

test('counters that were read before the device was attached count as none', (t) => {
  const before = { ...noIo, writes: 5, writtenBytes: 512n };
  t.deepEqual(ioCountersSince(before, { ...noIo, writes: 4 }), noIo);
});
