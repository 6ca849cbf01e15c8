/** The state of the driver and its pool at one time. */
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

/** The run as Markdown. */
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

${minutes} minutes, ${workers} workers, seed ${seed}. The last row was taken after everything had been deleted.

| ${columns.join(' | ')} |
|${columns.map(() => '---|').join('')}
${rows.join('\n')}

Errors, different bytes, and leftovers: ${found}
`;
}
