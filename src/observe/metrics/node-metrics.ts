import type { Observed } from './observed.ts';
import type { ObservedMetric, Series } from './observed-metric.ts';

function one(value: number | undefined, labels: Series['labels'] = {}): readonly Series[] {
  return value === undefined ? [] : [{ labels, value }];
}

/** Metrics of the driver as a whole. */
export const nodeMetrics: readonly ObservedMetric[] = [
  {
    name: 'loopcsi_stuck_owners',
    help: 'Volumes and pools with a hung kernel call',
    type: 'gauge',
    series: ({ stuckLanes }) => one(stuckLanes),
  },
  {
    name: 'loopcsi_running_operations',
    help: 'Operations in progress',
    type: 'gauge',
    series: ({ runningOperations }) => one(runningOperations),
  },
  {
    name: 'loopcsi_kernel_calls',
    help: 'Blocking kernel calls, by state',
    type: 'gauge',
    series: ({ kernelCalls: { running, waiting } }) => [
      ...one(running, { state: 'running' }),
      ...one(waiting, { state: 'waiting' }),
    ],
  },
  {
    name: 'loopcsi_leftover_devices',
    help: 'Loop devices of the driver that no volume uses',
    type: 'gauge',
    series: ({ leftoverDevices }: Observed) => one(leftoverDevices),
  },
  {
    name: 'loopcsi_health_check_timestamp_seconds',
    help: 'When the last check of the health of all volumes ended, in seconds since 1970',
    type: 'gauge',
    series: ({ healthCheckedAtMs }: Observed) =>
      one(healthCheckedAtMs === undefined ? undefined : healthCheckedAtMs / 1000),
  },
];
