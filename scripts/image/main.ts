/**
 * `npm run image` builds the driver's image with docker, buildah or podman. With `-- --load TARGET` it also loads the image into a
 * container runtime and prints the helm command that uses it. docs/kubernetes.md describes it.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { Command, Option } from 'commander';
import * as v from 'valibot';
import { attempt } from '../command.ts';
import {
  type BuilderName,
  builderNames,
  buildImage,
  chooseBuilder,
  saveImage,
} from './builders.ts';
import { Failure } from './programs.ts';
import { fullName, helmCommand, parseImageName } from './reference.ts';
import { loadArchive, otherNodes, requireTarget, type TargetName, targetNames } from './targets.ts';

const root = join(import.meta.dirname, '..', '..', '..');

interface Options {
  readonly with?: BuilderName;
  readonly load?: TargetName;
  readonly cluster?: string;
  readonly tag: string;
  readonly output?: string;
  readonly buildArg: readonly string[];
}

const say = (text: string): void => void process.stdout.write(`${text}\n`);

async function image(options: Options): Promise<void> {
  const version = await projectVersion();
  const image = parseImageName(options.tag, version);
  const name = fullName(image);
  if (options.load === undefined && options.cluster !== undefined) {
    throw new Failure(
      '--cluster names the cluster to load into: add --load kind or --load minikube',
    );
  }
  if (options.load !== undefined) await requireTarget(options.load, options.cluster);
  const builder = await chooseBuilder(options.with);
  await buildImage(builder, {
    name,
    context: root,
    arguments: [`VERSION=${version}`, `REVISION=${await revision()}`, ...options.buildArg],
  });
  say(`Built ${name} with ${builder}.`);
  const isThere = options.load === builder;
  if ((options.load !== undefined && !isThere) || options.output !== undefined) {
    await withArchive(options.output, async (archive) => {
      // podman refuses to overwrite an archive, and buildah appends to one.
      await rm(archive, { force: true });
      await saveImage(builder, name, archive);
      if (options.load !== undefined && !isThere) {
        await loadArchive(options.load, archive, options.cluster);
      }
    });
  }
  for (const line of report(options, name, helmCommand(image))) say(line);
}

function report(options: Options, name: string, helm: string): readonly string[] {
  const { load, output } = options;
  const written = output === undefined ? [] : [`Wrote it to ${resolve(output)}.`];
  if (load === undefined) {
    return [
      ...written,
      `To load it into a container runtime, add --load ${targetNames.join('|')}.`,
    ];
  }
  const loaded = `Loaded it into ${load}.`;
  if (load === 'docker') {
    const plugin = `To make a managed plugin of it: sh scripts/docker-plugin.sh loopcsi ${name}`;
    return [...written, loaded, plugin];
  }
  const others = otherNodes(load, output === undefined ? undefined : resolve(output));
  const more = others === undefined ? [] : [others];
  return [
    ...written,
    loaded,
    ...more,
    '',
    'To install or upgrade the chart with it:',
    '',
    `  ${helm}`,
  ];
}

/** Runs `work` with the path of the archive, which is kept only if the user named it. */
async function withArchive(
  output: string | undefined,
  work: (archive: string) => Promise<void>,
): Promise<void> {
  if (output !== undefined) return work(resolve(output));
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-image-'));
  try {
    await work(join(directory, 'image.tar'));
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function projectVersion(): Promise<string> {
  const manifest: unknown = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
  return v.parse(v.object({ version: v.string() }), manifest).version;
}

/** The commit of the clone, or `unknown` without git or its history. */
async function revision(): Promise<string> {
  const asked = attempt('git', ['-C', root, 'rev-parse', 'HEAD']).catch(() => undefined);
  const found = await asked;
  return found?.exitCode === 0 ? found.stdout.trim() : 'unknown';
}

const command = new Command('npm run image --')
  .description("Builds the driver's image, and loads it into a container runtime.")
  .addOption(
    new Option('--with <program>', 'program that builds it; default: the first that works').choices(
      builderNames,
    ),
  )
  .addOption(
    new Option('--load <target>', 'container runtime or cluster to load it into').choices(
      targetNames,
    ),
  )
  .option('--cluster <name>', 'cluster of kind or profile of minikube')
  .option('--tag <name>', '[REGISTRY/]REPOSITORY[:TAG]; default tag: the version', 'loopcsi')
  .option('--output <file>', 'also write it to this file, as a docker-archive')
  .option(
    '--build-arg <key=value>',
    'build argument of the Dockerfile, such as NODE_IMAGE; can be repeated',
    (value: string, before: readonly string[]) => [...before, value],
    [],
  )
  .action(image);

try {
  await command.parseAsync();
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  process.stderr.write(`image: ${error.message}\n`);
  process.exitCode = 1;
}
