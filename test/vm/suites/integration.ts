import type { Suite } from '../suite.ts';

/** Files that run in the machine, below `test/integration/`. Measured times are in docs/tested-on.md. */
export const chosen: readonly string[] = [
  'btrfs-log',
  // With the capabilities that the unit keeps, CAP_SYS_RESOURCE among them.
  'capabilities',
  'docker-mounts',
  'doctor',
  'duplicate-uuid',
  'embedded-pool',
  'failed-pool',
  'full-disk',
  'host-contract',
  'host/files/copies',
  'host/files/files',
  'host/filesystem/change',
  'host/filesystem/check',
  'host/filesystem/ext4/template',
  'host/filesystem/ext4/uuid',
  'host/filesystem/make',
  'host/filesystem/private-mount',
  'host/files/image-status',
  'host/mount/mounts',
  'host/files/remove-tree',
  'hostile/targets',
  'life-cycle',
  'alone/orphan-programs',
  'other-node',
  'recovery',
  'removed-scratch',
  'restore-copies',
  'small-btrfs',
  'snapshot-failures',
  'snapshot-space',
  'start',
  'two-drivers',
  'alone/interference/devices',
  'interference/images',
  'interference/pools',
];

const notTried =
  'takes half a minute or more on a build machine, and has not been tried in the machine';
const untried = 'has not been tried in the machine';
const aboutTime = 'tests time limits that emulated processors cannot meet';
const takesHours = 'takes minutes on a build machine, and hours under emulation';

/** All other files, each with the reason why it does not run in the machine. */
export const excluded: Readonly<Record<string, string>> = {
  agent: untried,
  'busy-unmount': aboutTime,
  'changed-blocks': takesHours,
  'command-line': aboutTime,
  completion: untried,
  'copies-under-faults': aboutTime,
  demo: aboutTime,
  'group-snapshots': aboutTime,
  'host/freeze/freezer': aboutTime,
  'host/loop/devices': aboutTime,
  'hostile/damaged-images': takesHours,
  'hostile/fields': takesHours,
  'hostile/wire': takesHours,
  'hung-aftermath': aboutTime,
  'import-export': untried,
  'alone/isolation': aboutTime,
  'killed-programs': notTried,
  'lost-node': untried,
  metrics: untried,
  'alone/model': takesHours,
  'alone/other-software': notTried,
  owners: untried,
  pages: untried,
  'random-node-loss': aboutTime,
  'groups-across-nodes': untried,
  'restores-across-nodes': untried,
  serve: 'starts the driver by npm, which the machine does not have',
  'several-machines': untried,
  'several-nodes': untried,
  'snapshot-crashes': notTried,
  snapshots: aboutTime,
  'space-guard': aboutTime,
  'stalled-fuse': aboutTime,
  'unused-growth': untried,
  upgrade: untried,
  'alone/interference/hangs': aboutTime,
};

export const suite: Suite = {
  name: 'integration',
  about: 'the integration tests that depend on the kernel most',
  minutes: 180,
  inside: { tests: chosen.map((name) => `integration/${name}.test`), idleMinutes: 30 },
};
