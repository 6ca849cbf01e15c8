import test from 'ava';
import { nodeBindOf } from '../../../../src/host/mount/loop-mounts.ts';
import { parseMountinfo } from '../../../../src/host/mount/mountinfo.ts';

/** Number and state of the loop node that a mount with this root binds, or undefined. */
function bindOf(root: string, fsType: string) {
  const [mount] = parseMountinfo(`40 1 0:5 ${root} /target rw - ${fsType} udev rw\n`);
  const bind = mount === undefined ? undefined : nodeBindOf(mount);
  return bind === undefined ? undefined : [bind.number, bind.isRemoved];
}

test('a bind mount of a loop node is recognised by its root, also after the node was removed', (t) => {
  t.deepEqual(bindOf('/loop7', 'devtmpfs'), [7, false]);
  t.deepEqual(bindOf('/loop12//deleted', 'tmpfs'), [12, true]);
  t.deepEqual(bindOf('/dev/loop3', 'tmpfs'), [3, false]);
});

test('other mounts are no bind mounts of a loop node', (t) => {
  for (const root of ['/', '/sda1', '/loop-control', '/loop7p1', '/noloop7']) {
    t.is(bindOf(root, 'devtmpfs'), undefined, root);
  }
  t.is(bindOf('/loop7', 'ext4'), undefined);
});
