import test from 'ava';
import { isSame } from '../../../../src/host/loop/scan.ts';

test('an image is known by its filesystem and its inode: two pools give equal inode numbers', (t) => {
  t.true(isSame({ device: 1n, inode: 7n }, { device: 1n, inode: 7n }));
  t.false(isSame({ device: 1n, inode: 7n }, { device: 2n, inode: 7n }));
  t.false(isSame({ device: 1n, inode: 7n }, { device: 1n, inode: 8n }));
});
