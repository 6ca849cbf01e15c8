import { fstatSync } from 'node:fs';
import test from 'ava';
import { isTextLog } from '../../../src/observe/log.ts';

const { dev: device, ino: inode } = fstatSync(1);

test('the format auto is text if standard output is the stream to the journal', (t) => {
  t.true(isTextLog('auto', { JOURNAL_STREAM: `${device}:${inode}` }));
  t.false(isTextLog('json', { JOURNAL_STREAM: `${device}:${inode}` }));
});

test('a variable that a child of a service inherits says nothing about its own output', (t) => {
  t.false(isTextLog('auto', { JOURNAL_STREAM: `${device}:${inode + 1}` }));
});
