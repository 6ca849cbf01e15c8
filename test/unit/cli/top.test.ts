import test from 'ava';
import { ratesBetween } from '../../../src/cli/top.ts';
import type { VolumeIo } from '../../../src/csi/admin-types.ts';
import { MiB } from '../../../src/units.ts';

const io = (fields: Partial<VolumeIo> = {}): VolumeIo => ({
  reads: 0n,
  read_bytes: 0n,
  read_ms: 0n,
  writes: 0n,
  written_bytes: 0n,
  write_ms: 0n,
  busy_ms: 0n,
  in_flight: 0n,
  ...fields,
});

test('ratesBetween: increases per second, average latency, share of busy time', (t) => {
  const before = io({ reads: 100n, read_bytes: MiB, read_ms: 7n, busy_ms: 50n });
  const now = io({
    reads: 300n,
    read_bytes: 5n * MiB,
    read_ms: 407n,
    writes: 200n,
    written_bytes: 2n * MiB,
    write_ms: 200n,
    busy_ms: 1_050n,
  });
  t.deepEqual(ratesBetween(before, now, 2_000), {
    readBytes: Number(2n * MiB),
    writtenBytes: Number(MiB),
    reads: 100,
    writes: 100,
    latencyMs: 1.5,
    busyPercent: 50,
  });
});

test('ratesBetween: without requests there is no latency', (t) => {
  t.is(ratesBetween(io(), io(), 1_000)?.latencyMs, undefined);
});

test('ratesBetween: counters of another attachment give no rates, nor does no time', (t) => {
  t.is(ratesBetween(io({ reads: 5n }), io(), 1_000), undefined);
  t.is(ratesBetween(io({ writes: 5n }), io({ reads: 9n }), 1_000), undefined);
  t.is(ratesBetween(io(), io(), 0), undefined);
});
