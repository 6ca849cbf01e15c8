import type { Observed, ObservedPool } from './observed.ts';
import type { ObservedMetric, Series } from './observed-metric.ts';

/** One series for each pool; none if the value is undefined. */
function perPool(read: (pool: ObservedPool) => number | bigint | undefined) {
  return ({ pools }: Observed): readonly Series[] =>
    pools.flatMap((pool) => {
      const value = read(pool);
      return value === undefined ? [] : [{ labels: { pool: pool.name }, value: Number(value) }];
    });
}

/** One series for each pool and key of the record. */
function perPoolAnd(
  label: string,
  read: (pool: ObservedPool) => Readonly<Record<string, number | bigint>>,
) {
  return ({ pools }: Observed): readonly Series[] =>
    pools.flatMap((pool) =>
      Object.entries(read(pool)).map(([key, value]) => ({
        labels: { pool: pool.name, [label]: key },
        value: Number(value),
      })),
    );
}

export const poolMetrics: readonly ObservedMetric[] = [
  {
    name: 'loopcsi_pool_served',
    help: 'Whether the pool can be used',
    type: 'gauge',
    series: perPool(({ isServed }) => (isServed ? 1 : 0)),
  },
  {
    name: 'loopcsi_pool_bytes',
    help: 'Bytes of a pool',
    type: 'gauge',
    series: perPoolAnd('kind', ({ bytes }) => bytes),
  },
  {
    name: 'loopcsi_pool_free_inodes',
    help: "Free inodes of the pool's filesystem",
    type: 'gauge',
    series: perPool(({ freeInodes }) => freeInodes),
  },
  {
    name: 'loopcsi_pool_frozen_volumes',
    help: 'Volumes that the guard keeps frozen',
    type: 'gauge',
    series: perPool(({ frozenVolumes }) => frozenVolumes),
  },
  {
    name: 'loopcsi_pool_condition',
    help: '1 for each reason for which the pool is unhealthy',
    type: 'gauge',
    series: perPoolAnd('reason', ({ conditions }) =>
      Object.fromEntries(conditions.map((reason) => [reason, 1])),
    ),
  },
  {
    name: 'loopcsi_trim_runs_total',
    help: 'Completed trims',
    type: 'counter',
    series: perPoolAnd('result', ({ trims }) => trims.runs),
  },
  {
    name: 'loopcsi_trim_bytes_total',
    help: 'Trimmed bytes',
    type: 'counter',
    series: perPool(({ trims }) => trims.bytes),
  },
  {
    name: 'loopcsi_volumes',
    help: 'Volumes of a pool',
    type: 'gauge',
    series: perPoolAnd('kind', ({ volumes }) => volumes),
  },
  {
    name: 'loopcsi_volumes_not_listed',
    help: 'Volumes of a pool beyond the limit of the metrics with the label volume',
    type: 'gauge',
    series: perPool(({ volumesNotListed }) => volumesNotListed),
  },
  {
    name: 'loopcsi_unhealthy_volumes',
    help: 'Number of unhealthy volumes, by reason',
    type: 'gauge',
    series: perPoolAnd('reason', ({ unhealthy }) => unhealthy),
  },
];
