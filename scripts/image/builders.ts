import { type Argv, Failure, findDefect, runVisibly } from './programs.ts';

export const builderNames = ['docker', 'buildah', 'podman'] as const;
export type BuilderName = (typeof builderNames)[number];

export interface Build {
  readonly name: string;
  /** The directory of the Dockerfile. */
  readonly context: string;
  /** KEY=VALUE. */
  readonly arguments: readonly string[];
}

interface Builder {
  /** Ends with 0 if images can be built. */
  readonly check: Argv;
  readonly build: (build: Build) => Argv;
  /** Writes a docker-archive, which every runtime can load. */
  readonly save: (name: string, archive: string) => Argv;
}

const tagged = (build: Build): string[] => [
  '--tag',
  build.name,
  ...build.arguments.flatMap((argument) => ['--build-arg', argument]),
  build.context,
];

const builders: Readonly<Record<BuilderName, Builder>> = {
  docker: {
    // Also asks the daemon.
    check: ['docker', 'version'],
    build: (build) => ['docker', 'build', ...tagged(build)],
    save: (name, archive) => ['docker', 'save', '--output', archive, name],
  },
  buildah: {
    check: ['buildah', '--version'],
    // By default buildah caches no layers.
    build: (build) => ['buildah', 'build', '--layers', ...tagged(build)],
    save: (name, archive) => [
      'buildah',
      'push',
      '--quiet',
      name,
      `docker-archive:${archive}:${name}`,
    ],
  },
  podman: {
    check: ['podman', '--version'],
    build: (build) => ['podman', 'build', ...tagged(build)],
    save: (name, archive) => [
      'podman',
      'save',
      '--format',
      'docker-archive',
      '--output',
      archive,
      name,
    ],
  },
};

/** Returns the chosen builder, or the first one that works. Throws a Failure if there is none. */
export async function chooseBuilder(chosen: BuilderName | undefined): Promise<BuilderName> {
  const defects: string[] = [];
  for (const name of chosen === undefined ? builderNames : [chosen]) {
    const defect = await findDefect(builders[name].check);
    if (defect === undefined) return name;
    defects.push(`${name}: ${defect}`);
  }
  throw new Failure(
    `no program to build the image with (${defects.join('; ')}): start Docker, or install buildah or podman ` +
      '(Debian and Ubuntu: apt-get install buildah), and run this again',
  );
}

export async function buildImage(builder: BuilderName, build: Build): Promise<void> {
  await runVisibly(
    builders[builder].build(build),
    'see its output above. If a base image cannot be pulled, name another with --build-arg NODE_IMAGE=… or RUNTIME_IMAGE=…; ' +
      'if packages cannot be downloaded, give the build network access or a proxy',
  );
}

export async function saveImage(
  builder: BuilderName,
  name: string,
  archive: string,
): Promise<void> {
  await runVisibly(
    builders[builder].save(name, archive),
    'see its output above; the image itself was built',
  );
}
