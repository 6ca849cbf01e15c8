/** The parts of PromQL expressions that name metrics and labels of the driver. promtool checks the syntax. */

const metric = /\b(?:(?:loopcsi|process|nodejs)_\w+|up)\b/g;
const series = /_(?:bucket|count|sum)$/;
const histogram = /_(?:seconds|bytes)_(?:bucket|count|sum)$/;

/** The names of the metrics, without the suffixes of the series of a histogram. */
export function queriedMetrics(expr: string): readonly string[] {
  const names = [...expr.matchAll(metric)].map(([name]) => name);
  return names.map((name) => (histogram.test(name) ? name.replace(series, '') : name));
}

/** The labels in selectors, aggregations and matchings. */
export function queriedLabels(expr: string): readonly string[] {
  const selected = [...expr.matchAll(/(\w+) *(?:=~|!~|!=|=) *"/g)].map(([, label = '']) => label);
  const listed = [...expr.matchAll(/\b(?:by|without|on|ignoring|group_left) *\(([^)]*)\)/g)];
  const names = listed.flatMap(([, list = '']) => list.split(',').map((label) => label.trim()));
  // `le` is the label of the buckets of a histogram.
  return [...selected, ...names].filter((label) => label !== '' && label !== 'le');
}
