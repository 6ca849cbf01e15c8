/** The packages of a kernel's modules, and the modules that an initial ram disk needs, in their order. */

/**
 * Paths of the modules `wanted` and of all their dependencies, each after its dependencies, according to the text of `modules.dep`.
 * Names that are not in it are built into the kernel, or no longer exist, and are ignored.
 */
export function loadOrder(modulesDep: string, wanted: readonly string[]): readonly string[] {
  const rows = new Map<string, readonly string[]>();
  for (const line of modulesDep.split('\n')) {
    const [path = '', dependencies = ''] = line.split(':');
    // A module's dependencies are listed with the one to load first at the end.
    const before = dependencies.split(' ').filter((word) => word !== '');
    rows.set(moduleName(path), [...before.reverse(), path]);
  }
  return [...new Set(wanted.flatMap((name) => rows.get(moduleName(name)) ?? []))];
}

/** The kernel's name of a module: no directory, no suffix, underscores instead of hyphens. */
export function moduleName(path: string): string {
  return (path.split('/').at(-1) ?? '').replace(/\.ko(?:\.\w+)?$/, '').replaceAll('-', '_');
}

/** The packages with other parts of the same kernel, from the output of `apt-cache depends` for the kernel's package. */
export function kernelParts(depends: string, kernel: string): readonly string[] {
  const version = kernel.replace(/^linux-image-/, '');
  return depends.split('\n').flatMap((line) => {
    const name = /^\s*Depends: (linux-\S+)$/.exec(line)?.[1];
    return name?.endsWith(`-${version}`) === true && name !== kernel ? [name] : [];
  });
}
