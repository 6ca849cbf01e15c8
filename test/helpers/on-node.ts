import test from 'ava';

const isRoot = process.getuid?.() === 0;

/** A serial test that uses loop devices and mounts. It is skipped without root; each file reports that once. */
export const onNode = isRoot ? test.serial : test.serial.skip;
if (!isRoot) test('skipped: loop devices and mounts need root', (t) => t.pass());
