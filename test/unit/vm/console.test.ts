import test from 'ava';
import { endedLine, findCrash, Lines, progressOf, upLine } from '../../vm/machine/console.ts';

test('the machine reports that it has started, and how its job ended', (t) => {
  t.deepEqual(progressOf(upLine('6.1.0-50-cloud-amd64', 4.25)), {
    kind: 'up',
    kernel: '6.1.0-50-cloud-amd64',
    seconds: 4.3,
  });
  t.deepEqual(progressOf(endedLine(0)), { kind: 'ended', exitCode: 0 });
  t.deepEqual(progressOf(endedLine(134)), { kind: 'ended', exitCode: 134 });
});

for (const line of [
  'ok 1 - up 6.1 after 3 s',
  '',
  'job ended with 0',
  ' loopcsi-vm: job ended with 0',
]) {
  test(`'${line}' is output of the job`, (t) => {
    t.is(progressOf(line), undefined);
  });
}

const crashes = [
  { line: '[    3.2] Kernel panic - not syncing: VFS: Unable to mount root fs', isCrash: true },
  {
    line: '[   12.1] BUG: kernel NULL pointer dereference, address: 0000000000000008',
    isCrash: true,
  },
  { line: '[   12.1] Oops: 0002 [#1] PREEMPT SMP', isCrash: true },
  { line: '[   12.1] general protection fault, probably for non-canonical address', isCrash: true },
  { line: '[   99.0] EXT4-fs error (device loop0): ext4_find_entry', isCrash: false },
  { line: '[   99.0] INFO: task node:123 blocked for more than 120 seconds.', isCrash: false },
  { line: 'DEBUG: nothing', isCrash: false },
] as const;
for (const { line, isCrash } of crashes) {
  test(`${isCrash ? 'a crash' : 'no crash'}: ${line}`, (t) => {
    t.is(findCrash(`before\r\n${line}\r\nafter`), isCrash ? line : undefined);
  });
}

test('a stream is split into lines, whatever its chunks', (t) => {
  const text = 'ok 1 - a\r\nok 2 - b\n\nnot ok 3 - c';
  for (let at = 0; at <= text.length; at += 1) {
    const found: string[] = [];
    const lines = new Lines((line) => found.push(line));
    lines.add(text.slice(0, at));
    lines.add(text.slice(at));
    lines.end();
    lines.end();
    t.deepEqual(found, ['ok 1 - a', 'ok 2 - b', '', 'not ok 3 - c']);
  }
});
