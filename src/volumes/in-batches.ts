/** Runs the jobs, `width` of them at a time. Fails with the first failure. */
export async function inBatches(
  jobs: readonly (() => Promise<void>)[],
  width: number,
): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let job = jobs[next++]; job !== undefined; job = jobs[next++]) await job();
  };
  await Promise.all(Array.from({ length: Math.min(width, jobs.length) }, worker));
}
