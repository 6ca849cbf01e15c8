import test from 'ava';

const isRoot = process.getuid?.() === 0;

/** A test of loop devices and mounts, one at a time. Without root it is skipped, and the file says so once. */
export const onNode = isRoot ? test.serial : test.serial.skip;
if (!isRoot) test('skipped: loop devices and mounts need root', (t) => t.pass());
