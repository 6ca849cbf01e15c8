import test from 'ava';
import {
  type Change,
  type ChangeMark,
  changeMarks,
  type Expected,
  expectedIn,
} from '../../vm/power-cuts/acknowledgements.ts';

const create: Change = { kind: 'create', volume: 'v', type: 'ext4', sizeBytes: 100 };
const expand: Change = { kind: 'expand', volume: 'v', sizeBytes: 200 };
const write: Change = { kind: 'write', volume: 'v', place: 'file', text: 'one' };
const rewrite: Change = { ...write, text: 'two' };
const remove: Change = { kind: 'delete', volume: 'v' };
const snapshot: Change = { kind: 'snapshot', snapshot: 's', volume: 'v' };
const restore: Change = {
  kind: 'create',
  volume: 'r',
  type: 'ext4',
  sizeBytes: 100,
  source: { kind: 'snapshot', name: 's' },
};
const group: Change = {
  kind: 'group',
  group: 'g',
  members: [{ snapshot: 'm', volume: 'v' }],
};
const removeGroup: Change = { kind: 'delete-group', group: 'g' };

/** Marks at the indices 10, 20, 30, …: `+` begins a change, `-` ends it. */
function marked(...all: readonly (readonly ['+' | '-', Change])[]): readonly ChangeMark[] {
  return all.map(([phase, change], at) => ({
    index: 10 * (at + 1),
    isEnd: phase === '-',
    change,
  }));
}

/** The expected content in the state that was made at `upTo` and lasted until `until`. */
const after = (marks: readonly ChangeMark[], upTo: number, until = upTo + 5): Expected =>
  expectedIn(marks, { upTo, until });

const whole = (...changes: readonly Change[]): readonly ChangeMark[] =>
  marked(...changes.flatMap((change) => [['+', change] as const, ['-', change] as const]));

test('a volume must exist from its acknowledgement on, and may exist from its call on', (t) => {
  const marks = whole(create);
  t.is(after(marks, 5).volumes.get('v'), undefined);
  t.is(after(marks, 15).volumes.get('v')?.exists, 'unknown');
  t.is(after(marks, 25).volumes.get('v')?.exists, 'yes');
});

test('an acknowledged call has an effect on the disk after the next flush', (t) => {
  t.is(after(whole(create), 15, 21).volumes.get('v')?.exists, 'yes');
  t.is(after(whole(create), 15, 20).volumes.get('v')?.exists, 'unknown');
});

test('a call that begins after the last flush has not reached the disk', (t) => {
  const marks = marked(
    ['+', create],
    ['-', create],
    ['+', write],
    ['-', write],
    ['+', rewrite],
    ['-', rewrite],
    ['+', remove],
  );
  t.is(after(marks, 45, 55).volumes.get('v')?.texts.get('file'), 'one');
  t.is(after(marks, 55, 58).volumes.get('v')?.texts.get('file'), undefined);
  t.is(after(marks, 55, 65).volumes.get('v')?.texts.get('file'), 'two');
  t.is(after(marks, 65, 75).volumes.get('v')?.exists, 'yes');
  t.is(after(marks, 75, 85).volumes.get('v')?.exists, 'unknown');
  t.is(after(marked(['+', create]), 5, 15).volumes.get('v')?.exists, 'no');
});

test('a volume that is being deleted exists completely or not at all', (t) => {
  const marks = whole(create, write, remove);
  t.like(after(marks, 55).volumes.get('v'), { exists: 'unknown' });
  t.is(after(marks, 55).volumes.get('v')?.texts.get('file'), 'one');
  t.is(after(marks, 65).volumes.get('v')?.exists, 'no');
});

test('a volume that grows has the old size, the new size, or a size between them', (t) => {
  const marks = whole(create, expand);
  t.like(after(marks, 25).volumes.get('v'), { minBytes: 100, maxBytes: 100 });
  t.like(after(marks, 35).volumes.get('v'), { minBytes: 100, maxBytes: 200 });
  t.like(after(marks, 45).volumes.get('v'), { minBytes: 200, maxBytes: 200 });
});

test('a snapshot and its restores contain all data that was synced before its call', (t) => {
  const { snapshots, volumes } = after(whole(create, write, snapshot, rewrite, restore), 105);
  t.like(snapshots.get('s'), { exists: 'yes', volume: 'v' });
  t.is(snapshots.get('s')?.texts.get('file'), 'one');
  t.is(volumes.get('v')?.texts.get('file'), 'two');
  t.is(volumes.get('r')?.texts.get('file'), 'one');
});

test('members of a group are created and deleted with it', (t) => {
  const marks = whole(create, group, removeGroup);
  const seen = (upTo: number) => {
    const { groups, snapshots } = after(marks, upTo);
    return [groups.get('g')?.exists, snapshots.get('m')?.exists];
  };
  t.deepEqual(seen(35), ['unknown', 'unknown']);
  t.deepEqual(seen(45), ['yes', 'yes']);
  t.deepEqual(seen(55), ['unknown', 'unknown']);
  t.deepEqual(seen(65), ['no', 'no']);
});

test('the objects of a call may change while it runs, and up to the state of its acknowledgement', (t) => {
  const marks = whole(create, snapshot, { kind: 'use', volume: 'v', call: 'stage' });
  t.deepEqual([...after(marks, 15).touched], ['v']);
  t.deepEqual([...after(marks, 15, 25).touched], ['v']);
  t.deepEqual([...after(marks, 25).touched], []);
  t.deepEqual([...after(marks, 35).touched], ['s', 'v']);
});

test('a mark names a change of the recording; other marks are ignored', (t) => {
  const entries = ['formatted', 'begin-0', undefined, 'end-0', 'dm-log-writes-end'].map(
    (mark, index) => ({ index, mark }),
  );
  t.deepEqual(changeMarks(entries, [create]), [
    { index: 1, isEnd: false, change: create },
    { index: 3, isEnd: true, change: create },
  ]);
  t.throws(() => changeMarks(entries, []), { message: /begin-0 names no change/ });
});

test('a recording that changes an object that it never created is refused', (t) => {
  t.throws(() => after(whole(write), 15), { message: /changes v before it creates it/ });
});
