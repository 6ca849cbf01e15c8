/** Files of which defects are generated, and the unit tests that belong to each. */
export interface Target {
  /** Below `src/`. */
  readonly file: string;
  /** Below `test/unit/`. */
  readonly tests: readonly string[];
  /** How many of its generated defects no test detects. More fail the command; after new tests, lower the number. */
  readonly maxSurvivors: number;
}

export const targets: readonly Target[] = [
  {
    file: 'host/files/copy.ts',
    tests: ['host/files/copy', 'host/programs/image-lock'],
    maxSurvivors: 0,
  },
  {
    file: 'host/kernel/descriptor.ts',
    tests: ['host/kernel/descriptor', 'host/mount/target', 'host/kernel/hung-calls'],
    maxSurvivors: 0,
  },
  { file: 'host/files/compare-blocks.ts', tests: ['host/files/compare-blocks'], maxSurvivors: 0 },
  {
    file: 'host/kernel/gate.ts',
    tests: ['host/kernel/gate', 'host/kernel/hung-calls'],
    maxSurvivors: 0,
  },
  { file: 'host/loop/scan.ts', tests: ['host/loop/scan'], maxSurvivors: 0 },
  { file: 'host/mount/options.ts', tests: ['host/mount/options'], maxSurvivors: 0 },
  { file: 'host/mount/mountinfo.ts', tests: ['host/mount/mountinfo'], maxSurvivors: 0 },
  {
    file: 'host/files/replace-file.ts',
    tests: ['state/records', 'volumes/durable'],
    maxSurvivors: 0,
  },
  { file: 'host/programs/semaphore.ts', tests: ['host/programs/semaphore'], maxSurvivors: 0 },
  {
    file: 'host/mount/target.ts',
    tests: ['host/mount/target', 'volumes/targets'],
    maxSurvivors: 0,
  },
  { file: 'state/decode.ts', tests: ['state/records'], maxSurvivors: 0 },
  { file: 'state/node-state.ts', tests: ['state/node-state', 'volumes/durable'], maxSurvivors: 0 },
  { file: 'state/records.ts', tests: ['state/records'], maxSurvivors: 0 },
  { file: 'volumes/capacity.ts', tests: ['volumes/capacity'], maxSurvivors: 0 },
  { file: 'volumes/ids.ts', tests: ['volumes/ids'], maxSurvivors: 0 },
  { file: 'volumes/locks.ts', tests: ['volumes/locks', 'volumes/operations'], maxSurvivors: 0 },
  {
    file: 'volumes/operations.ts',
    tests: ['volumes/operations', 'volumes/locks'],
    maxSurvivors: 0,
  },
  { file: 'volumes/parameters.ts', tests: ['volumes/parameters'], maxSurvivors: 0 },
  {
    file: 'volumes/controller/create.ts',
    tests: [
      'volumes/create',
      'volumes/repeated-create',
      'volumes/durable',
      'volumes/failures',
      'volumes/pools/reservations',
    ],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/controller/delete.ts',
    tests: ['volumes/create', 'volumes/staging', 'volumes/failed-mount', 'volumes/pools/pool-away'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/controller/expand.ts',
    tests: [
      'volumes/expand',
      'volumes/reached-size',
      'volumes/durable',
      'volumes/pools/reservations',
    ],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/controller/new-entry.ts',
    tests: ['volumes/durable', 'volumes/btrfs-log', 'volumes/pools/pools', 'volumes/failures'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/guard/frozen-volumes.ts',
    tests: ['volumes/guard/space-guard'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/guard/space-guard.ts',
    tests: ['volumes/guard/space-guard', 'volumes/pools/pools'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/guard/trims.ts',
    tests: ['volumes/guard/trims', 'volumes/guard/periodic-trim'],
    maxSurvivors: 0,
  },
  { file: 'volumes/guard/watermarks.ts', tests: ['volumes/guard/watermarks'], maxSurvivors: 0 },
  {
    file: 'volumes/node/make-ready.ts',
    tests: ['volumes/error-flag', 'volumes/reached-size', 'volumes/expand', 'volumes/ext4-growth'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/node/publish.ts',
    tests: ['volumes/staging', 'volumes/targets', 'volumes/exclusive'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/node/remains.ts',
    tests: ['volumes/two-drivers', 'volumes/labels', 'volumes/staging'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/node/stage.ts',
    tests: ['volumes/staging', 'volumes/failed-mount', 'volumes/targets'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/node/unpublish.ts',
    tests: ['volumes/staging', 'volumes/inline'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/node/unstage.ts',
    tests: ['volumes/staging', 'volumes/failed-mount', 'volumes/lost-device'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/pools/load-records.ts',
    tests: ['volumes/pools/records-of-pool', 'volumes/pools/twins', 'volumes/pools/pools'],
    maxSurvivors: 0,
  },
  { file: 'volumes/pools/places.ts', tests: ['volumes/pools/places'], maxSurvivors: 0 },
  {
    file: 'volumes/pools/pool-open.ts',
    tests: ['volumes/pools/pool-marker', 'volumes/pools/pools', 'volumes/durable'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/pools/room.ts',
    tests: ['volumes/pools/room', 'volumes/pools/reservations', 'volumes/pools/pools'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/pools/trash.ts',
    tests: ['volumes/trash', 'volumes/durable', 'volumes/pools/pools', 'volumes/start'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/pools/twins.ts',
    tests: ['volumes/pools/twins', 'volumes/pools/pools'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/snapshots/block-ranges.ts',
    tests: ['volumes/snapshots/extent-delta'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/snapshots/cut.ts',
    tests: ['volumes/snapshots/cut', 'volumes/snapshots/snapshot-rules'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/snapshots/extent-delta.ts',
    tests: ['volumes/snapshots/extent-delta'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/snapshots/restore-copies.ts',
    tests: ['volumes/snapshots/restore-copies'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/snapshots/snapshot-copies.ts',
    tests: ['volumes/snapshots/long-copies'],
    maxSurvivors: 0,
  },
  { file: 'rpc/request-limits.ts', tests: ['rpc/validation'], maxSurvivors: 0 },
  { file: 'rpc/topology.ts', tests: ['rpc/validation', 'rpc/answers'], maxSurvivors: 0 },
  { file: 'rpc/validate.ts', tests: ['rpc/validation'], maxSurvivors: 0 },
  { file: 'csi/redact.ts', tests: ['csi/redact'], maxSurvivors: 0 },
  { file: 'docker/options.ts', tests: ['docker/options'], maxSurvivors: 0 },
  { file: 'docker/requests.ts', tests: ['docker/plugin', 'docker/options'], maxSurvivors: 0 },
];
