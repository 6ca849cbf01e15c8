import type { RuleTest } from './promtool.ts';

/** The result of a scrape, which a timeline repeats once a minute. */
export interface TimelineEntry {
  /** The text of /metrics; undefined if the target did not answer. */
  readonly text: string | undefined;
  readonly minutes: number;
  /** The driver is not even a target, so there is no series `up`. */
  readonly isNoTarget?: boolean;
}

const target = 'job="loopcsi",instance="10.0.0.1:9736",node="worker-1"';

/** A label of the metric itself takes the place of the target's (honor_labels). */
function withTarget(labels: string | undefined): string {
  if (labels === undefined) return target;
  const own = /(?:^|,)node="/.test(labels) ? target.replace(/,node="[^"]*"/, '') : target;
  return `${labels},${own}`;
}

/** The series of a scrape with the labels of its target. Values that are not numbers are left out. */
export function seriesOf(text: string): ReadonlyMap<string, string> {
  const all = new Map<string, string>();
  for (const line of text.split('\n')) {
    const [, name, labels, value = ''] = /^([a-zA-Z_]\w*)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
    if (name === undefined || !Number.isFinite(Number(value))) continue;
    all.set(`${name}{${withTarget(labels)}}`, value);
  }
  return all;
}

/**
 * The series of a timeline in promtool's notation. A series that is missing in a scrape becomes stale, as in Prometheus.
 * `isNeeded` limits them to some names.
 */
export function inputSeries(
  timeline: readonly TimelineEntry[],
  isNeeded: (name: string) => boolean,
): RuleTest['input_series'] {
  const scrapes = timeline.map(({ text = '', minutes, isNoTarget = false }, i) => {
    const series = new Map(seriesOf(text));
    if (!isNoTarget) series.set(`up{${target}}`, timeline[i]?.text === undefined ? '0' : '1');
    return { series, minutes };
  });
  const names = new Set(scrapes.flatMap(({ series }) => [...series.keys()]));
  return [...names]
    .filter((series) => isNeeded(series.slice(0, series.indexOf('{'))))
    .map((series) => ({
      series,
      values: scrapes
        .map(({ series: one, minutes }) => {
          const value = one.get(series);
          const rest = minutes - 1;
          if (value !== undefined) return rest === 0 ? value : `${value}x${rest}`;
          return rest === 0 ? 'stale' : `stale _x${rest}`;
        })
        .join(' '),
    }));
}

/** Minutes of the whole timeline. */
export function durationOf(timeline: readonly TimelineEntry[]): number {
  return timeline.reduce((sum, { minutes }) => sum + minutes, 0);
}
