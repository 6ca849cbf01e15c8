import type * as Library from 'prom-client';
import type { Registry } from 'prom-client';
import type { Observed } from './observed.ts';

export interface Series {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** A metric whose series are all derived from the values of one scrape, so that those of a removed volume disappear. */
export interface ObservedMetric {
  readonly name: string;
  readonly help: string;
  readonly type: 'gauge' | 'counter';
  readonly series: (observed: Observed) => readonly Series[];
}

const noLabels = {};

/**
 * Registers the metric. Its series are returned to the library as a whole at each scrape, because setting each through
 * the library's own methods takes several times as long with thousands of volumes. As `sharedLabels`, labels that
 * several series share are formatted only once.
 */
export function registerObserved(
  library: typeof Library,
  registry: Registry,
  { name, help, type, series }: ObservedMetric,
  latest: () => Observed,
): void {
  const config = { name, help, registers: [registry] };
  const values = (): Library.MetricValue<string>[] =>
    series(latest()).map(({ labels, value }) => {
      const shared = { labels: noLabels, sharedLabels: labels, value };
      return shared;
    });
  if (type === 'gauge') {
    new (class extends library.Gauge {
      override async get() {
        return { ...(await super.get()), values: values() };
      }
    })(config);
  } else {
    new (class extends library.Counter {
      override async get() {
        return { ...(await super.get()), values: values() };
      }
    })(config);
  }
}
