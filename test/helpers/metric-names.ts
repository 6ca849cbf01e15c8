import { Metrics } from '../../src/observe/metrics.ts';

/** The names of all metrics of a driver, as a scrape shows them. */
export const metricNames: readonly string[] = await namesOf(
  new Metrics({
    version: '1',
    observe: async () => ({
      pools: [],
      stuckLanes: 0,
      runningOperations: 0,
      kernelCalls: { running: 0, waiting: 0 },
      leftoverDevices: undefined,
      healthCheckedAtMs: undefined,
    }),
  }),
);

async function namesOf(metrics: Metrics): Promise<readonly string[]> {
  const { body } = await metrics.render();
  metrics.close();
  return [...body.matchAll(/^# TYPE (\S+) /gm)].map(([, name = '']) => name);
}
