import { faultPoints } from '../../src/volumes/engine/fault-points.ts';
import type { Sight } from './invariants.ts';
import type { Outcome } from './run-case.ts';

/** One line a fault point: how often the driver was killed there, and what came of it. */
export function asSummary(outcomes: readonly Outcome[]): string {
  const lines = faultPoints.flatMap((point) => {
    const here = outcomes.filter(({ moment }) => moment.point === point);
    if (here.length === 0) return [];
    const failed = here.filter(({ problems }) => problems.length > 0).length;
    return [`${point.padEnd(28)} ${String(here.length).padStart(4)} kills ${failed} failed`];
  });
  return lines.join('\n');
}

const words = {
  volumes: 'volumes',
  snapshots: 'snapshots',
  groups: 'groups',
  temporary: 'in tmp',
  halfCopies: 'half copies',
  trash: 'in trash',
  devices: 'devices',
  mounts: 'mounts',
} as const satisfies Record<keyof Sight, string>;

function sightText(sight: Sight): string {
  const parts = Object.entries(words).flatMap(([key, word]) => {
    // The keys are those of the table above.
    const count = sight[key as keyof Sight];
    return count === 0 ? [] : [`${count} ${word}`];
  });
  return parts.length === 0 ? 'nothing' : parts.join(', ');
}

/** The page docs/crash-matrix.md. */
export function asMarkdown(
  outcomes: readonly Outcome[],
  { isSample }: { readonly isSample: boolean },
): string {
  const failed = outcomes.filter(({ problems }) => problems.length > 0).length;
  const rows = outcomes.map(({ operation, ground, moment, answered, left, after, problems }) => {
    const point = moment.nth === 1 ? moment.point : `${moment.point}, time ${moment.nth}`;
    const verdict = problems.length === 0 ? 'as it must' : `FAILED: ${problems.join('; ')}`;
    const cells = [
      operation,
      ground,
      point,
      answered ? 'yes' : 'no',
      sightText(left),
      sightText(after),
      verdict,
    ];
    return `| ${cells.join(' | ')} |`;
  });
  return `# The crash matrix

Written by \`npm run test:crash${isSample ? ' -- --sample --write' : ''}\`, which takes the built driver as a process, real loop devices and real filesystems. Each
row: the operation is brought to the fault point, the driver is killed there with SIGKILL and started again. Looked at after
the kill, after the start and at the end, on the disk and in the kernel: records decode, images are whole and no larger than
their promise, filesystems pass their own checker, one read-write device an image, no device without a volume or a mount,
nothing frozen, nothing in \`trash/\` and, but for a restore's half copy that the repeated call goes on with, in \`tmp/\`. Then the
call is repeated and must give the answer that it gives without a kill, everything is deleted through the driver, and nothing
may be left: no file, record, device, mount or target. A fault point of the driver that no row passes fails the run.

\`npm run test:crash -- --sample\` kills at every fault point once and is part of CI; \`npm run test:crash\` at every moment
of every operation, some 450 of them.

${outcomes.length} kills, ${failed} failed.

| Operation | Pool | Killed at | Answered before | Left by the kill | After the start | Repeated, deleted |
|---|---|---|---|---|---|---|
${rows.join('\n')}
`;
}
