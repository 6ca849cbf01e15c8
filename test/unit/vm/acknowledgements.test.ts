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

/** In the state that was made at `upTo` and lasted until `until`. */
const after = (marks: readonly ChangeMark[], upTo: number, until = upTo + 5): Expected =>
  expectedIn(marks, { upTo, until });

const whole = (...changes: readonly Change[]): readonly ChangeMark[] =>
  marked(...changes.flatMap((change) => [['+', change] as const, ['-', change] as const]));

test('a volume is there from its acknowledgement on, and may be there from its call on', (t) => {
  const marks = whole(create);
  t.is(after(marks, 5).volumes.get('v'), undefined);
  t.is(after(marks, 15).volumes.get('v')?.exists, 'unknown');
  t.is(after(marks, 25).volumes.get('v')?.exists, 'yes');
});

test('what is acknowledged before the next flush must be there already', (t) => {
  t.is(after(whole(create), 15, 21).volumes.get('v')?.exists, 'yes');
  t.is(after(whole(create), 15, 20).volumes.get('v')?.exists, 'unknown');
});

test('what is only begun after the last flush has not reached the disk', (t) => {
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

test('a volume that is being deleted is there whole, or not at all', (t) => {
  const marks = whole(create, write, remove);
  t.like(after(marks, 55).volumes.get('v'), { exists: 'unknown' });
  t.is(after(marks, 55).volumes.get('v')?.texts.get('file'), 'one');
  t.is(after(marks, 65).volumes.get('v')?.exists, 'no');
});

test('a volume that grows has the old size, the new one, or one between', (t) => {
  const marks = whole(create, expand);
  t.like(after(marks, 25).volumes.get('v'), { minBytes: 100, maxBytes: 100 });
  t.like(after(marks, 35).volumes.get('v'), { minBytes: 100, maxBytes: 200 });
  t.like(after(marks, 45).volumes.get('v'), { minBytes: 200, maxBytes: 200 });
});

test('a snapshot holds what was synced before its call, and so does what is restored from it', (t) => {
  const { snapshots, volumes } = after(whole(create, write, snapshot, rewrite, restore), 105);
  t.like(snapshots.get('s'), { exists: 'yes', volume: 'v' });
  t.is(snapshots.get('s')?.texts.get('file'), 'one');
  t.is(volumes.get('v')?.texts.get('file'), 'two');
  t.is(volumes.get('r')?.texts.get('file'), 'one');
});

test('members of a group come and go with it', (t) => {
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

test('what a call is about is touched while it runs, and in the state of its acknowledgement', (t) => {
  const marks = whole(create, snapshot, { kind: 'use', volume: 'v', call: 'stage' });
  t.deepEqual([...after(marks, 15).touched], ['v']);
  t.deepEqual([...after(marks, 15, 25).touched], ['v']);
  t.deepEqual([...after(marks, 25).touched], []);
  t.deepEqual([...after(marks, 35).touched], ['s', 'v']);
});

test('a mark names a change of the recording; other marks are not ours', (t) => {
  const entries = ['formatted', 'begin-0', undefined, 'end-0', 'dm-log-writes-end'].map(
    (mark, index) => ({ index, mark }),
  );
  t.deepEqual(changeMarks(entries, [create]), [
    { index: 1, isEnd: false, change: create },
    { index: 3, isEnd: true, change: create },
  ]);
  t.throws(() => changeMarks(entries, []), { message: /begin-0 names no change/ });
});

test('a recording that changes what it never made is refused', (t) => {
  t.throws(() => after(whole(write), 15), { message: /changes v before it creates it/ });
});
