/** Runs csi-sanity against the built driver, and compares its results with docs/csi-sanity.md. */
import { mkdtemp, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import * as v from 'valibot';
import { csiSanityProgram } from '../helpers/csi-sanity.ts';
import { startDriver } from '../helpers/driver.ts';
import { clientAt, makeLab, untilAllReady } from '../helpers/lab.ts';
import { makePoolFs, type PoolFs, removeAll } from '../helpers/scratch-pool.ts';
import { scaledMs } from '../helpers/slowness.ts';

/** The kinds of volumes that csi-sanity asks for: the driver's default filesystem, or raw block. */
export const kinds = ['ext4', 'xfs', 'btrfs', 'block'] as const;
type Kind = (typeof kinds)[number];

const root = join(import.meta.dirname, '..', '..', '..');

/** Reasons that specs are skipped for only through a controller (src/controller/offered.ts). */
export const reasonsOfController = ['ControllerListVolumeHealth not supported'] as const;

/** Reasons of skipped specs, over all runs of this process. */
export const skipped = new Set<string>();

/**
 * Specs of csi-sanity 5.6.0 that fail although the driver is right (docs/csi-sanity.md says why), each with a function that
 * recognizes the expected failure. They run like all others, and a spec that passes must be removed from this list.
 */
export const disagreements = new Map<string, (message: string) => boolean>([
  [
    'CreateSnapshot [Controller Server] should succeed when creating a snapshot with accessibility requirements',
    differsInCacheOnly,
  ],
]);

/** Whether two printed Go structures differ only in addresses and in protobuf's size cache. */
function differsInCacheOnly(message: string): boolean {
  const text = message.replaceAll(/0x[0-9a-f]+/g, '').replaceAll(/sizeCache: \d+/g, '');
  const [is, expected] = text.split('to equal').map((part) => part.replaceAll(/^Expected|\s/g, ''));
  return is !== undefined && is.includes('csi.Topology') && is === expected;
}

const reportShape = v.array(
  v.object({
    SpecReports: v.array(
      v.object({
        State: v.string(),
        ContainerHierarchyTexts: v.nullable(v.array(v.string())),
        LeafNodeType: v.string(),
        LeafNodeText: v.string(),
        Failure: v.optional(v.object({ Message: v.string() })),
      }),
    ),
  }),
);

export async function runSanity(
  t: ExecutionContext,
  run: {
    readonly poolFs: PoolFs;
    readonly kind: Kind;
    readonly flagsIn?: (directory: string) => readonly string[];
    /** That many nodes, and the calls of the Controller service go through `loopcsi controller`. */
    readonly nodesOfController?: number;
  },
): Promise<void> {
  const { poolFs, kind, nodesOfController } = run;
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-sanity-'));
  t.teardown(async () => {
    const left = await removeAll(directory);
    if (left.length > 0) throw new Error(`left over: ${left.join(', ')}`);
  });
  await makePoolFs(directory, { poolFs, poolFsBytes: 16n * 1024n ** 3n });
  const flags = [
    ...(kind === 'block' ? [] : [`--default-fstype=${kind}`]),
    ...(run.flagsIn?.(directory) ?? []),
  ];
  const started =
    nodesOfController === undefined
      ? await startAlone(t, directory, flags)
      : await startBehindController(t, { directory, nodeCount: nodesOfController, flags });
  const report = join(directory, 'report.json');
  const result = await execa(
    csiSanityProgram(),
    [
      ...started.endpoints,
      `--csi.stagingdir=${join(directory, 'staging')}`,
      `--csi.mountdir=${join(directory, 'mount')}`,
      ...(kind === 'block' ? ['--csi.testvolumeaccesstype=block'] : []),
      `--ginkgo.json-report=${report}`,
      '--ginkgo.no-color',
    ],
    { reject: false, all: true, timeout: scaledMs(10 * 60_000) },
  );
  const [suite] = v.parse(reportShape, JSON.parse(await readFile(report, 'utf8')));
  // The report also has nodes that run before and after the whole suite.
  const specs = (suite?.SpecReports ?? []).filter(({ LeafNodeType }) => LeafNodeType === 'It');
  t.log(summaryOf(specs));
  // Through a controller of several nodes, a snapshot has no topology to compare.
  const expected = nodesOfController === undefined ? [...disagreements.keys()] : [];
  const isAsListed = requireFailures(t, specs, expected);
  if (!isAsListed) t.log(result.all.slice(-20_000), await started.log());
  t.is(result.exitCode, expected.length === 0 ? 0 : 1, `csi-sanity ${poolFs} ${kind}`);
  await requireReasons(t, specs);
}

/** What csi-sanity talks to. It ends with the test. */
interface Started {
  /** The flags that name it. */
  readonly endpoints: readonly string[];
  log(): Promise<string>;
}

async function startAlone(
  t: ExecutionContext,
  directory: string,
  flags: readonly string[],
): Promise<Started> {
  const driver = await startDriver(directory, flags);
  t.teardown(() => driver.stop());
  return {
    endpoints: [`--csi.endpoint=unix://${driver.endpoint}`],
    log: () => driver.log(),
  };
}

/** csi-sanity stages and publishes volumes on the first node. */
async function startBehindController(
  t: ExecutionContext,
  {
    directory,
    ...options
  }: {
    readonly directory: string;
    readonly nodeCount: number;
    readonly flags: readonly string[];
  },
): Promise<Started> {
  const { nodes, endpoint, controllers } = await makeLab(t, directory, options);
  await untilAllReady(clientAt(t, 'csi.v1.Controller', endpoint));
  const [first] = nodes;
  return {
    endpoints: [
      `--csi.endpoint=unix://${first?.driver().endpoint ?? ''}`,
      `--csi.controllerendpoint=unix://${endpoint}`,
    ],
    log: async () => (await Promise.all(controllers.map((one) => one.log()))).join(''),
  };
}

type Spec = v.InferOutput<typeof reportShape>[number]['SpecReports'][number];

const nameOf = (spec: Spec): string =>
  [...(spec.ContainerHierarchyTexts ?? []), spec.LeafNodeText].join(' ');

const failedOf = (specs: readonly Spec[]): readonly Spec[] =>
  specs.filter(({ State }) => !['passed', 'skipped', 'pending'].includes(State));

const messageOf = (spec: Spec): string => spec.Failure?.Message ?? '';

const isListed = (spec: Spec): boolean =>
  disagreements.get(nameOf(spec))?.(messageOf(spec)) ?? false;

/** The line that scripts/test-counts.ts parses. */
function summaryOf(specs: readonly Spec[]): string {
  const passed = specs.filter(({ State }) => State === 'passed').length;
  const failed = failedOf(specs);
  const listed = failed.filter(isListed).length;
  const skipped = specs.length - passed - failed.length;
  return `csi-sanity: ${passed} passed, ${failed.length - listed} failed, ${skipped} skipped, ${listed} failed as listed`;
}

/** Requires that exactly the listed specs fail, each with its expected failure. */
function requireFailures(
  t: ExecutionContext,
  specs: readonly Spec[],
  expected: readonly string[],
): boolean {
  const failed = failedOf(specs);
  let isAsListed = t.deepEqual(failed.map(nameOf), expected);
  for (const spec of failed) {
    isAsListed = t.true(isListed(spec), `${nameOf(spec)}: ${messageOf(spec)}`) && isAsListed;
  }
  return isAsListed;
}

/** Requires that docs/csi-sanity.md gives the reason of every skipped spec, with the message of the suite. */
async function requireReasons(t: ExecutionContext, specs: readonly Spec[]): Promise<void> {
  const documented = await documentedIn('Specs that do not run, and why');
  for (const spec of specs) {
    if (spec.State !== 'skipped' && spec.State !== 'pending') continue;
    const said = spec.Failure?.Message ?? '';
    const reason = said === '' ? spec.LeafNodeText : said;
    skipped.add(reason);
    t.true(documented.has(reason), `${nameOf(spec)}: '${reason}' is not in docs/csi-sanity.md`);
  }
}

/** First column of the table under that heading of docs/csi-sanity.md. */
export async function documentedIn(heading: string): Promise<ReadonlySet<string>> {
  const text = await readFile(join(root, 'docs', 'csi-sanity.md'), 'utf8');
  const [, section = ''] = text.split(`\n## ${heading}\n`);
  const [table = ''] = section.split('\n## ');
  return new Set([...table.matchAll(/^\| `([^`]+)` \|/gm)].map((match) => match[1] ?? ''));
}
