import { ControllerMetrics } from '../../src/controller/metrics.ts';
import type { Observed } from '../../src/observe/metrics/observed.ts';
import { Metrics } from '../../src/observe/metrics.ts';

/** Values with which every metric has a series. */
const everything: Observed = {
  pools: [
    {
      name: 'a',
      isServed: true,
      bytes: { free: 1n },
      freeInodes: 1n,
      frozenVolumes: 0,
      trims: { runs: { done: 1 }, bytes: 1n },
      volumes: { ext4: 1 },
      conditions: ['PoolNearlyFull'],
      unhealthy: { ImageShort: 1 },
      volumesNotListed: 0,
      images: [
        {
          volumeId: 'v',
          fsType: 'ext4',
          claim: undefined,
          sizeBytes: 1n,
          allocatedBytes: 1n,
          filesystem: {
            sizeBytes: 1n,
            usedBytes: 1n,
            availableBytes: 1n,
            inodes: 1n,
            usedInodes: 1n,
          },
          io: {
            reads: 1,
            readBytes: 1n,
            readMs: 1,
            writes: 1,
            writtenBytes: 1n,
            writeMs: 1,
            busyMs: 1,
            inFlight: 1,
          },
          snapshots: { count: 1, allocatedBytes: 1n, newestAtMs: 1 },
          lastTrimAtMs: 1,
          conditions: ['ImageShort'],
        },
      ],
    },
  ],
  stuckLanes: 0,
  runningOperations: 0,
  kernelCalls: { running: 0, waiting: 0 },
  leftoverDevices: 0,
  healthCheckedAtMs: 1,
};

/** The labels of all metrics of a driver, as a scrape shows them. */
export const metricLabels: ReadonlyMap<string, ReadonlySet<string>> = await labelsByName();

/** The names of all metrics of a driver. */
export const metricNames: readonly string[] = [...metricLabels.keys()];

const controllerMetricLabels = await labelsOfController();

/** The names of all metrics of a controller. */
export const controllerMetricNames: readonly string[] = [...controllerMetricLabels.keys()];

/** The labels of all metrics of drivers and controllers: alerts and dashboard query both. */
export const queryableLabels: ReadonlyMap<string, ReadonlySet<string>> = new Map([
  ...controllerMetricLabels,
  ...metricLabels,
]);

async function labelsOfController(): Promise<ReadonlyMap<string, ReadonlySet<string>>> {
  const countAgents = () => new Map([['ready', 1] as const]);
  const metrics = new ControllerMetrics({ version: '1', countAgents });
  metrics.agentCallEnded({ node: 'n', code: 'OK' });
  metrics.callEnded({ service: 'csi.v1.Node', rpc: 'NodeStageVolume', code: 'OK', durationMs: 1 });
  return labelsIn((await metrics.render()).body);
}

async function labelsByName(): Promise<ReadonlyMap<string, ReadonlySet<string>>> {
  const metrics = new Metrics({ version: '1', observe: async () => everything });
  metrics.callEnded({ service: 'csi.v1.Node', rpc: 'NodeStageVolume', code: 'OK', durationMs: 1 });
  metrics.connectionRefused('expired');
  metrics.commandEnded({ file: 'mkfs.ext4', result: '0', durationMs: 1 });
  metrics.guardActed('a', 'trim');
  metrics.freezeEnded({ cause: 'guard', durationMs: 1 });
  metrics.trimEnded({ pool: 'a', durationMs: 1 });
  metrics.transferred('sent', 1);
  const { body } = await metrics.render();
  metrics.close();
  return labelsIn(body);
}

function labelsIn(body: string): ReadonlyMap<string, ReadonlySet<string>> {
  const all = new Map<string, Set<string>>();
  let labels = new Set<string>();
  for (const line of body.split('\n')) {
    const name = /^# TYPE (\S+) /.exec(line)?.[1];
    if (name !== undefined) {
      labels = new Set();
      all.set(name, labels);
    }
    for (const [, label = ''] of line.matchAll(/[{,](\w+)="/g)) labels.add(label);
  }
  return all;
}
