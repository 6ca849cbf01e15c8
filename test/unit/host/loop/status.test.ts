import test from 'ava';
import { isSameFile } from '../../../../src/host/loop/status.ts';

test('an image is identified by its filesystem and inode: two pools may have equal inode numbers', (t) => {
  t.true(isSameFile({ device: 1n, inode: 7n }, { device: 1n, inode: 7n }));
  t.false(isSameFile({ device: 1n, inode: 7n }, { device: 2n, inode: 7n }));
  t.false(isSameFile({ device: 1n, inode: 7n }, { device: 1n, inode: 8n }));
});
