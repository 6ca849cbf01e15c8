/** The archive and the manifest of the kubectl plugin: krew itself is not run, but what it does with them is. */
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { arch } from 'node:process';
import test from 'ava';
import * as v from 'valibot';
import { parse } from 'yaml';
import { attempt, run } from '../../scripts/command.ts';
import { buildKrew, type KrewTarget } from '../../scripts/krew/build.ts';

/** The fields that krew's documentation of plugin manifests requires, and the optional ones. */
const manifestShape = v.strictObject({
  apiVersion: v.literal('krew.googlecontainertools.github.com/v1alpha2'),
  kind: v.literal('Plugin'),
  metadata: v.strictObject({ name: v.pipe(v.string(), v.regex(/^[a-z][a-z0-9-]*$/)) }),
  spec: v.strictObject({
    version: v.pipe(v.string(), v.regex(/^v\d+\.\d+\.\d+(?:-[\w.]+)?$/)),
    homepage: v.pipe(v.string(), v.url()),
    // krew cuts longer ones in its lists.
    shortDescription: v.pipe(v.string(), v.minLength(1), v.maxLength(50), v.regex(/[^.]$/)),
    description: v.pipe(v.string(), v.minLength(1)),
    caveats: v.string(),
    platforms: v.pipe(
      v.array(
        v.strictObject({
          selector: v.strictObject({
            matchLabels: v.strictObject({
              os: v.picklist(['linux', 'darwin', 'windows']),
              arch: v.optional(v.picklist(['amd64', 'arm64'])),
            }),
          }),
          uri: v.pipe(v.string(), v.url(), v.regex(/\.tar\.gz$/)),
          sha256: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
          bin: v.string(),
        }),
      ),
      v.minLength(1),
    ),
  }),
});

const own: KrewTarget = arch === 'arm64' ? 'linux-arm64' : 'linux-amd64';

test('krew gets a complete manifest, and the plugin runs from its archive without anything else', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-krew-test-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  await buildKrew('1.2.3', directory, [own, 'darwin']);
  const text = await readFile(join(directory, 'loopcsi.yaml'), 'utf8');
  const { metadata, spec } = v.parse(manifestShape, parse(text));
  t.is(spec.version, 'v1.2.3');
  t.is(spec.platforms.length, 2);
  for (const [i, { uri, sha256, bin, selector }] of spec.platforms.entries()) {
    const archive = join(directory, uri.slice(uri.lastIndexOf('/') + 1));
    const hash = createHash('sha256').update(await readFile(archive));
    t.is(hash.digest('hex'), sha256);
    // As krew does: unpack into a store, and link the program into a directory of the PATH.
    const store = join(directory, `store-${i}`);
    const onPath = join(directory, `bin-${i}`);
    for (const path of [store, onPath]) await mkdir(path);
    await run('tar', ['-xzf', archive, '-C', store]);
    await symlink(join(store, bin), join(onPath, `kubectl-${metadata.name}`));
    await symlink('/usr/bin/readlink', join(onPath, 'readlink'));
    const isWithNode = selector.matchLabels.os === 'linux';
    if (!isWithNode) await symlink(process.execPath, join(onPath, 'node'));
    const plugin = (...args: readonly string[]) =>
      attempt(join(onPath, 'kubectl-loopcsi'), args, { env: { PATH: onPath, LOOPCSI_NODE: '' } });
    const help = await plugin('--help');
    t.is(help.exitCode, 0, help.stderr);
    t.regex(help.stdout, /^Usage: kubectl loopcsi /);
    t.regex((await plugin('--version')).stdout, /^1\.2\.3$/m);
    t.regex((await plugin('nodes')).stderr, /kubectl is not on the PATH/);
    await writeFile(join(onPath, 'kubectl'), '#!/bin/sh\necho \'{"items": []}\'\n', {
      mode: 0o755,
    });
    const nodes = await plugin('nodes', '--output', 'yaml');
    t.is(nodes.stdout.trim(), '[]', nodes.stderr);
    const completion = await attempt(join(store, 'bin/kubectl_complete-loopcsi'), ['vol'], {
      env: { PATH: onPath, LOOPCSI_NODE: '' },
    });
    t.regex(completion.stdout, /^volumes\t/);
    t.truthy(await readFile(join(store, 'LICENSE'), 'utf8'));
  }
});
