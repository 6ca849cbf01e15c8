/** One look at the driver and its pool. */
export interface Sample {
  readonly minute: number;
  /** Calls and writes that were answered with success, since the start. */
  readonly operations: number;
  readonly verifiedMiB: number;
  readonly errors: number;
  readonly volumes: number;
  readonly snapshots: number;
  readonly devices: number;
  readonly mounts: number;
  readonly residentMiB: number;
  readonly descriptors: number;
}

const columns = [
  'minute',
  'operations',
  'verifiedMiB',
  'errors',
  'volumes',
  'snapshots',
  'devices',
  'mounts',
  'residentMiB',
  'descriptors',
] as const satisfies readonly (keyof Sample)[];

/** The page docs/soak.md. */
export function reportOf(run: {
  readonly seed: number;
  readonly workers: number;
  readonly minutes: number;
  readonly samples: readonly Sample[];
  readonly problems: readonly string[];
}): string {
  const { seed, workers, minutes, samples, problems } = run;
  const rows = samples.map((sample) => `| ${columns.map((key) => sample[key]).join(' | ')} |`);
  const found = problems.length === 0 ? 'none' : problems.map((one) => `\n- ${one}`).join('');
  return `# Soak

Written by \`npm run test:soak -- ${minutes} --write\`: ${workers} workers make, stage, write with fsync, read back and compare,
grow, cut, unstage and delete ext4, xfs, btrfs and raw block volumes at random (seed ${seed}) through the CSI socket of the
driver as it is shipped, on an XFS pool. At the end every text that was synced is compared once more, everything is deleted
through the driver, and disk and kernel are searched for what is left. The last row is after that.

| ${columns.join(' | ')} |
|${columns.map(() => '---|').join('')}
${rows.join('\n')}

Errors, bytes that differ, and what was left: ${found}
`;
}
