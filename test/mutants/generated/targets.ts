/** A source file in which defects are generated, and the unit tests that belong to it. */
export interface Target {
  /** Below `src/`. */
  readonly file: string;
  /** Below `test/unit/`. */
  readonly tests: readonly string[];
  /** Maximum number of undetected generated defects; more fail the command. Lower it when new tests detect more. */
  readonly maxSurvivors: number;
}

/**
 * Each number is the number of survivors of a run, plus a twentieth of the file's defects, at least one: on a busy machine a test may
 * fail or exceed its time limit by chance, so a defect may be detected by accident. Most survivors change nothing that a caller can
 * observe (caches, clean-up after a failure, a check that is followed by a second one).
 */
const measured: readonly Target[] = [
  { file: 'async.ts', tests: ['async'], maxSurvivors: 4 },
  { file: 'csi/redact.ts', tests: ['csi/redact'], maxSurvivors: 5 },
  { file: 'docker/options.ts', tests: ['docker/options'], maxSurvivors: 1 },
  { file: 'docker/requests.ts', tests: ['docker/plugin', 'docker/options'], maxSurvivors: 1 },
  { file: 'host/files/compare-blocks.ts', tests: ['host/files/compare-blocks'], maxSurvivors: 3 },
  {
    file: 'host/files/copy.ts',
    tests: ['host/files/copy', 'host/programs/image-lock'],
    maxSurvivors: 19,
  },
  { file: 'host/files/extent-delta.ts', tests: ['host/files/extent-delta'], maxSurvivors: 3 },
  {
    file: 'host/files/replace-file.ts',
    tests: ['state/records', 'volumes/pool/durable'],
    maxSurvivors: 3,
  },
  {
    file: 'host/kernel/descriptor.ts',
    tests: ['host/kernel/descriptor', 'host/mount/target', 'host/kernel/hung-calls'],
    maxSurvivors: 12,
  },
  {
    file: 'host/kernel/gate.ts',
    tests: ['host/kernel/gate', 'host/kernel/hung-calls'],
    maxSurvivors: 3,
  },
  { file: 'host/mount/mountinfo.ts', tests: ['host/mount/mountinfo'], maxSurvivors: 13 },
  { file: 'host/mount/options.ts', tests: ['host/mount/options'], maxSurvivors: 1 },
  {
    file: 'host/mount/target.ts',
    tests: ['host/mount/target', 'volumes/attachment/targets'],
    maxSurvivors: 13,
  },

  { file: 'rpc/request-limits.ts', tests: ['rpc/validation'], maxSurvivors: 8 },
  { file: 'rpc/topology.ts', tests: ['rpc/validation', 'rpc/answers'], maxSurvivors: 3 },
  { file: 'rpc/validate.ts', tests: ['rpc/validation'], maxSurvivors: 2 },
  { file: 'state/decode.ts', tests: ['state/records'], maxSurvivors: 2 },
  {
    file: 'state/known-pools.ts',
    tests: ['state/known-pools', 'volumes/pool/durable'],
    maxSurvivors: 11,
  },
  { file: 'state/records.ts', tests: ['state/records'], maxSurvivors: 2 },
  {
    file: 'volumes/attachment/prepare-image.ts',
    tests: [
      'volumes/attachment/error-flag',
      'volumes/attachment/reached-size',
      'volumes/volume/expand',
      'volumes/node/ext4-growth',
    ],
    maxSurvivors: 14,
  },
  { file: 'volumes/capacity.ts', tests: ['volumes/capacity'], maxSurvivors: 3 },
  {
    file: 'volumes/engine/locks.ts',
    tests: ['volumes/engine/locks', 'volumes/engine/operations'],
    maxSurvivors: 3,
  },
  {
    file: 'volumes/engine/operations.ts',
    tests: ['volumes/engine/operations', 'volumes/engine/locks'],
    maxSurvivors: 10,
  },
  { file: 'ids.ts', tests: ['ids'], maxSurvivors: 4 },
  {
    file: 'volumes/jobs/interrupted-restores.ts',
    tests: ['volumes/jobs/interrupted-restores'],
    maxSurvivors: 19,
  },
  {
    file: 'volumes/jobs/trims.ts',
    tests: ['volumes/jobs/trims', 'volumes/jobs/periodic-trim'],
    maxSurvivors: 9,
  },
  {
    file: 'volumes/node/unpublish.ts',
    tests: ['volumes/node/staging', 'volumes/node/inline'],
    maxSurvivors: 8,
  },
  {
    file: 'volumes/node/unstage.ts',
    tests: [
      'volumes/node/staging',
      'volumes/attachment/failed-mount',
      'volumes/attachment/lost-device',
    ],
    maxSurvivors: 16,
  },
  {
    file: 'volumes/parameters/storage-class.ts',
    tests: ['volumes/parameters/storage-class'],
    maxSurvivors: 3,
  },
  {
    file: 'volumes/pool/commit.ts',
    tests: [
      'volumes/pool/durable',
      'volumes/pool/btrfs-log',
      'volumes/pool/pools',
      'volumes/engine/failures',
    ],
    maxSurvivors: 8,
  },
  {
    file: 'volumes/pool/directory-sync.ts',
    tests: ['volumes/pool/directory-sync'],
    maxSurvivors: 7,
  },
  {
    file: 'volumes/pool/open-directory.ts',
    tests: ['volumes/pool/pool-marker', 'volumes/pool/pools', 'volumes/pool/durable'],
    maxSurvivors: 14,
  },
  {
    file: 'volumes/pool/space.ts',
    tests: ['volumes/pool/space', 'volumes/pool/reservations', 'volumes/pool/pools'],
    maxSurvivors: 7,
  },
  { file: 'volumes/pool/thresholds.ts', tests: ['volumes/pool/thresholds'], maxSurvivors: 3 },
  {
    file: 'volumes/snapshot/block-ranges.ts',
    tests: ['volumes/snapshot/block-ranges'],
    maxSurvivors: 1,
  },
  {
    file: 'volumes/snapshot/capture.ts',
    tests: ['volumes/snapshot/capture', 'volumes/snapshot/snapshot-rules'],
    maxSurvivors: 12,
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
    maxSurvivors: 34,
  },
  {
    file: 'volumes/volume/delete.ts',
    tests: [
      'volumes/volume/create',
      'volumes/node/staging',
      'volumes/attachment/failed-mount',
      'volumes/pool/unavailable-pool',
    ],
    maxSurvivors: 20,
  },
  {
    file: 'volumes/jobs/trash.ts',
    tests: [
      'volumes/jobs/trash',
      'volumes/pool/durable',
      'volumes/pool/pools',
      'volumes/recovery/start',
    ],
    maxSurvivors: 17,
  },
  {
    file: 'volumes/pool/load-records.ts',
    tests: ['volumes/pool/records-of-pool', 'volumes/attachment/duplicates', 'volumes/pool/pools'],
    maxSurvivors: 8,
  },
  {
    file: 'volumes/attachment/duplicates.ts',
    tests: ['volumes/attachment/duplicates', 'volumes/pool/pools'],
    maxSurvivors: 17,
  },
  {
    file: 'volumes/attachment/attachment-for-teardown.ts',
    tests: ['volumes/attachment/two-drivers', 'volumes/attachment/labels', 'volumes/node/staging'],
    maxSurvivors: 6,
  },
  {
    file: 'volumes/jobs/snapshot-copies.ts',
    tests: ['volumes/snapshot/long-copies'],
    maxSurvivors: 25,
  },
  {
    file: 'volumes/node/publish.ts',
    tests: ['volumes/node/staging', 'volumes/attachment/targets', 'volumes/attachment/exclusive'],
    maxSurvivors: 19,
  },
  {
    file: 'volumes/node/stage.ts',
    tests: [
      'volumes/node/staging',
      'volumes/attachment/failed-mount',
      'volumes/attachment/targets',
    ],
    maxSurvivors: 35,
  },
  {
    file: 'volumes/volume/expand.ts',
    tests: [
      'volumes/volume/expand',
      'volumes/attachment/reached-size',
      'volumes/pool/durable',
      'volumes/pool/reservations',
    ],
    maxSurvivors: 14,
  },
];

/** Not measured yet: the numbers are half of a file's defects. */
const unmeasured: readonly Target[] = [
  { file: 'volumes/jobs/frozen-volumes.ts', tests: ['volumes/jobs/space-guard'], maxSurvivors: 24 },
  {
    file: 'volumes/jobs/space-guard.ts',
    tests: ['volumes/jobs/space-guard', 'volumes/pool/pools'],
    maxSurvivors: 20,
  },
];

export const targets: readonly Target[] = [...measured, ...unmeasured];
