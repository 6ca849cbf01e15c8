import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import {
  type LogEntry,
  parseSuperblock,
  readData,
  readEntries,
} from '../../vm/power-cuts/log-writes.ts';
import { planStates, ReplayedDisk, strideFor } from '../../vm/power-cuts/replay.ts';
import { type Row, syntheticLog } from './synthetic-log.ts';

async function scratch(t: ExecutionContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-log-'));
  t.teardown(() => rm(directory, { recursive: true }));
  return directory;
}

/** The entries of that log with their data. */
async function entriesOf(t: ExecutionContext, log: Buffer) {
  const path = join(await scratch(t), 'log');
  await writeFile(path, log);
  const file = await open(path);
  try {
    const entries = await readEntries(file);
    const data = new Map<LogEntry, Buffer>();
    for (const entry of entries) {
      if (!entry.isDiscard) data.set(entry, await readData(file, entry));
    }
    return { entries, data };
  } finally {
    await file.close();
  }
}

const rows: readonly Row[] = [
  { write: 0, text: 'mkfs' },
  { mark: 'formatted' },
  { flush: true },
  { write: 8, text: 'image' },
  { mark: 'begin-0' },
  { flush: true },
  { write: 16, text: 'commit', fua: true },
  { flush: true },
  { mark: 'end-0' },
  { discard: 8, sectors: 1 },
  { flush: true },
  { write: 24, text: 'never flushed' },
];

test('a log is read entry by entry, with marks and data', async (t) => {
  const { entries, data } = await entriesOf(t, syntheticLog(rows));
  t.is(entries.length, rows.length);
  t.deepEqual(
    entries.flatMap(({ mark }) => mark ?? []),
    ['formatted', 'begin-0', 'end-0'],
  );
  const commit = entries.find(({ isFua }) => isFua);
  t.like(commit, { index: 6, offsetBytes: 16 * 512, lengthBytes: 512, isFlush: false });
  t.is(commit === undefined ? '' : data.get(commit)?.toString('utf8', 0, 6), 'commit');
  t.like(entries.at(9), { isDiscard: true, offsetBytes: 8 * 512, lengthBytes: 512 });
  t.like(entries.at(11), { offsetBytes: 24 * 512 });
});

test('a file that is not a log, or a log that ends early, is refused', async (t) => {
  t.throws(() => parseSuperblock(Buffer.alloc(512)), { message: /magic number/ });
  const later = syntheticLog([]);
  later.writeBigUInt64LE(2n, 8);
  t.throws(() => parseSuperblock(later), { message: /version 2/ });
  const whole = syntheticLog(rows);
  await t.throwsAsync(() => entriesOf(t, whole.subarray(0, whole.length - 512)), {
    message: /the log ends/,
  });
});

test('a flush or FUA write makes a state if data was written before it', async (t) => {
  const { entries } = await entriesOf(t, syntheticLog(rows));
  t.deepEqual(planStates(entries, 'formatted'), {
    // No data was written between the FUA write and the flush.
    states: [
      { upTo: 2, until: 5 },
      { upTo: 5, until: 6 },
      { upTo: 6, until: 10 },
      { upTo: 10, until: 12 },
    ],
    commits: 5,
  });
  t.throws(() => planStates(entries, 'begun'), { message: /no mark 'begun'/ });
});

test('a replayed disk contains the writes up to an entry, and no later ones', async (t) => {
  const { entries, data } = await entriesOf(t, syntheticLog(rows));
  const disk = new ReplayedDisk(128 * 1024 + 512);
  const path = join(await scratch(t), 'disk');
  const contentAfter = async (last: number): Promise<Buffer> => {
    const entry = entries[last];
    if (entry !== undefined) disk.apply(entry, data.get(entry) ?? Buffer.alloc(0));
    disk.writeTo(path);
    return readFile(path);
  };
  for (let index = 0; index < 8; index += 1) await contentAfter(index);
  const committed = await contentAfter(8);
  t.is(committed.length, 128 * 1024 + 512);
  t.is(committed.toString('utf8', 0, 4), 'mkfs');
  t.is(committed.toString('utf8', 8 * 512, 8 * 512 + 5), 'image');
  t.is(committed.toString('utf8', 16 * 512, 16 * 512 + 6), 'commit');
  t.is(committed[24 * 512], 0);
  t.is((await contentAfter(9))[8 * 512], 0, 'discarded');
});

test('writes span chunks of the replayed disk, and none exceeds its end', async (t) => {
  const text = 'x'.repeat(130 * 1024);
  const { entries, data } = await entriesOf(t, syntheticLog([{ write: 100, text }]));
  const [entry] = entries;
  if (entry === undefined) return t.fail();
  const disk = new ReplayedDisk(512 * 1024);
  disk.apply(entry, data.get(entry) ?? Buffer.alloc(0));
  const path = join(await scratch(t), 'disk');
  disk.writeTo(path);
  const content = await readFile(path);
  t.is(content.indexOf('x'), 100 * 512);
  t.is(content.lastIndexOf('x'), 100 * 512 + text.length - 1);
  t.throws(() => new ReplayedDisk(64 * 1024).apply(entry, Buffer.alloc(text.length)), {
    message: /beyond the disk's 65536/,
  });
});

const strides = [
  { name: 'no bound: every state', left: 500, checked: 10, spentMs: 10_000, expect: 1 },
  {
    name: 'time for a tenth of the states: every tenth state',
    left: 1_000,
    checked: 10,
    spentMs: 1_000,
    boundMs: 11_000,
    expect: 10,
  },
  {
    name: 'time for all states: every state',
    left: 50,
    checked: 10,
    spentMs: 1_000,
    boundMs: 60_000,
    expect: 1,
  },
  {
    name: 'no time left: the last one',
    left: 50,
    checked: 10,
    spentMs: 2_000,
    boundMs: 1_000,
    expect: 50,
  },
  {
    name: 'no state left: the index is past the end',
    left: 0,
    checked: 10,
    spentMs: 2_000,
    boundMs: 1_000,
    expect: 1,
  },
] as const;
for (const { name, expect, ...progress } of strides) {
  test(`states are skipped when the time is short: ${name}`, (t) => {
    t.is(strideFor({ boundMs: undefined, ...progress }), expect);
  });
}
