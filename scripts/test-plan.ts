interface TestFile {
  readonly path: string;
  readonly bytes: number;
}

/**
 * Divides test files into those that may run together and those in a folder `alone`. Those of a folder come with the largest first,
 * since they tend to take longest: a long file that starts last would run while nothing else is left.
 */
export function planFiles(folders: readonly (readonly TestFile[])[]): {
  readonly together: readonly string[];
  readonly alone: readonly string[];
} {
  const inOrder = folders.flatMap((files) => [...files].sort((a, b) => b.bytes - a.bytes));
  const paths = [...new Set(inOrder.map(({ path }) => path))];
  const isAlone = (path: string): boolean => path.split('/').includes('alone');
  return {
    together: paths.filter((path) => !isAlone(path)),
    alone: paths.filter(isAlone),
  };
}
