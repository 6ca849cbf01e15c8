import { mkdtemp, readFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import * as v from 'valibot';
import { startDriver } from '../helpers/driver.ts';
import { makeGround, type PoolGround, removeAll } from '../helpers/ground.ts';
import { onNode } from '../helpers/on-node.ts';

/** The kinds of volumes that csi-sanity asks for: the driver's default filesystem, or raw block. */
const kinds = ['ext4', 'xfs', 'btrfs', 'block'] as const;
type Kind = (typeof kinds)[number];

/** What the pool stands on: ext4 (the machine's own), and the two that can share blocks. */
const grounds = ['directory', 'xfs', 'btrfs'] as const satisfies readonly PoolGround[];

const root = join(import.meta.dirname, '..', '..', '..');

/** Reasons that were really met, over all runs. */
const skipped = new Set<string>();

const reportShape = v.array(
  v.object({
    SpecReports: v.array(
      v.object({
        State: v.string(),
        ContainerHierarchyTexts: v.nullable(v.array(v.string())),
        LeafNodeText: v.string(),
        Failure: v.optional(v.object({ Message: v.string() })),
      }),
    ),
  }),
);

/** Where `scripts/bootstrap test` puts it. */
function sanityProgram(): string {
  const { LOOPCSI_CACHE, XDG_CACHE_HOME } = process.env;
  const cache = LOOPCSI_CACHE ?? join(XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'loopcsi');
  return join(cache, 'bin', 'csi-sanity');
}

async function runSanity(
  t: ExecutionContext,
  run: {
    readonly ground: PoolGround;
    readonly kind: Kind;
    readonly flagsIn?: (directory: string) => readonly string[];
  },
): Promise<void> {
  const { ground, kind, flagsIn } = run;
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-sanity-'));
  t.teardown(async () => {
    const left = await removeAll(directory);
    if (left.length > 0) throw new Error(`left over: ${left.join(', ')}`);
  });
  await makeGround(directory, { ground, groundBytes: 16n * 1024n ** 3n });
  const driver = await startDriver(directory, [
    ...(kind === 'block' ? [] : [`--default-fstype=${kind}`]),
    ...(flagsIn?.(directory) ?? []),
  ]);
  t.teardown(() => driver.stop());
  const report = join(directory, 'report.json');
  const result = await execa(
    sanityProgram(),
    [
      `--csi.endpoint=unix://${driver.endpoint}`,
      `--csi.stagingdir=${join(directory, 'staging')}`,
      `--csi.mountdir=${join(directory, 'mount')}`,
      ...(kind === 'block' ? ['--csi.testvolumeaccesstype=block'] : []),
      `--ginkgo.json-report=${report}`,
      '--ginkgo.no-color',
    ],
    { reject: false, all: true, timeout: 10 * 60_000 },
  );
  const closing = result.all.split('\n').find((line) => / Passed \| .* Failed/.test(line));
  t.log(closing ?? 'csi-sanity gave no summary');
  if (result.exitCode !== 0) t.log(result.all.slice(-20_000), await driver.log());
  t.is(result.exitCode, 0, `csi-sanity ${ground} ${kind}`);
  await requireReasons(t, report);
}

/** Every spec that did not run must have its reason in docs/csi-sanity.md, by the words of the suite. */
async function requireReasons(t: ExecutionContext, report: string): Promise<void> {
  const [suite] = v.parse(reportShape, JSON.parse(await readFile(report, 'utf8')));
  const documented = await documentedReasons();
  for (const spec of suite?.SpecReports ?? []) {
    if (spec.State !== 'skipped' && spec.State !== 'pending') continue;
    const said = spec.Failure?.Message ?? '';
    const words = said === '' ? spec.LeafNodeText : said;
    skipped.add(words);
    const name = [...(spec.ContainerHierarchyTexts ?? []), spec.LeafNodeText].join(' / ');
    t.true(documented.has(words), `${name}: '${words}' is not in docs/csi-sanity.md`);
  }
}

/** First column of the table of skipped specs. */
async function documentedReasons(): Promise<ReadonlySet<string>> {
  const text = await readFile(join(root, 'docs', 'csi-sanity.md'), 'utf8');
  return new Set([...text.matchAll(/^\| `([^`]+)` \|/gm)].map((match) => match[1] ?? ''));
}

for (const ground of grounds) {
  for (const kind of kinds) {
    onNode(
      `csi-sanity: ${kind} volumes on ${ground === 'directory' ? 'the machine’s own filesystem' : `an ${ground} pool`}`,
      (t) => runSanity(t, { ground, kind }),
    );
  }
}

// Options that change what is offered, or which paths are taken. ext4 grows in use only with CAP_SYS_RESOURCE: so xfs.
const variants = [
  {
    name: '--expansion=node',
    kind: 'xfs',
    flagsIn: () => ['--expansion=node'],
  },
  {
    name: '--kubelet-dir',
    kind: 'ext4',
    flagsIn: (directory: string) => [`--kubelet-dir=${directory}`],
  },
  {
    name: '--without-staging',
    kind: 'ext4',
    flagsIn: (directory: string) => ['--without-staging', `--mount-dir=${join(directory, 'own')}`],
  },
] as const;
for (const { name, kind, flagsIn } of variants) {
  onNode(`csi-sanity: ${kind} volumes with ${name}`, (t) =>
    runSanity(t, { ground: 'directory', kind, flagsIn }),
  );
}

onNode('csi-sanity: no reason stands in the docs for a spec that runs', async (t) => {
  const stale = [...(await documentedReasons())].filter((words) => !skipped.has(words));
  t.deepEqual(stale, []);
});
