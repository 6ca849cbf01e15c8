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
    tests: ['state/records', 'volumes/pool/durable'],
    maxSurvivors: 0,
  },
  { file: 'host/programs/semaphore.ts', tests: ['host/programs/semaphore'], maxSurvivors: 0 },
  {
    file: 'host/mount/target.ts',
    tests: ['host/mount/target', 'volumes/attachment/targets'],
    maxSurvivors: 0,
  },
  { file: 'state/decode.ts', tests: ['state/records'], maxSurvivors: 0 },
  {
    file: 'state/known-pools.ts',
    tests: ['state/known-pools', 'volumes/pool/durable'],
    maxSurvivors: 0,
  },
  { file: 'state/records.ts', tests: ['state/records'], maxSurvivors: 0 },
  { file: 'volumes/capacity.ts', tests: ['volumes/capacity'], maxSurvivors: 0 },
  { file: 'volumes/ids.ts', tests: ['volumes/ids'], maxSurvivors: 0 },
  {
    file: 'volumes/engine/locks.ts',
    tests: ['volumes/engine/locks', 'volumes/engine/operations'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/engine/operations.ts',
    tests: ['volumes/engine/operations', 'volumes/engine/locks'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/parameters/storage-class.ts',
    tests: ['volumes/parameters/storage-class'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/volume/create.ts',
    tests: [
      'volumes/volume/create',
      'volumes/volume/repeated-create',
      'volumes/pool/durable',
      'volumes/engine/failures',
      'volumes/pool/reservations',
    ],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/volume/delete.ts',
    tests: [
      'volumes/volume/create',
      'volumes/node/staging',
      'volumes/attachment/failed-mount',
      'volumes/pool/unavailable-pool',
    ],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/volume/expand.ts',
    tests: [
      'volumes/volume/expand',
      'volumes/attachment/reached-size',
      'volumes/pool/durable',
      'volumes/pool/reservations',
    ],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/pool/commit.ts',
    tests: [
      'volumes/pool/durable',
      'volumes/pool/btrfs-log',
      'volumes/pool/pools',
      'volumes/engine/failures',
    ],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/jobs/frozen-volumes.ts',
    tests: ['volumes/jobs/space-guard'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/jobs/space-guard.ts',
    tests: ['volumes/jobs/space-guard', 'volumes/pool/pools'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/jobs/trims.ts',
    tests: ['volumes/jobs/trims', 'volumes/jobs/periodic-trim'],
    maxSurvivors: 0,
  },
  { file: 'volumes/pool/thresholds.ts', tests: ['volumes/pool/thresholds'], maxSurvivors: 0 },
  {
    file: 'volumes/attachment/prepare-image.ts',
    tests: [
      'volumes/attachment/error-flag',
      'volumes/attachment/reached-size',
      'volumes/volume/expand',
      'volumes/node/ext4-growth',
    ],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/node/publish.ts',
    tests: ['volumes/node/staging', 'volumes/attachment/targets', 'volumes/attachment/exclusive'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/attachment/teardown.ts',
    tests: ['volumes/attachment/two-drivers', 'volumes/attachment/labels', 'volumes/node/staging'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/node/stage.ts',
    tests: [
      'volumes/node/staging',
      'volumes/attachment/failed-mount',
      'volumes/attachment/targets',
    ],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/node/unpublish.ts',
    tests: ['volumes/node/staging', 'volumes/node/inline'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/node/unstage.ts',
    tests: [
      'volumes/node/staging',
      'volumes/attachment/failed-mount',
      'volumes/attachment/lost-device',
    ],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/pool/load-records.ts',
    tests: ['volumes/pool/records-of-pool', 'volumes/attachment/duplicates', 'volumes/pool/pools'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/pool/directory-sync.ts',
    tests: ['volumes/pool/directory-sync'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/pool/open-directory.ts',
    tests: ['volumes/pool/pool-marker', 'volumes/pool/pools', 'volumes/pool/durable'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/pool/space.ts',
    tests: ['volumes/pool/space', 'volumes/pool/reservations', 'volumes/pool/pools'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/jobs/trash.ts',
    tests: [
      'volumes/jobs/trash',
      'volumes/pool/durable',
      'volumes/pool/pools',
      'volumes/node/start',
    ],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/attachment/duplicates.ts',
    tests: ['volumes/attachment/duplicates', 'volumes/pool/pools'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/snapshot/block-ranges.ts',
    tests: ['volumes/snapshot/block-ranges'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/snapshot/capture.ts',
    tests: ['volumes/snapshot/capture', 'volumes/snapshot/snapshot-rules'],
    maxSurvivors: 0,
  },
  {
    file: 'host/files/extent-delta.ts',
    tests: ['host/files/extent-delta'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/jobs/restore-copies.ts',
    tests: ['volumes/snapshot/restore-copies'],
    maxSurvivors: 0,
  },
  {
    file: 'volumes/jobs/snapshot-copies.ts',
    tests: ['volumes/snapshot/long-copies'],
    maxSurvivors: 0,
  },
  { file: 'rpc/request-limits.ts', tests: ['rpc/validation'], maxSurvivors: 0 },
  { file: 'rpc/topology.ts', tests: ['rpc/validation', 'rpc/answers'], maxSurvivors: 0 },
  { file: 'rpc/validate.ts', tests: ['rpc/validation'], maxSurvivors: 0 },
  { file: 'csi/redact.ts', tests: ['csi/redact'], maxSurvivors: 0 },
  { file: 'docker/options.ts', tests: ['docker/options'], maxSurvivors: 0 },
  { file: 'docker/requests.ts', tests: ['docker/plugin', 'docker/options'], maxSurvivors: 0 },
];
