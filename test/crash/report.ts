import { faultPoints } from '../../src/volumes/engine/fault-points.ts';
import type { PoolCounts } from './invariants.ts';
import type { Outcome } from './run-case.ts';

/** One line per fault point: how often the driver was killed there, and how many of these cases failed. */
export function asSummary(outcomes: readonly Outcome[]): string {
  const lines = faultPoints.flatMap((point) => {
    const here = outcomes.filter(({ moment }) => moment.point === point);
    if (here.length === 0) return [];
    const failed = here.filter(({ problems }) => problems.length > 0).length;
    return [`${point.padEnd(28)} ${String(here.length).padStart(4)} kills ${failed} failed`];
  });
  return lines.join('\n');
}

const labels = {
  volumes: 'volumes',
  snapshots: 'snapshots',
  groups: 'groups',
  temporary: 'in tmp',
  unfinishedCopies: 'unfinished copies',
  trash: 'in trash',
  devices: 'devices',
  mounts: 'mounts',
} as const satisfies Record<keyof PoolCounts, string>;

function countsText(sight: PoolCounts): string {
  const parts = Object.entries(labels).flatMap(([key, label]) => {
    // The keys are the columns of the table above.
    const count = sight[key as keyof PoolCounts];
    return count === 0 ? [] : [`${count} ${label}`];
  });
  return parts.length === 0 ? 'nothing' : parts.join(', ');
}

/** Every kill as a row of a Markdown table. */
export function asMarkdown(outcomes: readonly Outcome[]): string {
  const failed = outcomes.filter(({ problems }) => problems.length > 0).length;
  const rows = outcomes.map(({ operation, poolFs, moment, answered, left, after, problems }) => {
    const point = moment.nth === 1 ? moment.point : `${moment.point}, time ${moment.nth}`;
    const verdict = problems.length === 0 ? 'as expected' : `FAILED: ${problems.join('; ')}`;
    const cells = [
      operation,
      poolFs,
      point,
      answered ? 'yes' : 'no',
      countsText(left),
      countsText(after),
      verdict,
    ];
    return `| ${cells.join(' | ')} |`;
  });
  return `# Kills at every step

${outcomes.length} kills, ${failed} failed. docs/crash-safety.md describes the checks.

| Operation | Pool | Killed at | Answered before | Left by the kill | After the start | Repeated, deleted |
|---|---|---|---|---|---|---|
${rows.join('\n')}
`;
}
