/** Where a kernel's modules come from, and which of them an initial ram disk needs, in which order. */

/**
 * Paths of the modules `wanted` and of all they depend on, each after those it depends on, as the text of `modules.dep` says. Names
 * that are not in it are built into the kernel, or no longer exist, and are left out.
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

/** As the kernel has it: no folder, no ending, underscores for hyphens. */
export function moduleName(path: string): string {
  return (path.split('/').at(-1) ?? '').replace(/\.ko(?:\.\w+)?$/, '').replaceAll('-', '_');
}

/** Of what `apt-cache depends` says of a kernel's package: the packages that hold other parts of the same kernel. */
export function kernelParts(depends: string, kernel: string): readonly string[] {
  const version = kernel.replace(/^linux-image-/, '');
  return depends.split('\n').flatMap((line) => {
    const name = /^\s*Depends: (linux-\S+)$/.exec(line)?.[1];
    return name?.endsWith(`-${version}`) === true && name !== kernel ? [name] : [];
  });
}
